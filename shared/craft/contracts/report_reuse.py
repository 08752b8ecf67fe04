"""Which stages of a job were reused, shown in its report.

A report is an artifact: one for all jobs that ask the same. What a certain job reused is therefore no part of it. The
report leaves a mark in each stage's row, and whoever serves it to a job's reader fills the marks.
"""

import json
import re
from collections.abc import Collection

_MARK = re.compile(rb"<!--reuse ([a-z0-9:_-]+)-->")


def reuse_mark(stage: str) -> str:
    """What stands in a stage's row of the HTML report: nothing that a browser shows."""
    return f"<!--reuse {stage}-->"


def reuse_in_html(html: bytes, reused: Collection[str]) -> bytes:
    """The page with each stage's mark replaced by `reused` or `computed`; in users' text `<` is escaped."""
    return _MARK.sub(lambda mark: b"reused" if mark[1].decode() in reused else b"computed", html)


def reuse_in_json(document: bytes, reused: Collection[str]) -> bytes:
    """`report.json` with `reused` set in each row of `cost`."""
    report = json.loads(document)
    for row in report["cost"]:
        row["reused"] = row["stage"] in reused
    return json.dumps(report, ensure_ascii=False, separators=(",", ":")).encode()
