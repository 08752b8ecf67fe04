"""The service's limits of long work."""

from craft.infra.http.turns import TurnLimits, Turns

_WAITING_READINGS_OF_A_TEAM = 4
_READING_WAIT_SECONDS = 30.0
_FETCHES = TurnLimits(at_once=8, per_team=2, waiting_per_team=4, wait_seconds=10.0)


def reading_turns(at_once: int) -> Turns:
    """Turns of readings of files: one team always leaves a turn to the others, if there are two or more."""
    limits = TurnLimits(
        at_once=at_once,
        per_team=max(1, at_once - 1),
        waiting_per_team=_WAITING_READINGS_OF_A_TEAM,
        wait_seconds=_READING_WAIT_SECONDS,
    )
    return Turns(limits, work="readings of files")


def fetch_turns() -> Turns:
    """Turns of downloads, which may be slow for minutes."""
    return Turns(_FETCHES, work="downloads of sources")
