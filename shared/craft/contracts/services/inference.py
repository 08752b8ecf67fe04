"""The inference service's calls: sampled replies, letter log-probabilities and the loaded model."""

from typing import Annotated, Literal

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.spec.jobs import BaseModelRef, Seed
from craft.contracts.stages.rows import ChatMessage
from craft.core.replies.reply import FinishReason

MAX_PROMPTS = 1000
MAX_SAMPLES = 100
MAX_NEW_TOKENS = 2048
MAX_REPLIES = 20_000
"""Limit for prompts × samples in one call."""

Id = Annotated[str, Field(min_length=1, max_length=500)]
Letter = Annotated[str, Field(pattern=r"^[A-Z]$")]


class PromptMessage(ChatMessage):
    """One message of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=200_000)


class ChatPrompt(Contract):
    """A chat for the model to continue. The reply has the same id."""

    id: Id
    messages: list[PromptMessage] = Field(min_length=1, max_length=200)


class ChoicePrompt(ChatPrompt):
    """A chat with a multiple-choice question; one of the letters is the answer."""

    letters: list[Letter] = Field(min_length=2, max_length=26, examples=[["A", "B", "C", "D"]])


class GenerateRequest(Contract):
    """POST /v1/generate. Temperature 0 is greedy. The same request gives the same replies."""

    model: BaseModelRef
    prompts: list[ChatPrompt] = Field(min_length=1, max_length=MAX_PROMPTS)
    samples: int = Field(1, ge=1, le=MAX_SAMPLES)
    temperature: float = Field(0.0, ge=0.0, le=5.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    max_new_tokens: int = Field(50, ge=1, le=MAX_NEW_TOKENS)
    seed: Seed = 42


class LettersRequest(Contract):
    """POST /v1/letters. One forward pass for each prompt; nothing is sampled."""

    model: BaseModelRef
    prompts: list[ChoicePrompt] = Field(min_length=1, max_length=MAX_PROMPTS)


class TokenUsage(Contract):
    """Tokens and time of one call. Prompts with a common prefix share its prefill."""

    prompt_tokens: int
    prefilled_tokens: int = Field(description="Prompt tokens that the model processed; shared prefixes count once.")
    generated_tokens: int
    seconds: float


class GeneratedRow(Contract):
    """The sampled replies to one prompt, in the order of the samples, with the end of each."""

    id: str
    samples: list[str]
    finishes: list[FinishReason]


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
    """The loaded model and its settings."""

    id: str
    revision: str
    dtype: str
    device: str
    attention: str = Field(description="`shared-prefix` (fast), or `plain` for architectures that it does not support.")
    context_length: int = Field(description="In tokens.")


class EngineView(Contract):
    """GET /v1/engine: the engine, its limits and the loaded model."""

    name: str
    limits: dict[str, int]
    loaded: LoadedModel | None = Field(description="Null before the first call that names a model.")
