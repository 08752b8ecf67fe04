"""The queues as they are: why each job waits, how many are ahead of it, when it may start, and who owns a device."""

import heapq
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import func
from sqlmodel import Session, col, select

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import FACTS, Service, StageKind
from craft_gateway.scheduling.allowances import (
    TeamAllowances,
    at_running_jobs_quota,
    over_gpu_quota,
    team_allowances,
)
from craft_gateway.scheduling.device_failures import SickWorkersOf, no_sick_workers, sick_queue
from craft_gateway.scheduling.duration_model import total
from craft_gateway.scheduling.fair_share import FairShareTurn, turns
from craft_gateway.scheduling.stage_durations import StageDurations, StageRef
from craft_gateway.store.database import Clock
from craft_gateway.store.tables import Attempt, Job, Stage

_MAX_STAGES = 2000
_WORKERS_SEEN_WITHIN = timedelta(minutes=10)
_FRESH_SECONDS = 1.0
_OLD_SECONDS = 3.0
_NO_SPACE = "waits for space: the artifact store is nearly full"


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """`ahead` counts stages of other jobs that the queue serves before; `reason` says what blocks it, if anything."""

    ahead: int
    reason: str | None
    estimated_start_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeviceOwner:
    """A running stage that has a device for itself alone."""

    device: str
    stage: str
    job_id: str
    job_name: str | None
    team: str


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The positions of all jobs that have a ready stage, by job id, and the stage that has had a device for longest."""

    positions: Mapping[str, QueuePosition]
    device_owner: DeviceOwner | None
    at: datetime


@dataclass(frozen=True, slots=True)
class _CachedSnapshot:
    snapshot: QueueSnapshot
    at: float


@dataclass(frozen=True, slots=True)
class _ReadyStage:
    ref: StageRef
    team: str
    begun: bool


@dataclass(frozen=True, slots=True)
class _Pace:
    """The pace of a queue: `busy_seconds` until its workers are free, None if that is unknown."""

    busy_seconds: float | None
    workers: int

    def waits(self, durations: Iterable[float | None]) -> Iterator[float | None]:
        """The wait of each stage in seconds, from durations in queue order; None from the first unknown one on."""
        work: float | None = self.busy_seconds if self.workers else None
        for duration in durations:
            yield None if work is None else work / self.workers
            work = None if work is None or duration is None else work + duration


class QueueSnapshots:
    """Makes a snapshot once a second at most: hundreds of callers may ask at once."""

    def __init__(
        self,
        *,
        has_space: Callable[[], bool] = lambda: True,
        sick_workers: SickWorkersOf = no_sick_workers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sick_workers = sick_workers
        self._has_space = has_space
        self._clock = clock
        self._durations = StageDurations(clock=clock)
        self._lock = threading.Lock()
        self._cached: _CachedSnapshot | None = None

    def current(self, session: Session, now: Clock) -> QueueSnapshot:
        """The queues as they are, or were a moment ago."""
        moment, cached = self._clock(), self._cached
        if cached is not None and moment - cached.at < _FRESH_SECONDS:
            return cached.snapshot
        # A connection first: with the lock but without one, this caller would wait for those that wait for the lock.
        session.connection()
        # While one caller makes a new snapshot the others use the one before, unless that is too old.
        if not self._lock.acquire(blocking=False):
            if cached is not None and moment - cached.at < _OLD_SECONDS:
                return cached.snapshot
            self._lock.acquire()
        try:
            return self._refreshed(session, now)
        finally:
            self._lock.release()

    def _refreshed(self, session: Session, now: Clock) -> QueueSnapshot:
        moment = self._clock()
        if self._cached is None or moment - self._cached.at >= _FRESH_SECONDS:
            at = now(session)
            teams, has_space = team_allowances(session), self._has_space()
            found = positions(
                session, teams, at, has_space=has_space, durations=self._durations, sick_workers=self._sick_workers
            )
            self._cached = _CachedSnapshot(QueueSnapshot(found, _longest_owner(session), at), moment)
        return self._cached.snapshot


def stages_on_devices(session: Session, *, max_stages: int = _MAX_STAGES) -> Sequence[Stage]:
    """Running stages that own a device, the one that has it for longest first."""
    query = select(Stage).where(Stage.status == StageStatus.RUNNING, col(Stage.device).is_not(None))
    return session.exec(query.order_by(col(Stage.started_at), col(Stage.id)).limit(max_stages)).all()


def _longest_owner(session: Session) -> DeviceOwner | None:
    oldest = next(iter(stages_on_devices(session, max_stages=1)), None)
    if oldest is None:
        return None
    name = session.exec(select(Job.name).where(Job.id == oldest.job_id)).first()
    return DeviceOwner(oldest.device or "", oldest.name, oldest.job_id, name, oldest.team)


def positions(
    session: Session,
    teams: TeamAllowances,
    now: datetime,
    *,
    has_space: bool,
    durations: StageDurations,
    sick_workers: SickWorkersOf = no_sick_workers,
    max_stages: int = _MAX_STAGES,
) -> dict[str, QueuePosition]:
    """The position of every job that has a ready stage: the best, where it has several.

    Of a queue's stages at most about `max_stages` have positions, as many of each team.
    """
    found: dict[str, QueuePosition] = {}
    for queue in Service:
        ready = _ready(session, queue, max_stages=max_stages)
        if not ready:
            continue
        waiting = {stage.team for stage in ready}
        order = list(_in_order(ready, turns(session, queue, waiting, teams, now), teams))
        predicted = durations.predict(session, [stage.ref for stage in order])
        waits = _pace(session, queue, now, durations).waits(predicted)
        blocked = _blocked(session, queue, waiting, teams, now, sick_queue(session, queue, now, sick=sick_workers))
        for ahead, (stage, seconds) in enumerate(zip(order, waits, strict=True)):
            reason = _NO_SPACE if not has_space else blocked(stage)
            start = None if seconds is None or reason is not None else now + timedelta(seconds=seconds)
            job_id = stage.ref.job_id
            if job_id not in found or ahead < found[job_id].ahead:
                found[job_id] = QueuePosition(ahead, reason, start)
    return found


def expected_wait(
    session: Session, kind: StageKind, team: str, rank: int, now: datetime, *, durations: StageDurations
) -> tuple[int, float | None]:
    """The number of stages served before a new job's first one of that kind, and the seconds until it starts.

    None if no worker of the queue was seen lately, or a stage before it takes unknown time.
    """
    queue, teams = FACTS[kind].service, team_allowances(session)
    ready = _ready(session, queue, max_stages=_MAX_STAGES)
    new = _ReadyStage(StageRef("", "", kind), team, begun=False)
    # Within a team the better rank goes first, and of equal ranks the older job.
    better = select(func.count()).where(
        Stage.queue == queue, Stage.status == StageStatus.READY, Stage.team == team, col(Stage.rank) <= rank
    )
    own = [stage for stage in ready if stage.team == team]
    own.insert(min(session.exec(better).one(), len(own)), new)
    all_ready = [*(stage for stage in ready if stage.team != team), *own]
    order = list(_in_order(all_ready, turns(session, queue, {stage.team for stage in all_ready}, teams, now), teams))
    ahead = next(place for place, stage in enumerate(order) if stage is new)
    predicted = durations.predict(session, [stage.ref for stage in order[:ahead]])
    # The new stage's own duration does not count: it delays only the stages behind it.
    waits = _pace(session, queue, now, durations).waits([*predicted, None])
    return ahead, next(islice(waits, ahead, None))


def _ready(session: Session, queue: Service, *, max_stages: int) -> list[_ReadyStage]:
    """The first of each team: a team that queues very many must not crowd out the others."""
    ready = (Stage.queue == queue, Stage.status == StageStatus.READY)
    teams = session.exec(select(Stage.team).where(*ready).distinct()).all()
    return [
        _ReadyStage(StageRef(job_id, name, StageKind(kind)), team, begun=status is not JobStatus.QUEUED)
        for team in teams
        for job_id, name, kind, status in session.exec(
            select(Stage.job_id, Stage.name, Stage.kind, Job.status)
            .join(Job, col(Job.id) == col(Stage.job_id))
            .where(*ready, Stage.team == team)
            .order_by(col(Stage.rank), col(Stage.job_id))
            .limit(max(1, max_stages // len(teams)))
        )
    ]


def _in_order(
    ready: Iterable[_ReadyStage], turns: Iterable[FairShareTurn], teams: TeamAllowances
) -> Iterator[_ReadyStage]:
    """As if all stages took equally long: teams take turns by their weights, each in its own order."""
    of_team: dict[str, list[_ReadyStage]] = defaultdict(list)
    for stage in ready:
        of_team[stage.team].append(stage)
    upcoming = [(turn.virtual_time, turn.team, 0) for turn in turns]
    heapq.heapify(upcoming)
    while upcoming:
        virtual_time, team, position = heapq.heappop(upcoming)
        yield of_team[team][position]
        if position + 1 < len(of_team[team]):
            heapq.heappush(upcoming, (virtual_time + 1.0 / teams.allowance(team).weight, team, position + 1))


def _blocked(
    session: Session, queue: Service, waiting: Iterable[str], teams: TeamAllowances, now: datetime, sick: str | None
) -> Callable[[_ReadyStage], str | None]:
    """A function that gives the quota, or the failed device (`sick`), for which a stage has to wait, if any."""
    spent, full = {}, {}
    for team in waiting:
        allowance = teams.allowance(team)
        if queue.uses_accelerator and over_gpu_quota(session, team, allowance, now):
            quota = allowance.gpu_seconds_per_day or 0.0
            spent[team] = f"team {team} has used its {quota:,.0f} GPU seconds of the last 24 hours"
        if at_running_jobs_quota(session, team, allowance):
            full[team] = f"team {team} runs {allowance.max_running_jobs} jobs, as many as it may at once"
    return lambda stage: spent.get(stage.team) or (None if stage.begun else full.get(stage.team)) or sick


def _pace(session: Session, queue: Service, now: datetime, durations: StageDurations) -> _Pace:
    running = session.exec(
        select(Attempt, Stage.name)
        .join(Stage, col(Stage.id) == col(Attempt.stage_id))
        .where(Attempt.queue == queue, col(Attempt.ended_at).is_(None))
    ).all()
    refs = [StageRef(attempt.job_id, name, attempt.kind) for attempt, name in running]
    left = [
        None if seconds is None else max(0.0, seconds - (now - attempt.started_at).total_seconds())
        for seconds, (attempt, _) in zip(durations.predict(session, refs), running, strict=True)
    ]
    kinds = [kind for kind, facts in FACTS.items() if facts.service is queue]
    since = now - _WORKERS_SEEN_WITHIN
    recent = select(Attempt.owner).where(col(Attempt.kind).in_(kinds), col(Attempt.ended_at) > since).distinct()
    owners = {attempt.owner for attempt, _ in running} | set(session.exec(recent))
    return _Pace(total(left), len(owners))
