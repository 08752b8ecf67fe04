"""Translates OpenAI's ids of jobs, files and events to and from our own ids."""

import re
from collections.abc import Mapping

from sqlmodel import Session

from craft.errors import NotFound
from craft_gateway.access.owners import Owned, dataset_team, job_team

_ULID = r"[0-9a-hjkmnp-tv-z]{26}"
_PREFIXES = {"file": "dset", "ftjob": "cjob"}


def openai_id(own: str) -> str:
    """Return OpenAI's id: `file-x` for `dset_x`, `ftjob-x` for `cjob_x`."""
    prefix, _, rest = own.partition("_")
    (outer,) = (name for name, inner in _PREFIXES.items() if inner == prefix)
    return f"{outer}-{rest}"


def own_id(outer: str, prefix: str) -> str | None:
    """Return our id for OpenAI's; None if `outer` is no such id. `prefix` is `file` or `ftjob`."""
    match = re.fullmatch(rf"{prefix}-({_ULID})", outer)
    return None if match is None else f"{_PREFIXES[prefix]}_{match[1]}"


def event_id(job_id: str, seq: int) -> str:
    """Return OpenAI's id of a job's event."""
    return f"ftevent-{job_id.partition('_')[2]}-{seq}"


def event_seq(outer: str, job_id: str) -> int | None:
    """Return the event's number; None if `outer` is no event of the job."""
    match = re.fullmatch(rf"ftevent-({_ULID})-([1-9][0-9]{{0,14}})", outer)
    return int(match[2]) if match is not None and match[1] == job_id.partition("_")[2] else None


def no_file() -> NotFound:
    """The 404 of OpenAI's `/files/{file_id}`."""
    return NotFound("There is no file with this id.", hint="`GET /v1/files` lists them.", param="file_id")


def no_tuning_job() -> NotFound:
    """The 404 of OpenAI's `/fine_tuning/jobs/{fine_tuning_job_id}`."""
    hint = "`GET /v1/fine_tuning/jobs` lists them."
    return NotFound("There is no fine-tuning job with this id.", hint=hint, param="fine_tuning_job_id")


def _file_team(session: Session, file_id: str) -> str | None:
    return dataset_team(session, own_id(file_id, "file") or "")


def _tuning_team(session: Session, tuning_id: str) -> str | None:
    return job_team(session, own_id(tuning_id, "ftjob") or "")


OPENAI_OWNED: Mapping[str, Owned] = {
    "file_id": Owned(_file_team, lambda _: no_file()),
    "fine_tuning_job_id": Owned(_tuning_team, lambda _: no_tuning_job()),
}
"""Look-ups of the teams of OpenAI's ids; see `access/owners.py`."""
