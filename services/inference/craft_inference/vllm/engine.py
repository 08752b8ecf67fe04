"""Sampling and letter scores by vLLM, over HTTP through the model server.

This engine renders and counts prompts with the model's own tokenizer and sends token ids, so both engines see the very
same prompt. All samples of a prompt are one request, so vLLM prefills it once (and the shots once for all prompts, by
its prefix cache). Letters are read from `logprob_token_ids` at the first new token: the log-probabilities of exactly
these tokens over the whole vocabulary, before temperature, for up to 26 letters in one request. Unlike prompt
log-probabilities they do not depend on the content of the prefix cache (shared/decisions/0005).
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from craft.contracts.services.model_server import ServedBase, ServedTokens
from craft.contracts.stages.rows import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from craft.core.replies.reply import FinishReason
from craft.errors import Internal
from craft.infra.models.folders import served_path
from craft.infra.storage.served_adapters import STAGE_ADAPTER, ServedAdapters
from craft_inference.engine import (
    EngineDescription,
    LetterPrompt,
    Letters,
    LetterScores,
    LongPrompt,
    OnProgress,
    Prompt,
    Replies,
    Reply,
    Sampling,
    Usage,
    no_progress,
)
from craft_inference.prompting.chat import Chat
from craft_inference.vllm.client import CompletionRequest, VllmSession

_NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""Sent with each request: a server of the team's own would fill in missing fields from generation_config.json."""
RowT = TypeVar("RowT")
LeaseModel = Callable[[ServedBase], AbstractAsyncContextManager[VllmSession]]


@dataclass(frozen=True, slots=True)
class ServerUse:
    """The base model that this engine uses, and how it sends requests. `seeds`: each request carries a seed."""

    base: ServedBase
    prompts_in_flight: int
    seeds: bool


