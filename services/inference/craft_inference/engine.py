"""The Protocol that every engine fulfils: sample replies to chats, and read exact letter log-probabilities.

It names no tensor type: `TransformersEngine` runs in this process, `VllmEngine` sends HTTP requests to a model server.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from craft.contracts.spec.chats import ChatFormat
from craft.core.prompts import ModelMessage
from craft.core.replies.reply import FinishReason


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat that ends with the user's turn. Errors, and the random streams of its samples, are named by its id."""

    id: str
    messages: tuple[ModelMessage, ...]


@dataclass(frozen=True, slots=True)
class LetterPrompt(Prompt):
    """A chat whose answer is one of `letters`."""

    letters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters. Temperature 0 is greedy: all `samples` are then equal and computed once.

    A sample's draws depend on (seed, prompt id, sample number, position) alone, never on the other prompts of the call.
    """

    max_new_tokens: int
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """The sampled texts of one prompt, in sample order, without special tokens, and the end of each."""

    id: str
    texts: tuple[str, ...]
    finishes: tuple[FinishReason, ...]


@dataclass(frozen=True, slots=True)
class LetterScores:
    """Natural-log next-token probabilities of the offered letters, normalised over the whole vocabulary."""

    id: str
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of a call. `prompt_tokens`: the length of all prompts; `prefilled_tokens`: those of them that ran."""

    prompt_tokens: int = 0
    prefilled_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.prefilled_tokens + other.prefilled_tokens,
            self.generated_tokens + other.generated_tokens,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Replies:
    """One reply for each prompt, in the prompts' order."""

    rows: tuple[Reply, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Letters:
    """One score for each letter prompt, in the prompts' order."""

    rows: tuple[LetterScores, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """The prompt at `position` among others has `tokens`, which leaves no room in the `limit` of the context."""

    position: int
    tokens: int
    limit: int


@dataclass(frozen=True, slots=True)
class PromptLengths:
    """The tokens of context that a stage needs, and the prompts for which there is no room.

    `needed` is for the longest prompt with its reply. It may be more than that where it is small. `longer_context` says
    how there would be more room; it is empty if the model itself has no more.
    """

    needed: int
    too_long: tuple[LongPrompt, ...] = ()
    longer_context: str = ""


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """The engine as the manifest and `GET /v1/engine` show it. `attention` is free text, such as "shared-prefix"."""

    name: str
    version: str
    dtype: str
    device: str
    attention: str
    context_length: int


OnProgress = Callable[[int, int], None]
"""Called with (prompts done, prompts that were given so far) during a call."""
PromptT = TypeVar("PromptT", bound=Prompt)
ResultT = TypeVar("ResultT")


def no_progress(done: int, total: int) -> None:
    """Ignore the progress."""


class Engine(Protocol):
    """A loaded base model. `adapter` is the folder of a LoRA adapter in PEFT layout; None is the base model itself."""

    def describe(self) -> EngineDescription:
        """The engine's name, version, device and limits."""
        ...

    def use_form(self, form: ChatFormat) -> None:
        """Render chats in this form from now on. Raises ModelRejected if the model has no template and `form` none."""
        ...

    def measure(self, prompts: Iterable[Prompt], *, new_tokens: int) -> PromptLengths:
        """Measure prompts that get `new_tokens` more. It runs no model, and most prompts need no tokenizer."""
        ...

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Replies:
        """Reply to every prompt. Raises ContextTooLong (with the id), ModelRejected (an adapter we cannot load)."""
        ...

    def generate_each(
        self,
        batches: Iterable[Sequence[Prompt]],
        sampling: Sampling,
        *,
        needed: int,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Generator[Replies, None, None]:
        """Reply to one batch after the other, each as `generate` does; close the generator to stop.

        `needed` is `PromptLengths.needed` of all batches. An engine may take the next batch, but no more than that,
        before it gives the replies to the one before.
        """
        ...

    def letters(
        self,
        prompts: Sequence[LetterPrompt],
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Letters:
        """Score the letters of every prompt, one forward pass each. Raises as `generate`."""
        ...

    def letters_each(
        self,
        batches: Iterable[Sequence[LetterPrompt]],
        *,
        needed: int,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Generator[Letters, None, None]:
        """Score one batch after the other, as `generate_each` replies to them."""
        ...


def one_by_one(
    batches: Iterable[Sequence[PromptT]],
    run: Callable[[Sequence[PromptT], OnProgress], ResultT],
    on_progress: OnProgress,
) -> Generator[ResultT, None, None]:
    """Run a batch when its result is asked for; the progress counts the prompts of all batches."""
    before = 0
    for batch in batches:

        def progress(done: int, total: int, before: int = before) -> None:
            on_progress(before + done, before + total)

        yield run(batch, progress)
        before += len(batch)
