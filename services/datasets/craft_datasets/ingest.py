"""The stage ingest: splits a dataset, so that no question is on both sides, and passes on what was noticed in it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from craft.contracts.findings import Finding, findings_of
from craft.contracts.stages.artifacts import Manifest, StageResult
from craft.contracts.stages.names import EVALUATED
from craft.contracts.stages.parameters import IngestParameters
from craft.contracts.stages.rows import HELD_OUT_FILE, QUESTIONS_FILE, TRAIN_FILE, QuestionRow
from craft.core.findings import FindingCode, lines_finding
from craft.core.questions import Question
from craft.core.rows.split import Split, question_identity, split
from craft.errors import DatasetInvalid, FindingDetail, Severity
from craft.infra.stage.context import StageContext
from craft.infra.storage.artifacts import MANIFEST_FILE, read_rows, write_rows


def ingest(parameters: IngestParameters, context: StageContext) -> StageResult:
    """Split a dataset into `train.jsonl` and `held_out.jsonl`. Raises DatasetInvalid if a needed side is empty."""
    folder = context.input("dataset")
    skipped = set(parameters.left_out)
    rows = [row for row in _numbered(folder / QUESTIONS_FILE) if row.line not in skipped]
    questions = [row.to_question() for row in rows]
    whole = parameters.held_out_fraction == 1
    parts: Split[Question] = (
        Split(train=(), held_out=tuple(questions))
        if whole
        else split(
            questions,
            held_out_fraction=parameters.held_out_fraction,
            seed=parameters.seed,
            evaluated=_evaluated(context),
        )
    )
    if not parts.held_out or not (parts.train or whole):
        raise DatasetInvalid(
            f"{len(questions)} rows split into {len(parts.train)} for training and {len(parts.held_out)} held out.",
            hint="Rows that ask the same are on one side, and what an evaluation set asks does not train. Both sides "
            "need rows: add rows, or change split.held_out_fraction.",
            param="dataset",
        )
    held_out = {question.id for question in parts.held_out}
    trained = {question.id for question in parts.train}
    write_rows(context.output / TRAIN_FILE, (row for row in rows if row.id in trained))
    write_rows(context.output / HELD_OUT_FILE, (row for row in rows if row.id in held_out))
    return StageResult(
        counts={
            "train": len(parts.train),
            "held_out": len(parts.held_out),
            "left_out": len(parts.left_out) + len(skipped),
            "kept_together": len(parts.kept_together),
        },
        findings=[*_dataset_findings(folder), *findings_of(list(_split_findings(rows, parts)))],
    )


def _numbered(path: Path) -> Iterator[QuestionRow]:
    for line, row in enumerate(read_rows(path, QuestionRow), start=1):
        yield row.model_copy(update={"line": line})


def _evaluated(context: StageContext) -> set[int]:
    """The questions of the evaluation sets: they must not train."""
    return {
        question_identity(row.to_question())
        for role, folder in context.inputs.items()
        if role.startswith(EVALUATED)
        for row in read_rows(folder / QUESTIONS_FILE, QuestionRow)
    }


def _dataset_findings(folder: Path) -> list[Finding]:
    """The findings of the upload, from the dataset's manifest."""
    path = folder / MANIFEST_FILE
    return Manifest.model_validate_json(path.read_bytes()).result.findings if path.is_file() else []


def _split_findings(rows: Sequence[QuestionRow], parts: Split[Question]) -> Iterator[FindingDetail]:
    def asked(places: Sequence[int]) -> list[tuple[int, str]]:
        """`places` count the rows that the job goes on with; the dataset's lines count those left out too."""
        return [(rows[place - 1].line or place, rows[place - 1].question) for place in places]

    if parts.kept_together:
        yield lines_finding(
            FindingCode.KEPT_TOGETHER,
            Severity.WARNING,
            f"{len(parts.kept_together)} rows ask what other rows ask too. They are on one side of the split.",
            asked(parts.kept_together),
            hint="Keep one row for each question: repeated ones weigh more than others.",
            field="question",
        )
    if parts.left_out:
        yield lines_finding(
            FindingCode.EVALUATED_ELSEWHERE,
            Severity.WARNING,
            f"{len(parts.left_out)} rows do not train, because an evaluation set asks the same.",
            asked(parts.left_out),
            field="question",
        )