class VllmEngine:
    """One base model on the model server. This process loads only the tokenizer."""

    def __init__(
        self,
        chat: Chat,
        lease_model: LeaseModel,
        adapters: ServedAdapters,
        use: ServerUse,
        *,
        check_adapter: Callable[[Path], None] = lambda _: None,
    ) -> None:
        """`check_adapter` raises ModelRejected for an adapter of another base model, which vLLM would not notice."""
        self._check_adapter = check_adapter
        self._chat = chat
        self._lease_model = lease_model
        self._adapters = adapters
        self._use = use
        self._published: tuple[Path, str] | None = None
        self._version = "unknown"

    def describe(self) -> EngineDescription:
        """See `Engine.describe`. The version is "unknown" before the first call."""
        return EngineDescription(
            name="vllm",
            version=self._version,
            dtype=self._use.base.dtype,
            device="vllm server",
            attention="prefix-cached (letters by logprob_token_ids of a generated token)",
            context_length=self._chat.context_length,
        )

    def too_long(self, prompts: Iterable[Prompt], *, new_tokens: int) -> list[LongPrompt]:
        """See `Engine.too_long`."""
        return self._chat.too_long(prompts, new_tokens=new_tokens)

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Replies:
        """See `Engine.generate`. With seeds the same prompts give the same replies, up to the batch's rounding."""
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
        requests = [
            CompletionRequest(prompt.id, {"prompt": ids, **common, **self._seed(prompt, sampling)})
            for prompt, ids in zip(prompts, encoded, strict=True)
        ]

        def reply(request: CompletionRequest, body: Any) -> tuple[Reply, int]:
            choices = sorted(body["choices"], key=lambda choice: choice["index"])
            choices = choices * sampling.samples if greedy else choices
            texts = tuple(choice["text"] for choice in choices)
            return Reply(request.id, texts, tuple(map(_finish, choices))), int(body["usage"]["completion_tokens"])

        rows, usage = self._run(requests, reply, adapter, on_progress)
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
        requests = [
            CompletionRequest(
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

        def scores(request: CompletionRequest, body: Any) -> tuple[LetterScores, int]:
            logprobs = body["choices"][0]["logprobs"]["top_logprobs"][0]
            wanted = [f"token_id:{token}" for token in request.body["logprob_token_ids"]]
            if missing := [name for name in wanted if name not in logprobs]:
                raise Internal(f"vLLM gave no log-probability for {', '.join(missing)}.")
            return LetterScores(request.id, tuple(logprobs[name] for name in wanted)), 0

        rows, usage = self._run(requests, scores, adapter, on_progress)
        return Letters(tuple(rows), usage)

    def _run(
        self,
        requests: Sequence[CompletionRequest],
        read: Callable[[CompletionRequest, Any], tuple[RowT, int]],
        adapter: Path | None,
        on_progress: OnProgress,
    ) -> tuple[list[RowT], Usage]:
        """One row for each request, in their order. `read` gives the row and the number of generated tokens."""
        if not requests:
            return [], Usage()
        base = self._use.base.model_copy(update={"adapters": adapter is not None})
        bodies, usage = asyncio.run(self._bodies(base, requests, self._model_name(adapter), on_progress))
        rows = [read(request, body) for request, body in zip(requests, bodies, strict=True)]
        return [row for row, _ in rows], replace(usage, generated_tokens=sum(generated for _, generated in rows))

    async def _bodies(
        self, base: ServedBase, requests: Sequence[CompletionRequest], model: str, on_progress: OnProgress
    ) -> tuple[list[Any], Usage]:
        async with self._lease_model(base) as session:
            self._version = session.version
            before = await session.tokens()
            # The clock starts here: the time to load a model does not count towards a call's speed.
            started = monotonic()
            bodies = await self._in_parallel(session, requests, model, on_progress)
            seconds = monotonic() - started
            after = await session.tokens()
        prompt_tokens = sum(len(request.body["prompt"]) for request in requests)
        return bodies, Usage(prompt_tokens, _prefilled(before, after) or prompt_tokens, 0, seconds)

    async def _in_parallel(
        self, session: VllmSession, requests: Sequence[CompletionRequest], model: str, on_progress: OnProgress
    ) -> list[Any]:
        """All responses. As many requests are in flight as the server needs to stay busy, and no more."""
        bodies: list[Any] = [None] * len(requests)
        waiting = iter(enumerate(requests))
        done = 0

        async def work() -> None:
            nonlocal done
            for number, request in waiting:
                bodies[number] = await session.complete(request, model)
                done += 1
                on_progress(done, len(requests))

        workers = [asyncio.create_task(work()) for _ in range(min(self._use.prompts_in_flight, len(requests)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return bodies

    def _model_name(self, adapter: Path | None) -> str:
        """The name to request: the base model's, or the adapter's, which is published where the server finds it."""
        if adapter is None:
            return served_path(self._use.base.model)
        if self._published is None or self._published[0] != adapter:
            self._check_adapter(adapter)
            if self._published is not None:
                self._adapters.withdraw(self._published[1])
            self._published = (adapter, STAGE_ADAPTER + _digest(adapter))
        name = self._published[1]
        # At each call: another process may have used the same adapter meanwhile and withdrawn it.
        self._adapters.publish(name, adapter, base_model=served_path(self._use.base.model))
        return name

    def _seed(self, prompt: Prompt, sampling: Sampling) -> dict[str, int]:
        if not self._use.seeds or sampling.temperature == 0.0:
            return {}
        digest = hashlib.sha256(f"{sampling.seed} {prompt.id}".encode()).digest()
        return {"seed": int.from_bytes(digest[:4], "big") >> 1}


def _finish(choice: Any) -> FinishReason:
    return FinishReason.LENGTH if choice.get("finish_reason") == "length" else FinishReason.STOP


def _prefilled(before: ServedTokens | None, after: ServedTokens | None) -> int:
    """The prompt tokens that ran because the cache did not have them; 0 where that is not known."""
    if before is None or after is None:
        return 0
    # A server that was restarted in between has counted from zero.
    return max(0, (after.prompt - after.cached) - (before.prompt - before.cached))


def _digest(adapter: Path) -> str:
    """The digest of the adapter's bytes. A name must always mean the same weights: the server keeps what it loaded."""
    digest = hashlib.sha256()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        with suppress(FileNotFoundError):
            digest.update((adapter / name).read_bytes())
    return digest.hexdigest()[:40]
