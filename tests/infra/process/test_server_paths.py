"""Errors that users see name files and not the server's folders."""

from pathlib import Path

import pytest

from craft.contracts.findings import Finding
from craft.contracts.problems import StageError
from craft.core.findings import FindingCode
from craft.errors import Fault, Severity
from craft.infra.process.error_mapping import error_of
from craft.infra.process.server_paths import stage_error_without_paths, without_paths

HERE = str(Path(__file__).parent)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"{HERE}/model.safetensors is broken", "model.safetensors is broken"),
        (f"Unable to load '{HERE}/a/b.json'.", "Unable to load 'b.json'."),
        (f"no such file ({HERE}/x), try again", "no such file (x), try again"),
        (f"at {HERE}/folder/: nothing", "at folder: nothing"),
        ("see https://example.org/usr/lib/x and and/or", "see https://example.org/usr/lib/x and and/or"),
        ("What lies in /atlantis/north/harbour?", "What lies in /atlantis/north/harbour?"),
        ("3/4 of km/h", "3/4 of km/h"),
    ],
)
def test_a_path_of_this_machine_is_cut_to_its_name(text: str, shown: str) -> None:
    assert without_paths(text) == shown


def test_all_texts_of_a_stages_error_are_cleaned() -> None:
    finding = Finding(code=FindingCode.MODEL_TOKENS, severity=Severity.WARNING, message=f"{HERE}/q")
    error = StageError(
        code="internal",
        fault=Fault.SYSTEM,
        retryable=False,
        message=f"{HERE}/m",
        hint=f"look at {HERE}/h",
        findings=[finding],
        last_log_lines=[f'File "{HERE}/l.py", line 3'],
    )
    assert HERE not in stage_error_without_paths(error).model_dump_json()


def test_an_unknown_exception_is_told_without_paths(tmp_path: Path) -> None:
    try:
        (tmp_path / "artifacts" / "rows.jsonl").read_bytes()
    except OSError as raised:
        error = error_of(raised)
    assert str(tmp_path) not in error.message
    assert "rows.jsonl" in error.message
