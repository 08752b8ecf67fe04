"""Sampling and letter scores by vLLM, over HTTP through the model server.

This engine renders and counts prompts with the model's own tokenizer and sends token ids, so both engines see the very
same prompt.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, closing, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from craft.contracts.services.model_server import ServedBase, ServedTokens
from craft.contracts.spec.chats import ChatFormat
from craft.contracts.stages.rows import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from craft.errors import ContextTooLong
from craft.infra.models.folders import served_path
from craft.infra.storage.served_adapters import STAGE_ADAPTER, ServedAdapters
from craft_inference.engine import (
    EngineDescription,
    LetterPrompt,
    Letters,
    OnProgress,
    Prompt,
    PromptLengths,
    Replies,
    Reply,
    Sampling,
    Usage,
    no_progress,
)
from craft_inference.prompting.chat import Chat
from craft_inference.vllm.attached_server import check_adapters, check_attached
from craft_inference.vllm.batches import Answered, BatchStream
from craft_inference.vllm.client import Check, CompletionRequest, VllmSession
from craft_inference.vllm.completions import (
    generated_tokens,
    letter_scores_of,
    letters_request,
    replies_of,
    replies_request,
)

_EXACT_ABOVE = 4096
"""A server has this context without being asked, so shorter prompts need no exact measure."""
LeaseModel = Callable[[ServedBase, int | None, Check], AbstractAsyncContextManager[VllmSession]]
"""Opens a session on a base model, with at least this context, and checks a server that is the team's own."""


