"""Watches the leases of running stages by this process's own count of seconds.

No clock on a wall takes part: on SQLite "the database's clock" is that of each process, and hosts disagree.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Lease(NamedTuple):
    """A running stage's lease as the database has it. Each renewal changes `expires_at`, each claim the fence."""

    stage_id: str
    fence: int
    expires_at: datetime | None
    heard_by: str | None
    """The coordinator that took the claim or the last renewal."""
    unheard: bool
    """True if a coordinator could not store a report of the worker since then."""


class ExpiredLease(NamedTuple):
    """A lease that nobody renewed for its whole term. `outage`: that may be no fault of its worker."""

    lease: Lease
    outage: bool


@dataclass(slots=True)
class _Watched:
    fence: int
    expires_at: datetime | None
    since: float
    outage: bool


class LeaseWatch:
    """Finds leases that did not change for `lease_seconds` while this process looked at them.

    A process that did not look for `silence_seconds` (frozen, cut off from the database, just started) has witnessed
    nothing: every lease gets a whole term from its next look on, and a worker that stays silent is not blamed. Nor is
    one whose coordinator gave no pulse for `silence_seconds` meanwhile.
    """

    def __init__(self, *, lease_seconds: float, silence_seconds: float, monotonic: Callable[[], float]) -> None:
        self._lease_seconds = lease_seconds
        self._silence_seconds = silence_seconds
        self._monotonic = monotonic
        self._looked_at: float | None = None
        self._watched: dict[str, _Watched] = {}
        self._pulses: dict[str, tuple[int, float]] = {}
        """By coordinator its last count of pulses, and since when it has not changed."""

    def look(self, leases: Sequence[Lease], pulses: Mapping[str, int]) -> list[ExpiredLease]:
        """Take in all leases and the coordinators' pulses, as read just now; returns the expired leases."""
        now = self._monotonic()
        was_away = self._was_away(now)
        self._looked_at = now
        if was_away:
            self._watched, self._pulses = {}, {}
        self._pulses = {name: self._pulse(name, count, now) for name, count in pulses.items()}
        self._watched = {lease.stage_id: self._seen(lease, now, was_away=was_away) for lease in leases}
        return [
            ExpiredLease(lease, watched.outage)
            for lease in leases
            if now - (watched := self._watched[lease.stage_id]).since > self._lease_seconds
        ]

    def extend(self, stage_id: str) -> None:
        """Give the lease another term without blame: the database refused to let it be reclaimed."""
        if watched := self._watched.get(stage_id):
            watched.since, watched.outage = self._monotonic(), True

    def _was_away(self, now: float) -> bool:
        return self._looked_at is None or now - self._looked_at > self._silence_seconds

    def _pulse(self, name: str, count: int, now: float) -> tuple[int, float]:
        known = self._pulses.get(name)
        return known if known is not None and known[0] == count else (count, now)

    def _seen(self, lease: Lease, now: float, *, was_away: bool) -> _Watched:
        unheard = lease.unheard or self._silent(lease.heard_by, now)
        known = self._watched.get(lease.stage_id)
        if known is None or (known.fence, known.expires_at) != (lease.fence, lease.expires_at):
            return _Watched(lease.fence, lease.expires_at, now, was_away or unheard)
        known.outage = known.outage or unheard
        return known

    def _silent(self, coordinator: str | None, now: float) -> bool:
        if coordinator is None:
            return False
        pulse = self._pulses.get(coordinator)
        return pulse is None or now - pulse[1] > self._silence_seconds
