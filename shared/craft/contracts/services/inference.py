"""The inference service's own calls: sampled replies, letter log-probabilities, and what is loaded."""

from typing import Annotated, Literal

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.spec.jobs import BaseModelRef, Seed
from craft.contracts.stages.rows import ChatMessage

MOST_PROMPTS = 1000
MOST_SAMPLES = 100
MOST_NEW_TOKENS = 2048
MOST_REPLIES = 20_000
"""Prompts × samples in one call."""

Id = Annotated[str, Field(min_length=1, max_length=500)]
Letter = Annotated[str, Field(pattern=r"^[A-Z]$")]


class PromptMessage(ChatMessage):
    """One chat turn."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=200_000)


class ChatPrompt(Contract):
    """A chat that the model is to continue; the id comes back with the reply."""

    id: Id
    messages: list[PromptMessage] = Field(min_length=1, max_length=200)


class ChoicePrompt(ChatPrompt):
    """A chat that one of the letters answers."""

    letters: list[Letter] = Field(min_length=2, max_length=26, examples=[["A", "B", "C", "D"]])


class GenerateRequest(Contract):
    """POST /v1/generate. Temperature 0 is greedy. The same request gives the same replies."""

    model: BaseModelRef
    prompts: list[ChatPrompt] = Field(min_length=1, max_length=MOST_PROMPTS)
    samples: int = Field(1, ge=1, le=MOST_SAMPLES)
    temperature: float = Field(0.0, ge=0.0, le=5.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    max_new_tokens: int = Field(50, ge=1, le=MOST_NEW_TOKENS)
    seed: Seed = 42


class LettersRequest(Contract):
    """POST /v1/letters. One forward pass for each prompt; nothing is sampled."""

    model: BaseModelRef
    prompts: list[ChoicePrompt] = Field(min_length=1, max_length=MOST_PROMPTS)


class TokenUsage(Contract):
    """Tokens and time of one call. Prompts that begin alike share what was prefilled."""

    prompt_tokens: int
    prefilled_tokens: int = Field(description="Prompt tokens run through the model; shared beginnings count once.")
    generated_tokens: int
    seconds: float


class GeneratedRow(Contract):
    """The sampled replies to one prompt, in the order of the samples."""

    id: str
    samples: list[str]


class GenerateResponse(Contract):
    """Replies in the order of the prompts."""

    rows: list[GeneratedRow]
    usage: TokenUsage


class LettersRow(Contract):
    """Natural-log probabilities of the letters as the next token, over the whole vocabulary; `mass` is their sum."""

    id: str
    logprobs: dict[str, float]
    mass: float


class LettersResponse(Contract):
    """Rows in the order of the prompts."""

    rows: list[LettersRow]
    usage: TokenUsage


class LoadedModel(Contract):
    """The model in memory and how it runs."""

    id: str
    revision: str
    dtype: str
    device: str
    attention: str = Field(description="`shared-prefix` (fast) or `plain` (architectures that the fast way lacks).")
    context_length: int = Field(description="In tokens.")


class EngineView(Contract):
    """GET /v1/engine."""

    name: str
    limits: dict[str, int]
    loaded: LoadedModel | None = Field(description="Null until the first call that names a model.")
