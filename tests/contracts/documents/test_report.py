"""The marker by which the gateway finds a stage's row in a finished report."""

import pytest

from craft.contracts.documents.report import REUSE_MARK, reuse_mark


@pytest.mark.parametrize("stage", ["ingest", "ingest:web-2025", "ingest:web.v1", "tune:craft-no-flow", "rehearsal_set"])
def test_a_mark_is_found_again_and_names_its_stage(stage: str) -> None:
    assert REUSE_MARK.findall(f"<td>{reuse_mark(stage)}</td>".encode()) == [stage.encode()]
