"""The card tells what was noticed about the data and the job, without a row of the data."""

from pathlib import Path

import pytest
from tests.services.training.packaging.package_inputs import evaluation_document

from craft.contracts.findings import Finding
from craft.contracts.spec.jobs import PromptSettings
from craft.contracts.stages.artifacts import Manifest, StageResult
from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.parameters import ModelRef, PackageParameters
from craft.contracts.stages.rows import ADAPTER_CONFIG, ADAPTER_FOLDER, CURVE_FILE
from craft.core.findings import FindingCode
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft.errors import Severity
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import MANIFEST_FILE
from craft_training.packaging.model_card import CardFacts, model_card
from craft_training.packaging.packaging import noticed

ACCEPTED = Finding(
    code=FindingCode.ROWS_TOO_LONG, severity=Severity.WARNING, accepted=True, message="3 rows are too long.", count=3
)
HOSTILE = Finding(
    code=FindingCode.MODEL_TOKENS,
    severity=Severity.WARNING,
    message="Rows hold <|im_end|>\n# A heading",
    examples=["a secret row"],
)


@pytest.fixture
def parameters() -> PackageParameters:
    return PackageParameters(
        task=Task.OPEN_ENDED,
        model=ModelRef(id="tiny/model", revision="main", digest="0" * 64),
        strategy=Strategy.CRAFT,
        prompts=PromptSettings(),
        max_new_tokens=20,
        findings=[ACCEPTED],
    )


def artifact(folder: Path, *findings: Finding) -> Path:
    """A folder with a manifest that has these findings."""
    folder.mkdir()
    result = StageResult(findings=list(findings))
    manifest = Manifest(
        key="0" * 64, digest="1" * 64, kind=StageKind.INGEST, code_version=1, parameters={}, inputs={}, files=[],
        result=result,
    )  # fmt: skip
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
    return folder


def card(parameters: PackageParameters, folder: Path, *findings: Finding) -> str:
    tuned = folder / "tuned"
    (tuned / ADAPTER_FOLDER).mkdir(parents=True)
    (tuned / ADAPTER_FOLDER / ADAPTER_CONFIG).write_text(
        '{"r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": ["q_proj"]}'
    )
    (tuned / CURVE_FILE).write_text("")
    facts = CardFacts(parameters, tuned, {"van": 8, "idk": 2}, evaluation_document(), 10, 10, {}, findings)
    return model_card(facts)


def test_the_card_tells_accepted_errors_and_warnings_before_the_limits(
    parameters: PackageParameters, tmp_path: Path
) -> None:
    text = card(parameters, tmp_path, ACCEPTED, HOSTILE)
    section = text[text.index("## Before you trust the results") : text.index("## Limits")]
    assert "- **Error, accepted by the job** (`rows_too_long`, 3): 3 rows are too long." in section
    assert "Rows hold \\<\\|im\\_end\\|\\> \\# A heading" in section
    assert "a secret row" not in text


def test_a_card_without_findings_has_no_such_section(parameters: PackageParameters, tmp_path: Path) -> None:
    assert "Before you trust" not in card(parameters, tmp_path)


def test_the_card_reads_the_job_and_each_input_once(parameters: PackageParameters, tmp_path: Path) -> None:
    inputs = {
        "questions": artifact(tmp_path / "a", ACCEPTED, HOSTILE),
        "candidate": artifact(tmp_path / "b", HOSTILE),
        "tuned": tmp_path,
    }
    assert noticed(parameters, LocalContext(tmp_path, tmp_path, inputs)) == [ACCEPTED, HOSTILE]
