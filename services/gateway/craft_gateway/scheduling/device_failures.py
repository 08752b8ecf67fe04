"""Places whose device failed: the attempts tell which, and which stages they are not offered again.

A place is a machine, or one device of it, and workers restart there. A stage that failed with a device goes to another
place while one is known. Where none is, it may be that the device is well again, or that the stage itself is the cause:
the same place gets it after a pause, and then the attempt is charged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from craft.contracts.stages.attempts import AttemptOutcome
from craft.contracts.stages.claims import place_of
from craft.contracts.stages.kinds import FACTS, Service, StageKind
from craft.errors import DeviceFailed
from craft.infra.backoff import exponential_backoff
from craft.infra.storage.sick_workers import SickWorker
from craft_gateway.store.tables import Attempt, Stage

SickWorkersOf = Callable[[Service], Sequence[SickWorker]]
"""The workers of a queue that wait for their device to be well."""
_FIRST_PAUSE_SECONDS = 20.0
_LONGEST_PAUSE_SECONDS = 300.0
_PLACES_SEEN_WITHIN = timedelta(minutes=10)
_LAST_ATTEMPT_WITHIN = timedelta(days=1)
_MAX_SHOWN_LENGTH = 300


@dataclass(frozen=True, slots=True)
class PlaceFailures:
    """The times at which a device failed under one stage at one place; at least one."""

    times: Sequence[datetime]

    @property
    def over_at(self) -> datetime:
        """The time from which the place may try the stage again, where no other place is known."""
        return max(self.times) + timedelta(seconds=pause_seconds(len(self.times)))


def no_sick_workers(queue: Service) -> Sequence[SickWorker]:  # noqa: ARG001 - the queue makes no difference
    """Know of no worker that waits for its device."""
    return ()


def pause_seconds(failures: int) -> float:
    """The pause of a place after so many failures of its device under one stage."""
    return exponential_backoff(failures, first=_FIRST_PAUSE_SECONDS, longest=_LONGEST_PAUSE_SECONDS)


def failures_of(session: Session, stage: Stage) -> dict[str, PlaceFailures]:
    """By place, the failures of devices under the stage so far."""
    if stage.fence == 0:
        return {}
    failed = select(Attempt.owner, Attempt.ended_at, Attempt.error).where(
        Attempt.stage_id == stage.id, Attempt.outcome == AttemptOutcome.FAILED
    )
    times: dict[str, list[datetime]] = {}
    for owner, ended_at, error in session.exec(failed):
        if ended_at is not None and _is_device_failure(error):
            times.setdefault(place_of(owner), []).append(ended_at)
    return {place: PlaceFailures(found) for place, found in times.items()}


def avoids(session: Session, stage: Stage, owner: str, now: datetime) -> bool:
    """True if the stage is kept from this owner, under whose device it failed."""
    failures = failures_of(session, stage)
    own = failures.get(place_of(owner))
    if own is None:
        return False
    return bool(_places_seen(session, stage.queue, now) - set(failures)) or now < own.over_at


def is_charged(session: Session, stage: Stage, *, max_attempts: int) -> bool:
    """True if a failure of the device under the running stage counts as an attempt.

    It does where the place fails for the second time, and where devices of `max_attempts` places have failed: the
    stage itself may then be the cause.
    """
    failures = failures_of(session, stage)
    return place_of(stage.owner or "") in failures or len(failures) >= max_attempts


def sick_queue(session: Session, queue: Service, now: datetime, *, sick: SickWorkersOf = no_sick_workers) -> str | None:
    """The reason why a queue's stages wait: no worker runs any, and the last one, or one that waits, is sick.

    Another place would have taken over within a moment.
    """
    running = select(Attempt.owner).where(Attempt.queue == queue, col(Attempt.ended_at).is_(None)).limit(1)
    if session.exec(running).first() is not None:
        return None
    since = now - _LAST_ATTEMPT_WITHIN
    last = select(Attempt.error).where(col(Attempt.kind).in_(_kinds(queue)), col(Attempt.ended_at) > since)
    newest = session.exec(last.order_by(col(Attempt.ended_at).desc()).limit(1)).first()
    waiting = sick(queue)
    if waiting:
        words = waiting[0].words
    elif newest is not None and _is_device_failure(newest):
        words = str(newest.get("message", ""))
    else:
        return None
    return f"waits for a {queue.value} worker with a working device: {words[:_MAX_SHOWN_LENGTH]}"


def _places_seen(session: Session, queue: Service, now: datetime) -> set[str]:
    running = select(Attempt.owner).where(Attempt.queue == queue, col(Attempt.ended_at).is_(None))
    since = now - _PLACES_SEEN_WITHIN
    recent = select(Attempt.owner).where(col(Attempt.kind).in_(_kinds(queue)), col(Attempt.ended_at) > since)
    owners = {*session.exec(running.distinct()), *session.exec(recent.distinct())}
    return {place_of(owner) for owner in owners}


def _kinds(queue: Service) -> list[StageKind]:
    """The kinds of a queue's stages: attempts are indexed by kind and end."""
    return [kind for kind, facts in FACTS.items() if facts.service is queue]


def _is_device_failure(error: Mapping[str, Any] | None) -> bool:
    return error is not None and error.get("code") == DeviceFailed.code
