"""Why each waiting job waits, how many are ahead of it on its queue, when its turn may come, and who holds a device."""

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
from craft.contracts.stages.attempts import AttemptOutcome
from craft.contracts.stages.kinds import FACTS, Service, StageKind
from craft_gateway.scheduling.allowances import (
    TeamAllowances,
    out_of_jobs,
    out_of_seconds,
    team_allowances,
)
from craft_gateway.scheduling.fair_share import FairShareTurn, turns
from craft_gateway.store.database import Clock
from craft_gateway.store.tables import Attempt, Job, Stage

_MOST = 2000
_REMEMBERED = 50
"""How many past attempts of a kind say how long one takes."""
_WORKERS_SEEN_WITHIN = timedelta(minutes=10)
_FRESH_SECONDS = 1.0
_OLD_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """`ahead` counts stages of other jobs that the same queue serves before; `reason` says more than that it waits."""

    ahead: int
    reason: str | None
    estimated_start_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeviceHolder:
    """A stage that runs and holds a device."""

    device: str
    stage: str
    job_id: str
    team: str


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """Places by job id, of every job that has a ready stage; and of the stages that hold a device the oldest."""

    positions: Mapping[str, QueuePosition]
    holder: DeviceHolder | None
    at: datetime


@dataclass(frozen=True, slots=True)
class _Dated:
    line: QueueSnapshot
    at: float


@dataclass(frozen=True, slots=True)
class _WaitingStage:
    job_id: str
    team: str
    kind: StageKind
    begun: bool


@dataclass(frozen=True, slots=True)
class _Pace:
    """How fast a queue moves: `busy_seconds` until its workers are free, None where no history tells."""

    typical_seconds: Mapping[StageKind, float]
    busy_seconds: float | None
    workers: int

    def waits(self, order: Iterable[_WaitingStage]) -> Iterator[float | None]:
        """Seconds that each stage of the line waits; None from the first on of which too little is known."""
        work: float | None = self.busy_seconds if self.workers else None
        for stage in order:
            yield None if work is None else work / self.workers
            typical = self.typical_seconds.get(stage.kind)
            work = None if work is None or typical is None else work + typical


