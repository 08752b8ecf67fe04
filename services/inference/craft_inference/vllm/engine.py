"""Sampling and letter scores by vLLM, over HTTP through the model server.

Prompts are rendered and counted here, by the model's own tokenizer, and sent as token ids: both engines see the very
same prompt. All samples of a prompt are one request, so it is prefilled once (and the shots once for all, by vLLM's
prefix cache). Letters are read from `logprob_token_ids` at the first new token: the log-probabilities of exactly these
tokens over the whole vocabulary, before temperature, for up to 26 letters in one request; unlike prompt
log-probabilities they do not depend on what the prefix cache holds (shared/decisions/0005).
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from craft.contracts.services.model_server import ServedBase, ServedTokens
from craft.contracts.stages.rows import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from craft.errors import Internal
from craft.infra.models.folders import served_path
from craft.infra.storage.served_adapters import STAGE_ADAPTER, ServedAdapters
from craft_inference.engine import (
    EngineDescription,
    LetterPrompt,
    Letters,
    LetterScores,
    OnProgress,
    Prompt,
    Replies,
    Reply,
    Sampling,
    Usage,
    no_progress,
)
from craft_inference.prompting.chat import Chat
from craft_inference.vllm.client import Question, VllmSession

_NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""What a request leaves out, a server of the team's own may fill in from the model's generation_config.json."""
RowT = TypeVar("RowT")
Held = Callable[[ServedBase], AbstractAsyncContextManager[VllmSession]]


@dataclass(frozen=True, slots=True)
class Served:
    """How this engine uses its server. `seeds`: send a seed in each request."""

    base: ServedBase
    prompts_in_flight: int
    seeds: bool


