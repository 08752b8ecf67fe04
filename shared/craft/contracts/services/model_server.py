"""The model server's calls: lease a base model, use it, end the lease. For stages and the gateway, never for users."""

from enum import StrEnum

from pydantic import AwareDatetime, Field

from craft.contracts.base import Contract
from craft.contracts.stages.parameters import ModelRef

LEASE_HEADER = "X-Craft-Lease"
"""The id of the lease under which a completion is requested."""
BASE_MODEL_HEADER = "X-Craft-Base-Model"
"""The base model of an adapter, as JSON of a ServedBase. The model server starts it if it is not served yet."""


class ServedBase(Contract):
    """A base model in a server. `adapters` says whether the server can add adapters to it."""

    model: ModelRef
    dtype: str
    adapters: bool = True

    def covers(self, wanted: "ServedBase") -> bool:
        """True if a server of this base can serve the wanted one. A server with adapters also serves without them."""
        return wanted in (self, self.model_copy(update={"adapters": False}))


class AdapterChat(Contract):
    """chat_format.json of an adapter: what a server needs to render and end chats as the evaluation did.

    `template` is there where it is not the base model's own: given by the job, or with the job's date in it. `tokens`
    are the special tokens that it can use by name.
    """

    arguments: dict[str, bool | int | float | str] = Field(default_factory=dict)
    end_tokens: list[int] = Field(default_factory=list)
    template: str | None = None
    tokens: dict[str, str] = Field(default_factory=dict)


class ModelLeaseRequest(Contract):
    """POST /v1/leases: keep this base model served. `has_device`: the caller already has the device lock."""

    base: ServedBase
    has_device: bool
    context_tokens: int | None = Field(
        None,
        ge=1,
        le=2**24,
        description="The context that the caller needs; a server with less is replaced, if it may be.",
    )


class ServerState(StrEnum):
    """The state of vLLM."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    SLEEPING = "sleeping"
    """Its weights are in the host's memory, and the device is free but for a rest."""


class ModelLease(Contract):
    """The model is served, and stays served until the lease ends or is not used for a minute."""

    id: str
    version: str = Field(description="The version of vLLM.")
    context_length: int = Field(description="The server's context in tokens. It may be less than what was asked for.")
    attached: bool = Field(description="The server is the team's own: its options are not ours.")


class ServedTokens(Contract):
    """GET /v1/tokens: the prompt tokens of all requests since vLLM's start."""

    prompt: int
    cached: int = Field(description="Prompt tokens that came from the prefix cache.")


class ServerView(Contract):
    """GET /v1/server: the state of the model server."""

    state: ServerState
    base: ServedBase | None
    context_length: int | None = Field(description="The context in tokens of the server that runs.")
    since: AwareDatetime
    starts: int = Field(description="Number of vLLM's starts since this process began.")
    leases: int
    in_flight: int = Field(description="Number of requests in progress.")
    last_error: str | None
