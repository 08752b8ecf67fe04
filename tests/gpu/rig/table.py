"""The table of all checks: printed, and written as Markdown and JSON."""

from pathlib import Path

from pydantic import BaseModel
from tests.gpu.rig.checks import CheckRow

_WORDS = {True: "ok", False: "BROKEN", None: "-"}


class CheckReport(BaseModel):
    """The whole run: the machine in words, the form, the seconds in all and every row."""

    machine: str
    form: str
    seconds: float
    rows: list[CheckRow]

    @property
    def broken(self) -> list[CheckRow]:
        """The rows whose bound does not hold."""
        return [row for row in self.rows if row.ok is False]


def printed(outcome: CheckReport) -> str:
    """The table with aligned columns, for a terminal."""
    cells = [("what", "measured", "bound", "ok"), *(_cells(row) for row in outcome.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(line[:3], widths, strict=True)), line[3]]) for line in cells]
    return "\n".join([*lines, _summary(outcome)])


def markdown(outcome: CheckReport) -> str:
    """The table for a document."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in _cells(row)) for row in outcome.rows]
    body = "\n".join(f"| {line} |" for line in lines)
    return f"{_summary(outcome)}\n\n| what | measured | bound | ok |\n| --- | --- | --- | --- |\n{body}\n"


def write(outcome: CheckReport, folder: Path) -> None:
    """Write `gpu-check.json` and `gpu-check.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu-check.json").write_text(outcome.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / "gpu-check.md").write_text(markdown(outcome), encoding="utf-8")


def _cells(row: CheckRow) -> tuple[str, str, str, str]:
    measured = " ".join(row.measured.split())
    return f"{row.group}: {row.check}", measured, row.bound, _WORDS[row.ok]


def _summary(outcome: CheckReport) -> str:
    broken = len(outcome.broken)
    judged = sum(row.ok is not None for row in outcome.rows)
    verdict = f"{broken} of {judged} bounds broken" if broken else f"all {judged} bounds hold"
    return f"{outcome.machine}, {outcome.form}: {verdict}, {outcome.seconds:.0f} s."
