"""What stands in a terminal of 80 columns."""

import pytest
from rich.cells import cell_len
from tests.services.cli.answering import answering
from tests.services.cli.terminal import COLUMNS, in_terminal
from tests.services.cli.views import JOB_ID, NOW, as_sse, ended_view, event, job_view, report_document

from craft.contracts.public.accounts import KeyList, KeyView, Role
from craft.contracts.public.jobs import JobList, JobView, Progress, QueueEntry, QueueView, ReportView
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef

NAME = "a rather long name of a run that ends with its date"
STAGE = "answer:craft-no-certainty"
REASON = "probe:initial waits for a free inference worker: device is busy with tune:craft-no-flow of 'ablation'"


def page() -> JobList:
    jobs = [
        job_view(status).model_copy(update={"name": NAME, "progress": Progress(percent=31.0, stage=STAGE)})
        for status in (JobStatus.RUNNING, JobStatus.CANCELLING)
    ]
    return JobList(data=jobs, has_more=False, last_id=None)


def shown(content: bytes, *words: str, columns: int = COLUMNS) -> list[str]:
    with answering(content) as (url, _):
        return in_terminal(*words, "--url", url, columns=columns)


def test_jobs_have_whole_ids_and_statuses_in_80_columns_and_no_boxes() -> None:
    lines = shown(page().model_dump_json().encode(), "jobs", "ls")
    assert lines[0].split() == ["name", "status", "done", "age", "id"]
    assert len(lines) == 3
    for line, status in zip(lines[1:], ("running", "cancelling"), strict=True):
        assert line.startswith("a rather long name")
        assert f"  {status} " in line
        assert line.endswith(f"d  {JOB_ID}")
        assert cell_len(line) <= COLUMNS
    assert not set("│┃━└╇") & set("".join(lines))


def test_a_wide_terminal_has_the_stage_and_more_of_the_name() -> None:
    lines = shown(page().model_dump_json().encode(), "jobs", "ls", columns=140)
    assert all(NAME in line and STAGE in line for line in lines[1:])


def test_the_reason_why_a_job_waits_is_readable() -> None:
    entry = QueueEntry(
        job_id=JOB_ID,
        name="ux-tiny",
        status=JobStatus.QUEUED,
        team="default",
        priority=50,
        position=2,
        waited_seconds=30,
        reason=REASON,
    )
    lines = shown(QueueView(running=0, waiting=1, data=[entry]).model_dump_json().encode(), "queue")
    assert JOB_ID in lines[1]
    assert " ".join(" ".join(lines[2:]).split()) == REASON
    assert all(line.startswith("    ") and len(line) <= COLUMNS for line in lines[2:])


def test_keys_fit() -> None:
    key = KeyView(
        id=JOB_ID.replace("cjob", "ckey"),
        name="nightly runs of the search team",
        team="search",
        role=Role.EDITOR,
        scopes=[],
        created_by="ckey_x",
        created_at=NOW,
        expires_at=NOW,
        last_used_at=NOW,
        revoked_at=None,
    )
    lines = shown(KeyList(data=[key], has_more=False, last_id=None).model_dump_json().encode(), "keys", "ls")
    assert "expired" in lines[1]
    assert lines[1].endswith(key.id)
    assert len(lines[1]) <= COLUMNS


def test_a_report_breaks_between_words_and_says_what_ths_is() -> None:
    lines = shown(report_document().model_dump_json().encode(), "jobs", "report", JOB_ID)
    assert max(map(len, lines)) <= COLUMNS
    assert "right Pc" in lines[1]
    assert "THS rewards right answers" in " ".join(lines)


def test_an_error_breaks_between_words() -> None:
    lines = shown(job_view(JobStatus.FAILED).model_dump_json().encode(), "jobs", "get", JOB_ID)
    assert "4 known questions are wanted" in " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize("has_report", [True, False])
def test_watching_ends_with_the_time_the_gain_and_the_next_commands(*, has_report: bool) -> None:
    digest = "0" * 64
    report = ReportView(artifact=ArtifactRef(key=digest, digest=digest), json_url="x", html_url="x")
    view: JobView = ended_view().model_copy(update={"report": report if has_report else None})
    answers = [as_sse(event(1, "job.succeeded")), view.model_dump_json().encode()]
    with answering(*answers, report_document().model_dump_json().encode()) as (url, asked):
        lines = in_terminal("jobs", "watch", JOB_ID, "--url", url)
    text = "\n".join(lines)
    assert "a name succeeded after 12:03" in text
    assert f"  craft jobs report {JOB_ID} -o report.html" in text
    assert ("THS on held_out" in text) == has_report
    assert len(asked) == (3 if has_report else 2)