class QueueSnapshots:
    """The line, worked out once a second at most: hundreds of callers may ask at once."""

    def __init__(
        self,
        *,
        has_space: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._has_space = has_space
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: _Dated | None = None

    def line(self, session: Session, now: Clock) -> QueueSnapshot:
        """The line as it is, or was a moment ago."""
        moment, seen = self._clock(), self._seen
        if seen is not None and moment - seen.at < _FRESH_SECONDS:
            return seen.line
        # A connection first: with the lock but without one, this caller would wait for those that wait for the lock.
        session.connection()
        # While one caller works it out again the others go on with the one before, unless that is too old.
        if not self._lock.acquire(blocking=False):
            if seen is not None and moment - seen.at < _OLD_SECONDS:
                return seen.line
            self._lock.acquire()
        try:
            return self._looked_at(session, now)
        finally:
            self._lock.release()

    def _looked_at(self, session: Session, now: Clock) -> QueueSnapshot:
        moment = self._clock()
        if self._seen is None or moment - self._seen.at >= _FRESH_SECONDS:
            at = now(session)
            found = positions(session, team_allowances(session), at, has_space=self._has_space())
            self._seen = _Dated(QueueSnapshot(found, _oldest_holder(session), at), moment)
        return self._seen.line


def held_devices(session: Session, *, most: int = _MOST) -> Sequence[Stage]:
    """Running stages that hold a device, the oldest holder first."""
    query = select(Stage).where(Stage.status == StageStatus.RUNNING, col(Stage.device).is_not(None))
    return session.exec(query.order_by(col(Stage.started_at), col(Stage.id)).limit(most)).all()


def _oldest_holder(session: Session) -> DeviceHolder | None:
    oldest = next(iter(held_devices(session, most=1)), None)
    return None if oldest is None else DeviceHolder(oldest.device or "", oldest.name, oldest.job_id, oldest.team)


def positions(
    session: Session, teams: TeamAllowances, now: datetime, *, has_space: bool, most: int = _MOST
) -> dict[str, QueuePosition]:
    """The place of every job that has a ready stage: the best, where it has several.

    Of a queue's stages at most about `most` have places, as many of each team.
    """
    found: dict[str, QueuePosition] = {}
    for queue in Service:
        ready = _ready(session, queue, most=most)
        if not ready:
            continue
        order = list(_in_order(ready, turns(session, queue, {stage.team for stage in ready}, teams, now), teams))
        pace = _pace(session, queue, now)
        held_up = _held_up(session, queue, {stage.team for stage in ready}, teams, now)
        for ahead, (stage, seconds) in enumerate(zip(order, pace.waits(order), strict=True)):
            reason = _NO_SPACE if not has_space else held_up(stage)
            start = None if seconds is None or reason is not None else now + timedelta(seconds=seconds)
            if stage.job_id not in found or ahead < found[stage.job_id].ahead:
                found[stage.job_id] = QueuePosition(ahead, reason, start)
    return found


def expected_wait(session: Session, kind: StageKind, team: str, rank: int, now: datetime) -> tuple[int, float | None]:
    """How many stages would be served before a new job's first stage of that kind, and in how many seconds it begins.

    None where no worker of the queue was seen lately, or stages before it take unknown time.
    """
    queue, teams = FACTS[kind].service, team_allowances(session)
    ready = _ready(session, queue, most=_MOST)
    new = _WaitingStage("", team, kind, begun=False)
    # Of a team's stages the better rank goes first, and of equals the older job.
    better = select(func.count()).where(
        Stage.queue == queue, Stage.status == StageStatus.READY, Stage.team == team, col(Stage.rank) <= rank
    )
    mine = [stage for stage in ready if stage.team == team]
    mine.insert(min(session.exec(better).one(), len(mine)), new)
    line = [*(stage for stage in ready if stage.team != team), *mine]
    order = list(_in_order(line, turns(session, queue, {stage.team for stage in line}, teams, now), teams))
    pace = _pace(session, queue, now)
    ahead = next(place for place, stage in enumerate(order) if stage is new)
    return ahead, next(islice(pace.waits(order), ahead, None))


_NO_SPACE = "waits for space: the artifact store is nearly full"


def _ready(session: Session, queue: Service, *, most: int) -> list[_WaitingStage]:
    """The first of each team: one that queues very many must not crowd out the others."""
    ready = (Stage.queue == queue, Stage.status == StageStatus.READY)
    teams = session.exec(select(Stage.team).where(*ready).distinct()).all()
    return [
        _WaitingStage(job_id, team, StageKind(kind), begun=status is not JobStatus.QUEUED)
        for team in teams
        for job_id, kind, status in session.exec(
            select(Stage.job_id, Stage.kind, Job.status)
            .join(Job, col(Job.id) == col(Stage.job_id))
            .where(*ready, Stage.team == team)
            .order_by(col(Stage.rank), col(Stage.job_id))
            .limit(max(1, most // len(teams)))
        )
    ]


def _in_order(
    ready: Iterable[_WaitingStage], turns: Iterable[FairShareTurn], teams: TeamAllowances
) -> Iterator[_WaitingStage]:
    """As if every stage took as long as any other: teams in turn by their weights, each in its own order."""
    of_team: dict[str, list[_WaitingStage]] = defaultdict(list)
    for stage in ready:
        of_team[stage.team].append(stage)
    line = [(turn.virtual_time, turn.team, 0) for turn in turns]
    heapq.heapify(line)
    while line:
        virtual_time, team, position = heapq.heappop(line)
        yield of_team[team][position]
        if position + 1 < len(of_team[team]):
            heapq.heappush(line, (virtual_time + 1.0 / teams.allowance(team).weight, team, position + 1))


def _held_up(
    session: Session, queue: Service, waiting: Iterable[str], teams: TeamAllowances, now: datetime
) -> Callable[[_WaitingStage], str | None]:
    spent, full = {}, {}
    for team in waiting:
        allowance = teams.allowance(team)
        if queue.uses_accelerator and out_of_seconds(session, team, allowance, now):
            quota = allowance.gpu_seconds_per_day or 0.0
            spent[team] = f"team {team} has used its {quota:,.0f} GPU seconds of the last 24 hours"
        if out_of_jobs(session, team, allowance):
            full[team] = f"team {team} runs {allowance.max_running_jobs} jobs, as many as it may at once"
    return lambda stage: spent.get(stage.team) or (None if stage.begun else full.get(stage.team))


def _pace(session: Session, queue: Service, now: datetime) -> _Pace:
    kinds = [kind for kind, facts in FACTS.items() if facts.service is queue]
    typical = {kind: seconds for kind in kinds if (seconds := _typical_seconds(session, kind)) is not None}
    running = session.exec(
        select(Attempt.kind, Attempt.started_at, Attempt.owner).where(
            Attempt.queue == queue, col(Attempt.ended_at).is_(None)
        )
    ).all()
    left = [
        max(0.0, typical[StageKind(kind)] - (now - started_at).total_seconds())
        for kind, started_at, _ in running
        if kind in typical
    ]
    busy = sum(left) if len(left) == len(running) else None
    since = now - _WORKERS_SEEN_WITHIN
    recent = select(Attempt.owner).where(col(Attempt.kind).in_(kinds), col(Attempt.ended_at) > since).distinct()
    owners = {owner for _, _, owner in running} | set(session.exec(recent))
    return _Pace(typical, busy, len(owners))


def _typical_seconds(session: Session, kind: StageKind) -> float | None:
    last = (
        select(Attempt.seconds)
        .where(Attempt.kind == kind, Attempt.outcome == AttemptOutcome.SUCCEEDED)
        .order_by(col(Attempt.ended_at).desc())
        .limit(_REMEMBERED)
        .subquery()
    )
    mean: float | None = session.exec(select(func.avg(last.c.seconds))).one()
    return mean
