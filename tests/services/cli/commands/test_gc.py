"""`craft gc` and pins, against a fake server that gives canned responses and keeps the requests."""

import json
from datetime import timedelta

import pytest
from tests.services.cli.answering import answering
from tests.services.cli.views import JOB_ID, NOW, job_view
from typer.testing import CliRunner

from craft.contracts.public.retention import ExpiredView, GcView
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import RetentionClass, StageKind
from craft_cli.main import app

RUNNER = CliRunner()


def expired(kind: StageKind | None = StageKind.PROBE) -> ExpiredView:
    of_class = RetentionClass.INTERMEDIATE if kind else RetentionClass.SCRATCH
    return ExpiredView(
        retention_class=of_class,
        key="a" * 64 if kind else None,
        kind=kind,
        bytes=3 * 2**20,
        last_used_at=NOW,
        expires_at=NOW + timedelta(days=30),
    )


def gc_view(*views: ExpiredView, dry_run: bool, has_more: bool = False) -> GcView:
    total_bytes = sum(view.bytes for view in views)
    return GcView(dry_run=dry_run, data=list(views), total=len(views), total_bytes=total_bytes, has_more=has_more)


def content(model: GcView) -> bytes:
    return model.model_dump_json().encode()


@pytest.mark.parametrize("words", [["gc"], ["jobs", "pin"], ["jobs", "unpin"]])
def test_it_has_a_help_text(words: list[str]) -> None:
    result = RUNNER.invoke(app, [*words, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_by_default_it_only_shows_what_would_go() -> None:
    with answering(content(gc_view(expired(), expired(None), dry_run=True))) as (url, requests):
        result = RUNNER.invoke(app, ["gc", "--url", url], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    assert requests == ["POST /craft/gc?dry_run=true"]
    assert "probe" in result.output
    assert "2026-02-01 03:04" in result.output
    assert "would go: 2 (6.0 MiB)" in result.output
    assert "craft gc --now" in result.output


def test_a_list_that_was_cut_says_so() -> None:
    with answering(content(gc_view(expired(), dry_run=True, has_more=True))) as (url, _):
        assert "would go: at least 1" in RUNNER.invoke(app, ["gc", "--url", url]).output


def test_now_removes_all_of_it_however_many_calls_that_takes() -> None:
    pages = [gc_view(expired(), dry_run=False, has_more=True), gc_view(expired(None), dry_run=False)]
    with answering(*map(content, pages)) as (url, requests):
        result = RUNNER.invoke(app, ["gc", "--now", "--url", url])
    assert requests == ["POST /craft/gc?dry_run=false"] * 2
    assert "removed: 2 (6.0 MiB)" in result.output
    assert "--now" not in result.output


def test_nothing_to_remove_is_one_line() -> None:
    with answering(content(gc_view(dry_run=True))) as (url, _):
        assert RUNNER.invoke(app, ["gc", "--url", url]).output == "would go: 0 (0 B)\n"


def test_json_is_one_document() -> None:
    with answering(content(gc_view(expired(), dry_run=True))) as (url, _):
        shown = json.loads(RUNNER.invoke(app, ["gc", "--json", "--url", url]).output)
    assert (shown["total"], shown["data"][0]["kind"]) == (1, "probe")


def test_a_job_is_pinned_and_unpinned() -> None:
    pinned = job_view(JobStatus.SUCCEEDED).model_copy(update={"pinned": True})
    free = pinned.model_copy(update={"pinned": False})
    with answering(*(view.model_dump_json().encode() for view in (pinned, free, free))) as (url, requests):
        words = ["--url", url]
        shown = [RUNNER.invoke(app, ["jobs", verb, JOB_ID, *words]).output for verb in ("pin", "unpin")]
        document = json.loads(RUNNER.invoke(app, ["jobs", "unpin", JOB_ID, "--json", *words]).output)
    assert shown == ["pinned\n", "not pinned\n"]
    assert document["pinned"] is False
    assert requests == [f"{method} /craft/jobs/{JOB_ID}/pin" for method in ("PUT", "DELETE", "DELETE")]
