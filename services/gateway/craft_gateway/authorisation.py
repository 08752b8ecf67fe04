"""What a caller may do: a scope for each kind of route, and nothing of another team: that is not found."""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from anyio.to_thread import run_sync
from fastapi import Depends, Header, Request, params
from fastapi.security import HTTPBearer
from sqlmodel import Session, col, select

from craft.contracts.accounts import DEFAULT_TEAM, Scope
from craft.contracts.base import NAME
from craft.errors import Forbidden, NotFound, RateLimited, Unauthenticated
from craft.infra.http import documented
from craft_gateway.callers import Caller, Identity
from craft_gateway.database import Database
from craft_gateway.missing import (
    no_dataset,
    no_delivery,
    no_file,
    no_job,
    no_key,
    no_model,
    no_team,
    no_tuning_job,
    no_webhook,
)
from craft_gateway.openai_ids import own_id
from craft_gateway.tables import ApiKey, Dataset, Delivery, Deployment, Job, Team, Webhook

_SCHEME = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    description="An API key (`craft_sk_…`) or a token of the company's identity provider. A local installation asks "
    "for none on its own machine.",
)
_ID = re.compile(r"(?:[a-z]{4}_|file-|ftjob-)[0-9a-hjkmnp-tv-z]{26}")
_READING = frozenset({"GET", "HEAD"})
_MOST_REMEMBERED = 50_000
REFUSALS = documented(Unauthenticated, Forbidden, NotFound, RateLimited)

TeamHeader = Annotated[
    str | None,
    Header(
        alias="Craft-Team",
        description="Which of the caller's teams; needed where there are several.",
        # Looked up, so that there is no other check of its form.
        json_schema_extra={"pattern": NAME},
    ),
]


class Owners:
    """Which team an id belongs to. It never changes, so each is looked up once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[str, str] = OrderedDict()
        self._teams = frozenset({DEFAULT_TEAM})

    async def check_team(self, team: str) -> None:
        """Raises NotFound where there is no such team. Teams are never removed."""
        if team not in self._teams:
            self._teams = await run_sync(self._all_teams)
            if team not in self._teams:
                raise no_team(team)

    def _all_teams(self) -> frozenset[str]:
        with self._database.read() as session:
            return frozenset({DEFAULT_TEAM, *session.exec(select(Team.name))})

    async def check(self, caller: Caller, path: Mapping[str, Any]) -> None:
        """Raises NotFound where one of the path's ids is another team's, as it would for one that does not exist.

        An unknown id passes: the route says what is missing.
        """
        if caller.operator:
            return
        for name, value in path.items():
            if name not in _OWNED:
                continue
            owner = self._known.get(value) or await run_sync(self._looked_up, name, value)
            if owner is not None and owner != caller.team:
                raise _MISSING[name](value)

    def of(self, name: str, value: str) -> str | None:
        """The team that owns it; None where there is no such thing. `name` is the path parameter's."""
        return self._known.get(value) or self._looked_up(name, value)

    def _looked_up(self, name: str, value: str) -> str | None:
        if not _ID.fullmatch(value):
            return None
        with self._database.read() as session:
            owner = _OWNED[name](session, value)
        if owner is not None:
            self._known[value] = owner
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return owner


class Access(NamedTuple):
    """What a kind of route asks for: of those that look, and of those that change something. None: any valid key."""

    reading: Scope | None
    writing: Scope | None


ANYBODY = Access(None, None)
JOBS = Access(Scope.JOBS_READ, Scope.JOBS_WRITE)
DATASETS = Access(Scope.DATASETS_READ, Scope.DATASETS_WRITE)
MODELS = Access(Scope.MODELS_READ, Scope.MODELS_USE)
WEBHOOKS = Access(Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE)
TEAM = Access(Scope.TEAM_READ, Scope.TEAM_WRITE)


async def allowed(
    owners: Owners, scope: Scope | None, identity: Identity, *, team: str | None, path: Mapping[str, Any]
) -> Caller:
    """The caller in the team that the request names, who has the scope and owns the path's ids.

    Raises Forbidden, NotFound, RequestInvalid.
    """
    caller = identity.in_team(team)
    if scope is not None:
        caller.require(scope)
    await owners.check_team(caller.team)
    await owners.check(caller, path)
    return caller


def guarded(owners: Owners, access: Access) -> Sequence[params.Depends]:
    """The dependencies of a router: who calls in which team, whether they may, and that the path's ids are theirs."""

    async def check(request: Request, team: TeamHeader = None) -> None:
        scope = access.reading if request.method in _READING else access.writing
        identity: Identity = request.state.identity
        request.state.caller = await allowed(owners, scope, identity, team=team, path=request.path_params)

    return [Depends(_SCHEME), Depends(check)]


def operators_only() -> Sequence[params.Depends]:
    """The dependencies of a router that only operators may use."""

    async def check(request: Request) -> None:
        identity: Identity = request.state.identity
        identity.require_operator()
        request.state.caller = identity.in_team(None)

    return [Depends(_SCHEME), Depends(check)]


async def _caller(request: Request) -> Caller:
    # The framework would call what is not async in a thread.
    found: Caller = request.state.caller
    return found


CallerOf = Annotated[Caller, Depends(_caller)]
"""The caller of a guarded route."""


def _job_team(session: Session, job_id: str) -> str | None:
    return session.exec(select(Job.team).where(Job.id == job_id)).first()


def _dataset_team(session: Session, dataset_id: str) -> str | None:
    return session.exec(select(Dataset.team).where(Dataset.id == dataset_id)).first()


def _key_team(session: Session, key_id: str) -> str | None:
    return session.exec(select(ApiKey.team).where(ApiKey.id == key_id)).first()


def _model_team(session: Session, model: str) -> str | None:
    query = select(Job.team).join(Deployment, col(Deployment.job_id) == col(Job.id))
    return session.exec(query.where(Deployment.id == model)).first()


def _webhook_team(session: Session, webhook_id: str) -> str | None:
    return session.exec(select(Webhook.team).where(Webhook.id == webhook_id)).first()


def _delivery_team(session: Session, delivery_id: str) -> str | None:
    query = select(Webhook.team).join(Delivery, col(Delivery.webhook_id) == col(Webhook.id))
    return session.exec(query.where(Delivery.id == delivery_id)).first()


def _file_team(session: Session, file_id: str) -> str | None:
    return _dataset_team(session, own_id(file_id, "file") or "")


def _tuning_team(session: Session, tuning_id: str) -> str | None:
    return _job_team(session, own_id(tuning_id, "ftjob") or "")


_OWNED: Mapping[str, Callable[[Session, str], str | None]] = {
    "job_id": _job_team,
    "dataset_id": _dataset_team,
    "key_id": _key_team,
    "model": _model_team,
    "webhook_id": _webhook_team,
    "delivery_id": _delivery_team,
    "file_id": _file_team,
    "fine_tuning_job_id": _tuning_team,
}
_MISSING: Mapping[str, Callable[[str], NotFound]] = {
    "job_id": lambda _: no_job(),
    "dataset_id": lambda _: no_dataset(),
    "key_id": lambda _: no_key(),
    "model": no_model,
    "webhook_id": lambda _: no_webhook(),
    "delivery_id": lambda _: no_delivery(),
    "file_id": lambda _: no_file(),
    "fine_tuning_job_id": lambda _: no_tuning_job(),
}
