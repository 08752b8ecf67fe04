"""The stage ingest: what asks the same is on one side, evaluated questions do not train, and findings are passed on."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from craft.contracts.findings import Finding
from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.names import evaluated_role
from craft.contracts.stages.parameters import IngestParameters
from craft.contracts.stages.rows import HELD_OUT_FILE, QUESTIONS_FILE, TRAIN_FILE, QuestionRow
from craft.core.findings import FindingCode
from craft.core.questions import Task
from craft.errors import DatasetInvalid, Severity
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import FolderStore, read_rows, write_rows
from craft_datasets.ingest import ingest


def row(number: int, question: str | None = None) -> QuestionRow:
    return QuestionRow(id=f"q{number}", question=question or f"Question {number}?", answers=[f"Answer {number}"])


def dataset(folder: Path, rows: Sequence[QuestionRow], *findings: Finding) -> Path:
    """Publish a dataset as its service does."""
    store = FolderStore(folder)
    scratch = store.scratch("dataset")
    write_rows(scratch / QUESTIONS_FILE, rows)
    manifest = store.publish(
        scratch,
        key="0" * 64,
        kind="dataset",
        parameters={},
        inputs={},
        result=StageResult(findings=list(findings)),
    )
    return store.open(manifest.ref)


def split_of(folder: Path, fraction: float = 0.5, **inputs: Path) -> tuple[StageResult, list[list[QuestionRow]]]:
    """Run the stage; return its result and the rows of both sides."""
    output = folder / "output"
    output.mkdir()
    parameters = IngestParameters(task=Task.OPEN_ENDED, held_out_fraction=fraction, seed=1)
    roles = {name if name == "dataset" else evaluated_role(name): path for name, path in inputs.items()}
    result = ingest(parameters, LocalContext(output=output, checkpoint=folder, inputs=roles))
    return result, [list(read_rows(output / name, QuestionRow)) for name in (TRAIN_FILE, HELD_OUT_FILE)]


def test_the_split_loses_nothing_and_remembers_each_rows_line(tmp_path: Path) -> None:
    result, (train, held_out) = split_of(tmp_path, dataset=dataset(tmp_path / "a", [row(n) for n in range(40)]))
    assert {r.id: r.line for r in (*train, *held_out)} == {f"q{n}": n + 1 for n in range(40)}
    assert result.counts == {"train": len(train), "held_out": len(held_out), "left_out": 0, "kept_together": 0}
    assert len(train) + len(held_out) == 40
    assert result.findings == []


def test_two_ids_of_one_question_are_on_one_side_and_the_result_says_so(tmp_path: Path) -> None:
    rows = [row(2 * n + at, f"{'what' if at else 'What'} is thing {n}?") for n in range(60) for at in (0, 1)]
    result, (train, held_out) = split_of(tmp_path, dataset=dataset(tmp_path / "a", rows))
    assert not {r.question.lower() for r in train} & {r.question.lower() for r in held_out}
    [found] = result.findings
    assert (found.code, found.severity, found.count) == (FindingCode.KEPT_TOGETHER, Severity.WARNING, 120)
    assert found.lines == list(range(1, 11))
    assert found.examples[0] == "What is thing 0?"


def test_what_an_out_of_domain_set_asks_does_not_train(tmp_path: Path) -> None:
    own = dataset(tmp_path / "a", [row(n) for n in range(40)])
    asked = [row(100 + n, f"  QUESTION {n}") for n in range(20)]
    result, (train, held_out) = split_of(tmp_path, dataset=own, further=dataset(tmp_path / "b", asked))
    assert {int(r.id[1:]) for r in train} & set(range(20)) == set()
    [found] = result.findings
    assert found.code is FindingCode.EVALUATED_ELSEWHERE
    assert found.count == result.counts["left_out"] == 40 - len(train) - len(held_out) > 0
    assert all(line <= 20 for line in found.lines)


def test_a_set_that_asks_other_things_changes_no_byte(tmp_path: Path) -> None:
    own = dataset(tmp_path / "a", [row(n) for n in range(40)])
    other = dataset(tmp_path / "b", [row(n, f"Other {n}") for n in range(5)])
    outputs = []
    sets: dict[str, dict[str, Path]] = {"one": {"dataset": own}, "two": {"dataset": own, "further": other}}
    for name, inputs in sets.items():
        (tmp_path / name).mkdir()
        split_of(tmp_path / name, 0.5, **inputs)
        outputs.append([(tmp_path / name / "output" / file).read_bytes() for file in (TRAIN_FILE, HELD_OUT_FILE)])
    assert outputs[0] == outputs[1]


def test_findings_of_the_upload_are_passed_on(tmp_path: Path) -> None:
    noticed = Finding(
        code=FindingCode.REPEATED_QUESTIONS, severity=Severity.WARNING, message="Twice.", accepted=True, count=2
    )
    result, _ = split_of(tmp_path, dataset=dataset(tmp_path / "a", [row(n) for n in range(40)], noticed))
    assert result.findings == [noticed]


def test_lines_to_go_on_without_are_on_no_side(tmp_path: Path) -> None:
    own = dataset(tmp_path / "a", [row(n) for n in range(40)])
    parameters = IngestParameters(task=Task.OPEN_ENDED, held_out_fraction=0.5, seed=1, left_out=[1, 40])
    output = tmp_path / "output"
    output.mkdir()
    result = ingest(parameters, LocalContext(output=output, checkpoint=tmp_path, inputs={"dataset": own}))
    kept = [r for name in (TRAIN_FILE, HELD_OUT_FILE) for r in read_rows(output / name, QuestionRow)]
    assert sorted(r.line or 0 for r in kept) == list(range(2, 40))
    assert result.counts["left_out"] == 2


def test_an_evaluation_set_is_held_out_whole(tmp_path: Path) -> None:
    result, _ = split_of(tmp_path, 1.0, dataset=dataset(tmp_path / "a", [row(n) for n in range(40)]))
    assert (result.counts["train"], result.counts["held_out"]) == (0, 40)


def test_one_question_however_often_cannot_be_split(tmp_path: Path) -> None:
    own = dataset(tmp_path / "a", [row(n, "The same?") for n in range(5)])
    with pytest.raises(DatasetInvalid, match="5 rows split into") as raised:
        split_of(tmp_path, dataset=own)
    assert "Rows that ask the same" in str(raised.value.hint)
