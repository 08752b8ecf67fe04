"""Sections that the gateway adds to a finished report: the estimate's outcome, and stages that were reused."""

import json
from collections.abc import Collection

from craft.contracts.documents.estimate import EstimateOutcome, StageOutcome
from craft.contracts.documents.report import REUSE_MARK

_END = b"</main>"


def estimate_in_json(document: bytes, outcome: EstimateOutcome | None) -> bytes:
    """`report.json` with `estimate` set."""
    report = json.loads(document)
    report["estimate"] = None if outcome is None else outcome.model_dump(mode="json")
    return json.dumps(report, ensure_ascii=False, separators=(",", ":")).encode()


def estimate_in_html(html: bytes, outcome: EstimateOutcome | None) -> bytes:
    """The page with a section of its own at the end, where anything was estimated and then took time."""
    head, end, rest = html.rpartition(_END)
    if not end or outcome is None or not outcome.compared:
        return html
    return b"".join((head, _section(outcome).encode(), end, rest))


def _section(outcome: EstimateOutcome) -> str:
    # Stages' names are ours and hold nothing to escape.
    rows = "".join(_row(stage) for stage in outcome.stages if stage.seconds is not None)
    ratio = "" if outcome.ratio is None else f", {outcome.ratio:.2f} times as much"
    return (
        '<section id="estimate"><h2>Estimate and outcome</h2>'
        f"<p>Estimated when the job was accepted: {outcome.estimated_seconds:.1f}\u00a0s for the {outcome.compared} "
        f"stages of which this installation knew enough. They took {outcome.seconds:.1f}\u00a0s{ratio}.</p>"
        "<table><thead><tr><th>stage</th><th>estimated, s</th><th>interval, s</th><th>took, s</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section>"
    )


def _row(stage: StageOutcome) -> str:
    estimated = "unknown" if stage.estimated_seconds is None else f"{stage.estimated_seconds:.1f}"
    interval = "" if stage.low is None or stage.high is None else f"{stage.low:.1f} to {stage.high:.1f}"
    return f"<tr><td>{stage.stage}</td><td>{estimated}</td><td>{interval}</td><td>{stage.seconds:.1f}</td></tr>"


def reuse_in_html(html: bytes, reused: Collection[str]) -> bytes:
    """The page with each stage's mark replaced by `reused` or `computed`; in users' text `<` is escaped."""
    return REUSE_MARK.sub(lambda mark: b"reused" if mark[1].decode() in reused else b"computed", html)


def reuse_in_json(document: bytes, reused: Collection[str]) -> bytes:
    """`report.json` with `reused` set in each row of `cost`."""
    report = json.loads(document)
    for row in report["cost"]:
        row["reused"] = row["stage"] in reused
    return json.dumps(report, ensure_ascii=False, separators=(",", ":")).encode()
