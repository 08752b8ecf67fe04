"""An engine without a model, for tests. Its replies are a function of the prompt."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from craft.contracts.spec.chats import ChatFormat
from craft.core.replies.reply import FinishReason
from craft_inference.engine import (
    EngineDescription,
    LetterPrompt,
    Letters,
    LetterScores,
    LongPrompt,
    OnProgress,
    Prompt,
    PromptLengths,
    Replies,
    Reply,
    Sampling,
    Usage,
    no_progress,
    one_by_one,
)


def _echo(prompt: Prompt, sample: int, adapter: Path | None) -> str:
    suffix = f" after {adapter.name}" if adapter else ""
    return f"reply {sample} to {prompt.messages[-1].content}{suffix}"


def _even(prompt: LetterPrompt, adapter: Path | None) -> Sequence[float]:  # noqa: ARG001 - a `score` takes both
    return [-1.0 - number for number, _ in enumerate(prompt.letters)]


@dataclass
class FakeEngine:
    """Replies with `say(prompt, sample, adapter)`, scores with `score`, and keeps the given prompts in `seen`.

    `needed` keeps the context that each call for batches was given. `finish` says how a reply ended. Raises the
    exception that `failures` has for a prompt's id.
    """

    say: Callable[[Prompt, int, Path | None], str] = _echo
    score: Callable[[LetterPrompt, Path | None], Sequence[float]] = _even
    finish: Callable[[str], FinishReason] = lambda _: FinishReason.STOP
    failures: Mapping[str, Exception] = field(default_factory=dict)
    context_words: int = 1_000_000
    seen: list[Prompt] = field(default_factory=list)
    samplings: list[Sampling] = field(default_factory=list)
    needed: list[int] = field(default_factory=list)
    forms: list[ChatFormat] = field(default_factory=list)

    def describe(self) -> EngineDescription:
        """See `Engine.describe`."""
        return EngineDescription("fake", "1", "none", "none", "none", self.context_words)

    def use_form(self, form: ChatFormat) -> None:
        """See `Engine.use_form`."""
        self.forms.append(form)

    def measure(self, prompts: Iterable[Prompt], *, new_tokens: int) -> PromptLengths:
        """See `Engine.measure`. Each word is a token."""
        counted = [(at, sum(len(message.content.split()) for message in p.messages)) for at, p in enumerate(prompts)]
        most = self.context_words
        long = tuple(LongPrompt(at, words, most) for at, words in counted if words + new_tokens > most)
        return PromptLengths(max((words for _, words in counted), default=0) + new_tokens, long)

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Replies:
        """See `Engine.generate`."""
        self.samplings.append(sampling)
        rows = []
        for done, prompt in enumerate(prompts, start=1):
            self._see(prompt)
            texts = tuple(self.say(prompt, sample, adapter) for sample in range(sampling.samples))
            rows.append(Reply(prompt.id, texts, tuple(self.finish(text) for text in texts)))
            on_progress(done, len(prompts))
        words = sum(len(text.split()) for row in rows for text in row.texts)
        return Replies(tuple(rows), _usage(prompts, generated=words))

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
        self.needed.append(needed)
        return one_by_one(
            batches,
            lambda prompts, progress: self.generate(prompts, sampling, adapter=adapter, on_progress=progress),
            on_progress,
        )

    def letters(
        self,
        prompts: Sequence[LetterPrompt],
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Letters:
        """See `Engine.letters`."""
        rows = []
        for done, prompt in enumerate(prompts, start=1):
            self._see(prompt)
            rows.append(LetterScores(prompt.id, tuple(self.score(prompt, adapter))))
            on_progress(done, len(prompts))
        return Letters(tuple(rows), _usage(prompts, generated=0))

    def letters_each(
        self,
        batches: Iterable[Sequence[LetterPrompt]],
        *,
        needed: int,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Generator[Letters, None, None]:
        """See `Engine.letters_each`."""
        self.needed.append(needed)
        return one_by_one(
            batches,
            lambda prompts, progress: self.letters(prompts, adapter=adapter, on_progress=progress),
            on_progress,
        )

    def _see(self, prompt: Prompt) -> None:
        if prompt.id in self.failures:
            raise self.failures[prompt.id]
        self.seen.append(prompt)


def _usage(prompts: Sequence[Prompt], *, generated: int) -> Usage:
    """Each word counts as a token; only a prompt's last turn counts as prefilled."""
    words = [[len(message.content.split()) for message in prompt.messages] for prompt in prompts]
    return Usage(sum(map(sum, words)), sum(turns[-1] for turns in words), generated, 0.001 * len(prompts))
