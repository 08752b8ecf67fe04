"""Where the operator says how large the training device is, what cannot fit is told at submission, with lines."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.infra.models.inspection.folders import model
from tests.services.gateway.rigs.dataset_rig import row_checking_rig
from tests.services.gateway.rigs.public_rig import Rig, body, model_folder, rows

from craft.contracts.spec.jobs import JobSpec, TrainingSettings
from craft.contracts.stages.parameters import TrainerRef
from craft.errors import RequestInvalid
from craft.infra.models.shape import read_shape
from craft.infra.models.training_memory import PassSize, longest_row, training_memory
from craft.infra.settings.training import TrainingServiceSettings
from craft_gateway.jobs.training_room import TrainingRoom, training_room

MODEL = "tiny/shaped"
TRAINER = TrainerRef(dtype="bfloat16", device="cuda")
TOKENS = 300


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A model of which the training device holds rows of about 300 tokens."""
    with row_checking_rig(tmp_path) as rig:
        folder = model_folder(rig.models, MODEL)
        tokenizer = model(tmp_path / "tokenizer")
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(tokenizer / name, folder / name)
        training = TrainingServiceSettings(device="cuda", device_gib=device_bytes(folder) / 2**30)
        rig.settings = rig.settings.model_copy(update={"training": training})
        yield rig


def device_bytes(folder: Path, *, tokens: int = TOKENS) -> int:
    memory = training_memory(read_shape(folder), TrainingSettings(), weight_bytes=2)
    size = PassSize(tokens=tokens, logits=1, pairs=tokens**2)
    return memory.weights + memory.adapter + int(0.8 * memory.pass_bytes(size, checkpointed=True))


def asked(rig_rows: list[dict[str, Any]], **changes: Any) -> JobSpec:
    short = {"max_new_tokens": 10, "shots": [{"question": "Who?", "answers": ["She"]}]}
    sent = body(**{"base_model": {"id": MODEL}, "dataset": {"rows": rig_rows}, "probe": short, **changes})
    return JobSpec.model_validate_json(json.dumps(sent))


def test_a_row_over_the_devices_memory_is_told_at_submission_with_its_line(rig: Rig) -> None:
    given = [*rows(60), {"id": "long", "question": "Why " + "x" * 290, "answers": ["y"]}]
    with pytest.raises(RequestInvalid) as raised:
        rig.submissions.validate(asked(given), team="default")
    [found] = raised.value.findings
    assert (found.code, found.lines) == ("rows_too_long", (61,))
    assert f"than the {TOKENS} that the training device's memory holds" in found.message
    assert "lora_r" in str(found.hint)
    accepted = rig.submissions.validate(asked(given, accept=["rows_too_long"]), team="default")
    assert [each.code for each in accepted.findings] == ["rows_too_long"]
    rig.settings = rig.settings.model_copy(update={"training": TrainingServiceSettings(device="cuda")})
    assert rig.submissions.validate(asked(given), team="default").findings == []


def test_a_model_over_the_devices_memory_is_refused(rig: Rig) -> None:
    training = TrainingServiceSettings(device="cuda", device_gib=1e-6)
    rig.settings = rig.settings.model_copy(update={"training": training})
    with pytest.raises(RequestInvalid, match="weights and its adapter take") as raised:
        rig.submissions.validate(asked(rows(60)), team="default")
    assert raised.value.param == "training"
    assert "nf4" in str(raised.value.hint)


def test_a_device_that_holds_more_than_max_length_changes_nothing(tmp_path: Path) -> None:
    shape = read_shape(model_folder(tmp_path, MODEL))
    spec = asked(rows(2), strategies=["craft"])
    roomy = training_room(spec, shape, TRAINER, device_bytes=80 * 2**30)
    assert roomy == TrainingRoom()
    assert roomy.narrowed(spec) == spec
    assert training_room(spec, shape, TRAINER, device_bytes=None) == TrainingRoom()
    assert training_room(spec, None, TRAINER, device_bytes=1) == TrainingRoom()


def test_rehearsal_has_its_own_room(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, MODEL)
    spec = asked(rows(2), strategies=["craft"], training={"lora_r": 1})
    room = training_room(spec, read_shape(folder), TRAINER, device_bytes=device_bytes(folder))
    assert room.tokens["rehearsal.training.max_length"] == TOKENS
    assert room.tokens.get("training.max_length", 10**6) > TOKENS
    narrowed = room.narrowed(spec)
    assert narrowed.rehearsal.training.max_length == TOKENS
    assert narrowed.rehearsal.training.lora_r == spec.rehearsal.training.lora_r
    plain = training_room(asked(rows(2)), read_shape(folder), TRAINER, device_bytes=device_bytes(folder))
    assert set(plain.tokens) == {"training.max_length"}


def test_the_longest_row_is_the_last_that_may_fit(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, MODEL)
    memory = training_memory(read_shape(folder), TrainingSettings(), weight_bytes=2)
    for tokens in (1, 17, 5000):
        assert longest_row(memory, device_bytes=device_bytes(folder, tokens=tokens)) in range(tokens - 1, tokens + 1)
    assert longest_row(memory, device_bytes=0) == 0
