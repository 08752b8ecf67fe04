"""The model server's own calls: hold a base model, ask it, let it go. For stages and the gateway, never for users."""

from enum import StrEnum

from pydantic import AwareDatetime, Field

from craft.contracts.base import Contract
from craft.contracts.stages.parameters import ModelRef

LEASE_HEADER = "X-Craft-Hold"
"""The hold under which a completion is asked for."""
BASE_MODEL_HEADER = "X-Craft-Base-Model"
"""The base model of an adapter, as JSON of a ServedBase: it is started where it is not served yet."""


class ServedBase(Contract):
    """A base model as a server loads it, and whether it must be able to add adapters to it."""

    model: ModelRef
    dtype: str
    adapters: bool = True

    def covers(self, wanted: "ServedBase") -> bool:
        """Whether a server of this base can answer for the wanted one: one with adapters answers without them too."""
        return wanted in (self, self.model_copy(update={"adapters": False}))


class ModelLeaseRequest(Contract):
    """POST /v1/holds: keep this base model served. `has_turn`: the caller has the device's turn already."""

    base: ServedBase
    has_turn: bool


class ServerState(StrEnum):
    """What vLLM is doing."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"


class ModelLease(Contract):
    """The model is served, and stays so until the hold is let go or not used for a minute."""

    id: str
    version: str = Field(description="Of vLLM.")


class ServedTokens(Contract):
    """GET /v1/tokens: prompt tokens since vLLM started, of all requests together."""

    prompt: int
    cached: int = Field(description="Of these, found in the prefix cache instead of being run.")


class ServerView(Contract):
    """GET /v1/server."""

    state: ServerState
    base: ServedBase | None
    since: AwareDatetime
    starts: int = Field(description="How often vLLM was started since this process began.")
    holds: int
    in_flight: int = Field(description="Requests being answered.")
    last_error: str | None