@dataclass(frozen=True, slots=True)
class ServerUse:
    """The base model that this engine uses, and how it sends requests.

    `sequences_in_flight`: replies that are asked for and not there yet, at most; n samples are n of them. `seeds`: each
    request carries a seed. `longer_context` says how the server gets more context than it is allowed to have;
    `asks_context`: the server alone knows its context, so it is asked before prompts are measured. `adapters`: a server
    of the team's own must serve adapters too. `connections`: requests in flight at most, whatever their replies.
    """

    base: ServedBase
    sequences_in_flight: int
    seeds: bool
    longer_context: str = "Or raise CRAFT_INFERENCE__VLLM__MAX_MODEL_LEN."
    asks_context: bool = False
    adapters: bool = False
    connections: int = 4096


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
        write_neutral: Callable[[Path], bool] = lambda _: False,
    ) -> None:
        """`check_adapter` raises ModelRejected for an adapter of another base model, which vLLM would not notice.

        `write_neutral` writes an adapter that changes nothing into a folder; False if it cannot.
        """
        self._write_neutral = write_neutral
        self._check_adapter = check_adapter
        self._chat = chat
        self._lease_model = lease_model
        self._adapters = adapters
        self._use = use
        self._published: tuple[Path, str] | None = None
        self._version = "unknown"
        self._context_length: int | None = None

    def describe(self) -> EngineDescription:
        """See `Engine.describe`. The version is "unknown" before the first call."""
        return EngineDescription(
            name="vllm",
            version=self._version,
            dtype=self._use.base.dtype,
            device="vllm server",
            attention="prefix-cached (letters by logprob_token_ids of a generated token)",
            context_length=self._context_length or self._chat.context_length,
        )

    def use_form(self, form: ChatFormat) -> None:
        """See `Engine.use_form`. The server gets token ids, so it stays as it is."""
        self._chat = self._chat.in_form(form)

    def measure(self, prompts: Iterable[Prompt], *, new_tokens: int) -> PromptLengths:
        """See `Engine.measure`. It starts the server, if the server alone knows its context."""
        own = self._chat.context_length
        limit = min(own, asyncio.run(self._served_context())) if self._use.asks_context else own
        lengths = self._chat.measure(prompts, new_tokens=new_tokens, limit=limit, exact_above=min(limit, _EXACT_ABOVE))
        return replace(lengths, longer_context=self._use.longer_context if limit < self._chat.own_length else "")

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Replies:
        """See `Engine.generate`. With seeds the same prompts give the same replies, up to the batch's rounding."""
        one = [prompts] if prompts else []
        with closing(self.generate_each(one, sampling, needed=0, adapter=adapter, on_progress=on_progress)) as each:
            return next(each, Replies((), Usage()))

    def generate_each(
        self,
        batches: Iterable[Sequence[Prompt]],
        sampling: Sampling,
        *,
        needed: int,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Generator[Replies, None, None]:
        """See `Engine.generate_each`."""
        greedy = sampling.temperature == 0.0
        samples = 1 if greedy else sampling.samples
        requests = (self._replies_requests(prompts, sampling, samples) for prompts in batches)
        call = _Call(adapter, needed, self._in_flight(samples), on_progress)
        for answered, usage in self._answered(requests, call):
            times = sampling.samples if greedy else 1
            rows = [self._readable(replies_of(*pair, times=times)) for pair in answered.pairs]
            generated = sum(generated_tokens(response) for response in answered.responses)
            yield Replies(tuple(rows), replace(usage, generated_tokens=generated))

    def letters(
        self,
        prompts: Sequence[LetterPrompt],
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Letters:
        """See `Engine.letters`."""
        one = [prompts] if prompts else []
        with closing(self.letters_each(one, needed=0, adapter=adapter, on_progress=on_progress)) as each:
            return next(each, Letters((), Usage()))

    def letters_each(
        self,
        batches: Iterable[Sequence[LetterPrompt]],
        *,
        needed: int,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Generator[Letters, None, None]:
        """See `Engine.letters_each`."""
        requests = (self._letters_requests(prompts) for prompts in batches)
        call = _Call(adapter, needed, self._in_flight(1), on_progress)
        for answered, usage in self._answered(requests, call):
            yield Letters(tuple(letter_scores_of(*pair) for pair in answered.pairs), usage)

    def _replies_requests(self, prompts: Sequence[Prompt], sampling: Sampling, samples: int) -> list[CompletionRequest]:
        encoded = self._chat.encode(prompts, new_tokens=sampling.max_new_tokens)
        requests = [
            replies_request(
                prompt.id,
                ids,
                sampling,
                samples=samples,
                end_tokens=self._chat.end_tokens,
                seeded=self._use.seeds and sampling.temperature > 0.0,
            )
            for prompt, ids in zip(prompts, encoded, strict=True)
        ]
        if not self._chat.asks_for_control_tokens:
            return requests
        return [replace(request, body={**request.body, "skip_special_tokens": False}) for request in requests]

    def _readable(self, reply: Reply) -> Reply:
        """The reply without control tokens, but for the tags of a thought, which the guards look for."""
        if not self._chat.asks_for_control_tokens:
            return reply
        return replace(reply, texts=tuple(map(self._chat.text_of, reply.texts)))

    def _in_flight(self, samples: int) -> int:
        return max(1, min(self._use.sequences_in_flight // samples, self._use.connections))

    def _letters_requests(self, prompts: Sequence[LetterPrompt]) -> list[CompletionRequest]:
        encoded = self._chat.encode(prompts, new_tokens=1)
        tokens = self._chat.letter_tokens(prompts)
        return [
            letters_request(prompt.id, ids, letters)
            for prompt, ids, letters in zip(prompts, encoded, tokens, strict=True)
        ]

    def _answered(
        self, batches: Iterator[Sequence[CompletionRequest]], call: "_Call"
    ) -> Generator[tuple[Answered, Usage], None, None]:
        """The batches with their responses and costs, all under one lease. Without a batch no lease is taken."""
        first = next(batches, None)  # what it raises is raised before a server is started
        if first is None:
            return
        longest = max((len(one.body["prompt"]) + one.body["max_tokens"] for one in first), default=0)
        call = replace(call, needed=max(call.needed, longest))
        with asyncio.Runner() as runner:
            answered = self._under_lease(chain([first], batches), call)
            try:
                # Between two steps no request is sent and no response read; those under way go on at the server.
                while (step := runner.run(_next(answered))) is not None:
                    yield step
            finally:
                runner.run(_close(answered))

    async def _under_lease(
        self, batches: Iterator[Sequence[CompletionRequest]], call: "_Call"
    ) -> AsyncGenerator[tuple[Answered, Usage], None]:
        base = self._use.base.model_copy(update={"adapters": call.adapter is not None})
        model = self._model_name(call.adapter)
        async with self._lease_model(base, call.needed, self._check_attached) as session:
            self._note(session)
            if session.context_length < call.needed:
                raise ContextTooLong(
                    f"The longest prompt needs a context of {call.needed:,} tokens with its reply, and the server has "
                    f"{session.context_length:,}.",
                    hint=f"Shorten the prompts or ask for fewer new tokens. {self._use.longer_context}",
                    param="messages",
                )
            cost = _CostMeter(session, await session.tokens())
            stream = BatchStream(
                batches,
                lambda request: session.complete(request, model),
                in_flight=call.in_flight,
                on_answer=call.on_progress,
            )
            async with aclosing(stream.answered()) as each:
                async for answered in each:
                    yield answered, await cost.of(answered)

    async def _served_context(self) -> int:
        base = self._use.base.model_copy(update={"adapters": False})
        async with self._lease_model(base, None, self._check_attached) as session:
            self._note(session)
            return session.context_length

    async def _check_attached(self, session: VllmSession) -> None:
        model = served_path(self._use.base.model)
        await check_attached(session, self._chat, model)
        if not self._use.adapters:
            return
        name = f"{STAGE_ADAPTER}check-{hashlib.sha256(model.encode()).hexdigest()[:32]}"
        with TemporaryDirectory() as folder:
            if not self._write_neutral(Path(folder)):
                return
            self._adapters.publish(name, Path(folder), base_model=model)
        try:
            await check_adapters(session, self._chat, model, name)
        finally:
            self._adapters.withdraw(name)

    def _note(self, session: VllmSession) -> None:
        self._version, self._context_length = session.version, session.context_length

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


@dataclass(frozen=True, slots=True)
class _Call:
    """What a call's requests share. `in_flight` counts requests."""

    adapter: Path | None
    needed: int
    in_flight: int
    on_progress: OnProgress


class _CostMeter:
    """Costs of batches that overlap: each has the time and the prefilled tokens since the one before was answered.

    So the costs add up to the whole call's. The clock starts when the model is loaded.
    """

    def __init__(self, session: VllmSession, before: ServedTokens | None) -> None:
        self._session = session
        self._before = before
        self._since = monotonic()

    async def of(self, answered: Answered) -> Usage:
        """The batch's cost, without the generated tokens."""
        after, now = await self._session.tokens(), monotonic()
        prompt_tokens = sum(len(request.body["prompt"]) for request in answered.requests)
        prefilled = _prefilled(self._before, after)
        usage = Usage(prompt_tokens, prompt_tokens if prefilled is None else prefilled, 0, now - self._since)
        self._before, self._since = after, now
        return usage


async def _next(each: AsyncGenerator[tuple[Answered, Usage], None]) -> tuple[Answered, Usage] | None:
    return await anext(each, None)


async def _close(each: AsyncGenerator[tuple[Answered, Usage], None]) -> None:
    await each.aclose()


def _prefilled(before: ServedTokens | None, after: ServedTokens | None) -> int | None:
    """The prompt tokens that ran because the cache did not have them; None if that is not known."""
    if before is None or after is None or after.prompt < before.prompt:
        return None  # a server that was restarted in between has counted from zero
    return max(0, (after.prompt - after.cached) - (before.prompt - before.cached))


def _digest(adapter: Path) -> str:
    """The digest of the adapter's bytes. A name must always mean the same weights: the server keeps what it loaded."""
    digest = hashlib.sha256()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        with suppress(FileNotFoundError):
            digest.update((adapter / name).read_bytes())
    return digest.hexdigest()[:40]
