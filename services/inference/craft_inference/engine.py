"""What every engine can do: sample replies to chats and read exact letter log-probabilities. No tensor type in sight.

`TransformersEngine` runs in this process; an engine that talks HTTP to a model server fits the same Protocol.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from craft.core.prompts import ModelMessage


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat that ends with the user's turn. The id names it in errors and in the random streams of its samples."""

    id: str
    messages: tuple[ModelMessage, ...]


@dataclass(frozen=True, slots=True)
class LetterPrompt(Prompt):
    """A chat that is answered by one of `letters`."""

    letters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to reply. Temperature 0 is greedy: all `samples` are then equal and computed once.

    A sample's draws depend on (seed, prompt id, sample number, position) alone, never on what else is in the call.
    """

    max_new_tokens: int
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """The sampled texts of one prompt, in sample order, without special tokens."""

    id: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LetterScores:
    """Natural-log next-token probabilities of the offered letters, normalised over the whole vocabulary."""

    id: str
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call cost. `prompt_tokens`: the prompts' length, each once; `prefilled_tokens`: what of them ran."""

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
class EngineDescription:
    """What runs, for the manifest and for `GET /v1/engine`. `attention` is "shared-prefix" or "plain"."""

    name: str
    version: str
    dtype: str
    device: str
    attention: str
    context_length: int


OnProgress = Callable[[int, int], None]
"""Called with (prompts done, prompts in all) as a call goes on."""


def no_progress(done: int, total: int) -> None:
    """Nobody listens."""


class Engine(Protocol):
    """A loaded base model. `adapter` is the folder of a LoRA adapter in PEFT layout; None is the base model itself."""

    def describe(self) -> EngineDescription:
        """What runs."""
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

    def letters(
        self,
        prompts: Sequence[LetterPrompt],
        *,
        adapter: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Letters:
        """Score the letters of every prompt, one forward pass each. Raises as `generate`."""
        ...
