"""The model server's calls: lease a base model, use it, end the lease. For stages and the gateway, never for users."""

from enum import StrEnum

from pydantic import AwareDatetime, Field

from craft.contracts.base import Contract
from craft.contracts.stages.parameters import ModelRef

LEASE_HEADER = "X-Craft-Lease"
"""The id of the lease under which a completion is requested."""
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
    """POST /v1/leases: keep this base model served. `has_device`: the caller already has the device lock."""

    base: ServedBase
    has_device: bool


class ServerState(StrEnum):
    """What vLLM is doing."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"


class ModelLease(Contract):
    """The model is served, and stays served until the lease ends or is not used for a minute."""

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
    leases: int
    in_flight: int = Field(description="Requests being answered.")
    last_error: str | None
