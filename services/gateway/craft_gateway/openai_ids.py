"""OpenAI's ids are ours with another prefix, so nothing needs to remember which belongs to which."""

import re

_ULID = r"[0-9a-hjkmnp-tv-z]{26}"
_PREFIXES = {"file": "dset", "ftjob": "cjob"}


def openai_id(own: str) -> str:
    """`dset_x` is `file-x`, `cjob_x` is `ftjob-x`."""
    prefix, _, rest = own.partition("_")
    (outer,) = (name for name, inner in _PREFIXES.items() if inner == prefix)
    return f"{outer}-{rest}"


def own_id(given: str, prefix: str) -> str | None:
    """The other way; None for what is no such id. `prefix` is `file` or `ftjob`."""
    found = re.fullmatch(rf"{prefix}-({_ULID})", given)
    return None if found is None else f"{_PREFIXES[prefix]}_{found[1]}"


def event_id(job_id: str, seq: int) -> str:
    """The name of a job's event."""
    return f"ftevent-{job_id.partition('_')[2]}-{seq}"


def event_seq(given: str, job_id: str) -> int | None:
    """The event's number; None for what is no event of the job."""
    found = re.fullmatch(rf"ftevent-({_ULID})-([1-9][0-9]{{0,14}})", given)
    return int(found[2]) if found is not None and found[1] == job_id.partition("_")[2] else None
