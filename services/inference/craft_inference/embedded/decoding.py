"""The Protocol of the decoders: token ids in, sampled ids or log-probabilities out. No text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Tokens = Sequence[int]
OnDone = Callable[[int], None]
"""Called with the number of prompts done since the last call."""


@dataclass(frozen=True, slots=True)
class Draws:
    """Sampling parameters. `stream(prompt number, sample number)` gives that sample's uniform draws, one a token."""

    samples: int
    max_new_tokens: int
    temperature: float
    top_p: float
    stream: Callable[[int, int], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Decoded:
    """Sampled ids by prompt and sample (an end token, where there is one, comes last), and the prompt tokens that ran.

    `prefilled_tokens` does not count padding.
    """

    tokens: list[list[list[int]]]
    prefilled_tokens: int

    @property
    def generated_tokens(self) -> int:
        """The number of sampled ids, with end tokens."""
        return sum(len(sample) for samples in self.tokens for sample in samples)


@dataclass(frozen=True, slots=True)
class Scored:
    """Log-probabilities by prompt, in the order of its choices, and the prompt tokens that ran."""

    logprobs: list[list[float]]
    prefilled_tokens: int


class Decoding(Protocol):
    """Runs one loaded model. Prompts are whole: the decoder itself finds what they share."""

    def sample(self, prompts: Sequence[Tokens], draws: Draws, on_done: OnDone) -> Decoded:
        """Sample every prompt."""
        ...

    def score(self, prompts: Sequence[Tokens], choices: Sequence[Tokens], on_done: OnDone) -> Scored:
        """The next-token log-probabilities of each prompt's choices, over the whole vocabulary, in float32."""
        ...


def shared_prefix_length(prompts: Sequence[Tokens]) -> int:
    """The number of tokens with which all prompts begin. It leaves each prompt at least one token of its own."""
    if len(prompts) < 2:
        return 0
    lists = [list(prompt) for prompt in prompts]
    first, last = min(lists), max(lists)  # in dictionary order all other prompts lie between these two
    longest = min(len(prompt) for prompt in prompts) - 1
    for position, (one, other) in enumerate(zip(first[:longest], last[:longest], strict=True)):
        if one != other:
            return position
    return longest
