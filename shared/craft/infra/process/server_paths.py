"""Keeps the server's paths out of errors: users know files by name, and the log has the rest."""

import re
from pathlib import Path

from craft.contracts.problems import StageError

_PATH = re.compile(r"(?<![\w/.:~-])/(?:[^\s/'\"`,;:()<>\[\]{}]+/)+[^\s/'\"`,;:()<>\[\]{}]*")


def without_paths(text: str) -> str:
    """The text with each absolute path of this machine cut to its last name.

    A path of another machine, such as one in a question, stays: its first folder is none of ours.
    """
    return _PATH.sub(lambda match: _name(match[0]) if _is_ours(match[0]) else match[0], text)


def stage_error_without_paths(error: StageError) -> StageError:
    """The error with all its texts as a user may see them."""
    return error.model_copy(
        update={
            "message": without_paths(error.message),
            "hint": None if error.hint is None else without_paths(error.hint),
            "last_log_lines": [without_paths(line) for line in error.last_log_lines],
            "findings": [
                finding.model_copy(update={"message": without_paths(finding.message)}) for finding in error.findings
            ],
        }
    )


def _is_ours(path: str) -> bool:
    return Path("/", path.split("/")[1]).is_dir()


def _name(path: str) -> str:
    """The last name, with the full stop or colon of the sentence."""
    return path.rstrip("/").rpartition("/")[2]
