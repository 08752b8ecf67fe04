"""Finds the team that owns an id. An id of another team gets the same 404 as one that does not exist."""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from sqlmodel import Session, col, select

from craft.contracts.public.accounts import DEFAULT_TEAM
from craft.errors import NotFound
from craft_gateway.access.identity import Caller
from craft_gateway.store.database import Database
from craft_gateway.store.tables import ApiKey, Dataset, Delivery, Deployment, Job, Team, Webhook

_ID = re.compile(r"(?:[a-z]{4}_|file-|ftjob-)[0-9a-hjkmnp-tv-z]{26}")
_MAX_REMEMBERED = 50_000
_LOOK_UPS_AT_ONCE = 4


class Owned(NamedTuple):
    """One kind of id: the look-up of its team (None: the id does not exist), and its 404."""

    team: Callable[[Session, str], str | None]
    not_found: Callable[[str], NotFound]


class OwnerLookup:
    """Finds the team that an id belongs to. The team never changes, so each id is looked up once."""

    def __init__(self, database: Database, owned: Mapping[str, Owned]) -> None:
        """`owned`: by path parameter, such as `OWNED`."""
        self._database = database
        self._owned = owned
        self._known: OrderedDict[str, str] = OrderedDict()
        self._teams = frozenset({DEFAULT_TEAM})
        self._threads = CapacityLimiter(_LOOK_UPS_AT_ONCE)

    async def check_team(self, team: str) -> None:
        """Check that the team exists. Raises NotFound. Teams are never removed."""
        if team not in self._teams:
            self._teams = await run_sync(self._all_teams, limiter=self._threads)
            if team not in self._teams:
                raise no_team(team)

    def _all_teams(self) -> frozenset[str]:
        with self._database.read() as session:
            return frozenset({DEFAULT_TEAM, *session.exec(select(Team.name))})

    async def check(self, caller: Caller, path: Mapping[str, Any]) -> None:
        """Check the path's ids. Raises NotFound for a malformed id, and for one of another team.

        An unknown id passes: the route answers with the same NotFound.
        """
        for name, value in path.items():
            if name not in self._owned:
                continue
            if not _ID.fullmatch(value):
                raise self._owned[name].not_found(value)
            if caller.operator:
                continue
            owner = self._known.get(value) or await run_sync(self._look_up, name, value, limiter=self._threads)
            if owner is not None and owner != caller.team:
                raise self._owned[name].not_found(value)

    def of(self, name: str, value: str) -> str | None:
        """Return the team that owns the id; None if the id does not exist. `name` is the path parameter's."""
        return self._known.get(value) or self._look_up(name, value)

    def _look_up(self, name: str, value: str) -> str | None:
        if not _ID.fullmatch(value):
            return None
        with self._database.read() as session:
            owner = self._owned[name].team(session, value)
        if owner is not None:
            self._known[value] = owner
            if len(self._known) > _MAX_REMEMBERED:
                self._known.popitem(last=False)
        return owner


def job_team(session: Session, job_id: str) -> str | None:
    """The job's team."""
    return session.exec(select(Job.team).where(Job.id == job_id)).first()


def dataset_team(session: Session, dataset_id: str) -> str | None:
    """The dataset's team."""
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


def no_job() -> NotFound:
    """The 404 of `/jobs/{job_id}`."""
    return NotFound("There is no job with this id.", hint="`GET /craft/jobs` lists them.")


def no_dataset() -> NotFound:
    """The 404 of `/datasets/{dataset_id}`."""
    return NotFound("There is no dataset with this id.", hint="`GET /craft/datasets` lists them.")


def no_key() -> NotFound:
    """The 404 of `/api-keys/{key_id}`."""
    return NotFound("There is no key with this id.", hint="`GET /craft/api-keys` lists them.")


def no_webhook() -> NotFound:
    """The 404 of `/webhooks/{webhook_id}`."""
    return NotFound("There is no webhook with this id.", hint="`GET /craft/webhooks` lists them.")


def no_delivery() -> NotFound:
    """The 404 of `/webhooks/{webhook_id}/deliveries/{delivery_id}`."""
    return NotFound(
        "There is no delivery with this id.", hint="`GET /craft/webhooks/{id}/deliveries` lists them for some days."
    )


def no_team(name: str) -> NotFound:
    """The 404 of the team that a request names."""
    return NotFound(
        f"There is no team {name[:100]!r}.",
        hint="An operator creates it with `PUT /craft/teams/{team}`.",
        param="Craft-Team",
    )


def no_model(name: str) -> NotFound:
    """The 404 of a deployed adapter's name."""
    return NotFound(f"There is no deployed model {name[:100]!r}; GET /v1/models lists them.")


OWNED: Mapping[str, Owned] = {
    "job_id": Owned(job_team, lambda _: no_job()),
    "dataset_id": Owned(dataset_team, lambda _: no_dataset()),
    "key_id": Owned(_key_team, lambda _: no_key()),
    "model": Owned(_model_team, no_model),
    "webhook_id": Owned(_webhook_team, lambda _: no_webhook()),
    "delivery_id": Owned(_delivery_team, lambda _: no_delivery()),
}
"""By path parameter. OpenAI's ids are other names of the same resources: see `openai/ids.py`."""
