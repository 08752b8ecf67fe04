"""OpenAI's calls under /v1 that list deployed adapters and chat with them."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from craft.contracts.base import EXAMPLE_ADAPTER_ID, Contract
from craft.contracts.spec.jobs import PlainText

MAX_COMPLETIONS = 8
MAX_NEW_TOKENS = 2048
_MAX_TEXT_LENGTH = 1_000_000
_INT64 = 2**63
_Text = Annotated[PlainText, Field(max_length=_MAX_TEXT_LENGTH)]
_Stop = Annotated[PlainText, Field(min_length=1, max_length=500)]
_Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]
_NewTokens = Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)]


class ServedModel(Contract):
    """OpenAI's `model` object: a deployed adapter."""

    id: str = Field(examples=[EXAMPLE_ADAPTER_ID])
    object: Literal["model"] = "model"
    created: int = Field(description="Seconds since 1970.", examples=[1738315800])
    owned_by: str = "craft"
    parent: str = Field(description="The base model.", examples=["HuggingFaceTB/SmolLM2-135M-Instruct"])


class ServedModelList(Contract):
    """OpenAI's list of models, newest first."""

    object: Literal["list"] = "list"
    data: list[ServedModel]


class _ChatContract(Contract):
    """The base of requests. JSON types are not converted: "3" is not a number."""

    model_config = ConfigDict(strict=True)


class TextPart(_ChatContract):
    """A part of a message's content. Models here read only text."""

    type: Literal["text"]
    text: _Text


class Message(_ChatContract):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: _Text | Annotated[list[TextPart], Field(min_length=1, max_length=256)]
    name: PlainText | None = Field(None, max_length=100)


class StreamOptions(_ChatContract):
    """Options of a stream."""

    include_usage: bool | None = None


class ChatRequest(_ChatContract):
    """The body of `POST /v1/chat/completions`: OpenAI's members that adapters support. Others are refused."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": EXAMPLE_ADAPTER_ID,
                    "messages": [{"role": "user", "content": "Who wrote the Voynich manuscript?"}],
                    "max_completion_tokens": 64,
                    "temperature": 0.0,
                }
            ]
        }
    )

    model: PlainText = Field(min_length=1, max_length=300, description="A deployed adapter's id.")
    messages: list[Message] = Field(min_length=1, max_length=1024)
    n: int | None = Field(None, ge=1, le=MAX_COMPLETIONS)
    max_tokens: _NewTokens | None = Field(None, description="The older name of `max_completion_tokens`.")
    max_completion_tokens: _NewTokens | None = Field(None, description="By default the rest of the context.")
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    top_p: float | None = Field(None, gt=0.0, le=1.0)
    stop: _Stop | Annotated[list[_Stop], Field(max_length=4)] | None = None
    seed: int | None = Field(
        None, ge=-_INT64, lt=_INT64, description="Passed on if the operator's model server accepts seeds."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = Field(None, description="Only with `stream`.")
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20, description="Only with `logprobs`.")
    user: PlainText | None = Field(None, max_length=512, description="Accepted and not used.")


class OpenAiError(Contract):
    """An error in OpenAI's format."""

    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = None
    code: str | None = Field(None, examples=["model_not_found"])


class OpenAiErrorBody(Contract):
    """OpenAI's error envelope."""

    error: OpenAiError