class VllmEngine:
    """One base model on the model server. Nothing is loaded in this process but the tokenizer."""

    def __init__(
        self,
        chat: Chat,
        held: Held,
        adapters: ServedAdapters,
        served: Served,
        *,
        check_adapter: Callable[[Path], None] = lambda _: None,
    ) -> None:
        """`check_adapter` raises ModelRejected for an adapter of another base model, which vLLM would not notice."""
        self._check_adapter = check_adapter
        self._chat = chat
        self._held = held
        self._adapters = adapters
        self._served = served
        self._published: tuple[Path, str] | None = None
        self._version = "unknown"

    def describe(self) -> EngineDescription:
        """See `Engine.describe`. The version is known from the first call on."""
        return EngineDescription(
            name="vllm",
            version=self._version,
            dtype=self._served.base.dtype,
            device="vllm server",
            attention="prefix-cached (letters by logprob_token_ids of a generated token)",
            context_length=self._chat.context_length,
        )

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Replies:
        """See `Engine.generate`. With seeds the same prompts give the same replies, up to roundings of the batch."""
        encoded = self._chat.encode(prompts, new_tokens=sampling.max_new_tokens)
        greedy = sampling.temperature == 0.0
        samples = 1 if greedy else sampling.samples
        common = {
            "n": samples,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop_token_ids": list(self._chat.end_tokens),
            **_NEUTRAL,
        }
        questions = [
            Question(prompt.id, {"prompt": ids, **common, **self._seed(prompt, sampling)})
            for prompt, ids in zip(prompts, encoded, strict=True)
        ]

        def reply(question: Question, body: Any) -> tuple[Reply, int]:
            texts = [choice["text"] for choice in sorted(body["choices"], key=lambda choice: choice["index"])]
            texts = texts * sampling.samples if greedy else texts
            return Reply(question.id, tuple(texts)), int(body["usage"]["completion_tokens"])

        rows, usage = self._ask(questions, reply, adapter, on_progress)
        return Replies(tuple(rows), usage)

    def letters(
        self,
        prompts: Sequence[LetterPrompt],
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Letters:
        """See `Engine.letters`."""
        encoded = self._chat.encode(prompts, new_tokens=1)
        tokens = self._chat.letter_tokens(prompts)
        questions = [
            Question(
                prompt.id,
                {
                    "prompt": ids,
                    "max_tokens": 1,
                    "temperature": 0.0,
                    **_NEUTRAL,
                    "logprobs": 1,
                    "logprob_token_ids": letters,
                    "return_tokens_as_token_ids": True,
                },
            )
            for prompt, ids, letters in zip(prompts, encoded, tokens, strict=True)
        ]

        def scores(question: Question, body: Any) -> tuple[LetterScores, int]:
            found = body["choices"][0]["logprobs"]["top_logprobs"][0]
            wanted = [f"token_id:{token}" for token in question.body["logprob_token_ids"]]
            if missing := [name for name in wanted if name not in found]:
                raise Internal(f"vLLM gave no log-probability for {', '.join(missing)}.")
            return LetterScores(question.id, tuple(found[name] for name in wanted)), 0

        rows, usage = self._ask(questions, scores, adapter, on_progress)
        return Letters(tuple(rows), usage)

    def _ask(
        self,
        questions: Sequence[Question],
        read: Callable[[Question, Any], tuple[RowT, int]],
        adapter: Path | None,
        on_progress: OnProgress,
    ) -> tuple[list[RowT], Usage]:
        """Every question's row, in their order; `read` also gives the tokens that were generated."""
        if not questions:
            return [], Usage()
        base = self._served.base.model_copy(update={"adapters": adapter is not None})
        bodies, usage = asyncio.run(self._answers(base, questions, self._model_name(adapter), on_progress))
        rows = [read(question, body) for question, body in zip(questions, bodies, strict=True)]
        return [row for row, _ in rows], replace(usage, generated_tokens=sum(generated for _, generated in rows))

    async def _answers(
        self, base: ServedBase, questions: Sequence[Question], model: str, on_progress: OnProgress
    ) -> tuple[list[Any], Usage]:
        async with self._held(base) as session:
            self._version = session.version
            before = await session.tokens()
            # From here on: loading a model is no part of a call's speed.
            started = monotonic()
            bodies = await self._in_parallel(session, questions, model, on_progress)
            seconds = monotonic() - started
            after = await session.tokens()
        prompt_tokens = sum(len(question.body["prompt"]) for question in questions)
        return bodies, Usage(prompt_tokens, _ran(before, after) or prompt_tokens, 0, seconds)

    async def _in_parallel(
        self, session: VllmSession, questions: Sequence[Question], model: str, on_progress: OnProgress
    ) -> list[Any]:
        """All answers, with so many requests under way that the server never waits, and no more."""
        bodies: list[Any] = [None] * len(questions)
        waiting = iter(enumerate(questions))
        done = 0

        async def work() -> None:
            nonlocal done
            for number, question in waiting:
                bodies[number] = await session.complete(question, model)
                done += 1
                on_progress(done, len(questions))

        workers = [asyncio.create_task(work()) for _ in range(min(self._served.prompts_in_flight, len(questions)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return bodies

    def _model_name(self, adapter: Path | None) -> str:
        """What to ask for: the base model, or the adapter, published where the server finds it."""
        if adapter is None:
            return served_path(self._served.base.model)
        if self._published is None or self._published[0] != adapter:
            self._check_adapter(adapter)
            if self._published is not None:
                self._adapters.withdraw(self._published[1])
            self._published = (adapter, STAGE_ADAPTER + _digest(adapter))
        name = self._published[1]
        # Each time: another process may have used the same adapter meanwhile, and taken it out.
        self._adapters.publish(name, adapter, base_model=served_path(self._served.base.model))
        return name

    def _seed(self, prompt: Prompt, sampling: Sampling) -> dict[str, int]:
        if not self._served.seeds or sampling.temperature == 0.0:
            return {}
        digest = hashlib.sha256(f"{sampling.seed} {prompt.id}".encode()).digest()
        return {"seed": int.from_bytes(digest[:4], "big") >> 1}


def _ran(before: ServedTokens | None, after: ServedTokens | None) -> int:
    """Prompt tokens that were run and not found in the cache; 0 where that is not known."""
    if before is None or after is None:
        return 0
    # A server that was started again in between has counted from nothing.
    return max(0, (after.prompt - after.cached) - (before.prompt - before.cached))


def _digest(adapter: Path) -> str:
    """Of the adapter's bytes: a name must never come to mean other weights, for the server keeps what it loaded."""
    digest = hashlib.sha256()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        with suppress(FileNotFoundError):
            digest.update((adapter / name).read_bytes())
    return digest.hexdigest()[:40]
