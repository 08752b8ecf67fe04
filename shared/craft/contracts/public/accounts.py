"""Teams, API keys, the caller's identity and the audit log."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, Field

from craft.contracts.base import Contract
from craft.contracts.spec.jobs import PlainText

KEY_ID = r"^ckey_[0-9a-hjkmnp-tv-z]{26}$"
DEFAULT_TEAM = "default"
"""The team of everything that was made without teams; it always exists."""
MAX_TEAMS = 1000


class Role(StrEnum):
    """A role in a team. Each role includes the rights of the one before."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"


class Scope(StrEnum):
    """A right to which a key can be limited."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    DATASETS_READ = "datasets:read"
    DATASETS_WRITE = "datasets:write"
    MODELS_READ = "models:read"
    MODELS_USE = "models:use"
    """Chat with a deployed adapter, which uses a device."""
    WEBHOOKS_READ = "webhooks:read"
    """See webhooks and their deliveries; addresses may contain tokens of other systems."""
    WEBHOOKS_WRITE = "webhooks:write"
    TEAM_READ = "team:read"
    TEAM_WRITE = "team:write"
    """Create and revoke the team's keys."""


_VIEWER = frozenset({Scope.JOBS_READ, Scope.DATASETS_READ, Scope.MODELS_READ})
_EDITOR = _VIEWER | {
    Scope.JOBS_WRITE,
    Scope.DATASETS_WRITE,
    Scope.MODELS_USE,
    Scope.WEBHOOKS_READ,
    Scope.WEBHOOKS_WRITE,
}
SCOPES_OF: Mapping[Role, frozenset[Scope]] = {
    Role.VIEWER: _VIEWER,
    Role.EDITOR: _EDITOR,
    Role.ADMIN: _EDITOR | {Scope.TEAM_READ, Scope.TEAM_WRITE},
}


class TeamSettings(Contract):
    """A team's limits. `weight` matters while several teams wait; null means no limit."""

    weight: float = Field(1.0, gt=0.0, le=1e6, allow_inf_nan=False)
    max_running_jobs: int | None = Field(None, ge=1, le=2**31 - 1)
    gpu_seconds_per_day: float | None = Field(None, ge=0.0, le=1e12, allow_inf_nan=False)
    gpu_seconds_per_job: float | None = Field(
        None,
        gt=0.0,
        le=1e12,
        allow_inf_nan=False,
        description="A job that has used so many fails; a retry goes on where it ended.",
    )
    max_unfinished_jobs: int | None = Field(
        1000, ge=1, le=2**31 - 1, description="Jobs that wait or run; a further one is refused."
    )


class TeamView(TeamSettings):
    """A team."""

    object: Literal["craft.team"] = "craft.team"
    name: str
    running_jobs: int
    gpu_seconds_last_day: float
    created_at: AwareDatetime


class TeamList(Contract):
    """All teams, by name."""

    object: Literal["list"] = "list"
    data: list[TeamView]
    has_more: bool = False
    last_id: str | None


class KeyRequest(Contract):
    """A new key of the caller's team."""

    name: PlainText = Field(min_length=1, max_length=200, examples=["nightly runs"])
    role: Role = Role.EDITOR
    scopes: list[Scope] | None = Field(
        None, min_length=1, max_length=20, description="By default all scopes of the role."
    )
    expires_in_days: float | None = Field(None, gt=0.0, le=36_500.0, description="Null: valid until revoked.")


class KeyView(Contract):
    """A key without its secret."""

    object: Literal["craft.api_key"] = "craft.api_key"
    id: str
    team: str
    name: str
    role: Role
    scopes: list[Scope]
    created_by: str
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None = Field(description="Accurate to the hour.")


class CreatedKeyView(KeyView):
    """A new key. No other response contains the key itself."""

    key: str = Field(description="Shown only once: `Authorization: Bearer …`.")


class KeyList(Contract):
    """Keys, newest first."""

    object: Literal["list"] = "list"
    data: list[KeyView]
    has_more: bool
    last_id: str | None


class CallerView(Contract):
    """The caller's identity, as the server sees it."""

    object: Literal["craft.caller"] = "craft.caller"
    actor: str = Field(
        description="The name in the audit log: a key's id, `oidc:` and a subject, `operator`, or `local`."
    )
    team: str
    scopes: list[Scope]
    operator: bool = Field(description="Whether the caller may set up teams, and see those of others.")
    teams: list[str] = Field(description="The teams that `Craft-Team` may name.")


class AuditEntry(Contract):
    """One event, with its actor."""

    id: str
    type: str
    subject: str = Field(description="The id of the affected object, or a team's name.")
    actor: str | None = Field(description="Null if the system itself acted.")
    data: dict[str, object]
    created_at: AwareDatetime


class AuditList(Contract):
    """Audit entries, newest first."""

    object: Literal["list"] = "list"
    data: list[AuditEntry]
    has_more: bool
    last_id: str | None
