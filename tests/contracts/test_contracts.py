"""Models survive serialisation unchanged, and refuse unknown members."""

import pytest
from pydantic import ValidationError

from craft.contracts.problems import Problem, StageError
from craft.contracts.spec.jobs import DatasetRef, JobSpec, JobStatus
from craft.contracts.stages.artifacts import ArtifactRef, Manifest, StageResult, artifact_digest, stage_key
from craft.contracts.stages.kinds import FACTS, StageKind
from craft.contracts.stages.parameters import PARAMETERS, FlowParameters, IngestParameters
from craft.contracts.stages.rows import ProbeRow, QuestionRow
from craft.core.questions import ChoiceQuestion, OpenQuestion, Task
from craft.core.strategies import Strategy
from craft.errors import DatasetInvalid, ErrorDetail

REF = ArtifactRef(key="0" * 64, digest="1" * 64)
OTHER = ArtifactRef(key="2" * 64, digest="3" * 64)


@pytest.mark.parametrize(
    "question",
    [
        OpenQuestion("a", "Who?", ("Ada", "Ada Lovelace"), "people"),
        ChoiceQuestion("b", "Which?", ("x", "y", "z"), 2),
    ],
)
def test_a_question_survives_its_row(question: OpenQuestion | ChoiceQuestion) -> None:
    row = QuestionRow.model_validate_json(QuestionRow.of(question).model_dump_json(exclude_none=True))
    assert row.to_question() == question
    assert row.task is (Task.OPEN_ENDED if isinstance(question, OpenQuestion) else Task.MULTIPLE_CHOICE)


def test_a_letter_without_probability_survives_its_row() -> None:
    row = ProbeRow(id="a", logprobs=[-0.5, float("-inf")])
    assert ProbeRow.model_validate_json(row.model_dump_json()).logprobs == [-0.5, None]


@pytest.mark.parametrize(
    "change",
    [
        {"colour": "red"},
        {"strategies": []},
        {"strategies": ["craft", "craft"]},
        {"strategies": ["magic"]},
        {"name": "nul \x00"},
        {"labels": {"a": "\x00"}},
        {"dataset": {}},
        {"dataset": {"id": "dset_01jgywz3x4v5q6r7s8t9vawbxc", "rows": []}},
        {"dataset": {"id": "../../etc"}},
        {"base_model": {"id": "../secret"}},
        {"base_model": {"id": "a", "revision": "../x"}},
        {"seed": -1},
        {"training": {"max_grad_norm": float("inf")}},
        {"split": {"held_out_fraction": 1.0}},
    ],
)
def test_a_job_that_is_not_understood_is_refused(change: dict[str, object]) -> None:
    good: dict[str, object] = {"base_model": {"id": "owner/model"}, "dataset": {"rows": [{}]}}
    assert JobSpec.model_validate(good).strategies == [Strategy.CRAFT]
    with pytest.raises(ValidationError):
        JobSpec.model_validate({**good, **change})


def test_three_statuses_are_final() -> None:
    assert {status for status in JobStatus if status.terminal} == {"succeeded", "failed", "cancelled"}


def test_a_problem_carries_a_hundred_details_and_says_what_to_do() -> None:
    error = DatasetInvalid("bad", hint="mend", details=[ErrorDetail("wrong", "answers", n, "x") for n in range(150)])
    problem = Problem.of(error, request_id="r")
    assert (problem.status, problem.code, problem.hint, len(problem.errors)) == (422, "dataset_invalid", "mend", 100)
    report = StageError.of(error)
    assert (report.code, report.message, report.retryable, len(report.errors)) == ("dataset_invalid", "bad", False, 100)


def test_every_kind_of_stage_has_a_service_a_version_and_parameters() -> None:
    kinds = set(StageKind)
    assert set(FACTS) == kinds
    schema = PARAMETERS.json_schema()
    assert set(schema["discriminator"]["mapping"]) == {kind.value for kind in kinds}


def test_a_key_depends_on_parameters_and_inputs_and_nothing_else() -> None:
    ingest = IngestParameters(task=Task.OPEN_ENDED, held_out_fraction=0.5, seed=1)
    keys = {
        stage_key(ingest, {"dataset": REF}),
        stage_key(ingest, {"dataset": OTHER}),
        stage_key(ingest.model_copy(update={"seed": 2}), {"dataset": REF}),
        stage_key(FlowParameters(), {"before": REF, "after": OTHER}),
        stage_key(FlowParameters(), {"after": REF, "before": OTHER}),
    }
    assert len(keys) == 5
    assert stage_key(FlowParameters(), {"before": REF, "after": OTHER}) == stage_key(
        FlowParameters(), {"after": OTHER, "before": REF}
    )
    # Another way to the same bytes is the same input.
    assert stage_key(ingest, {"dataset": REF}) == stage_key(
        ingest, {"dataset": ArtifactRef(key=OTHER.key, digest=REF.digest)}
    )


def test_a_digest_is_of_the_content_in_any_order() -> None:
    assert artifact_digest({"a": "1", "b": "2"}) == artifact_digest({"b": "2", "a": "1"})
    assert artifact_digest({"a": "1"}) != artifact_digest({"a": "2"}) != artifact_digest({"b": "2"})


def test_a_manifest_points_at_itself() -> None:
    manifest = Manifest(
        key=REF.key,
        digest=REF.digest,
        kind="dataset",
        code_version=1,
        parameters={},
        inputs={},
        files=[],
        result=StageResult(),
    )
    assert manifest.ref == REF


def test_a_dataset_is_an_id_or_rows() -> None:
    assert DatasetRef(rows=[]).id is None
