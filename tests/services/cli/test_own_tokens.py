"""No program of ours starts without the token that it needs, and `craft up` gives each start new ones."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from craft.infra.settings.settings import Settings
from craft_cli.stack import Stack, environment

NEEDED = {
    "craft_gateway.api": "CRAFT_SERVICE_TOKEN",
    "craft_gateway.coordinator": "CRAFT_WORKER_TOKEN",
    "craft_datasets.api": "CRAFT_SERVICE_TOKEN",
    "craft_inference.api": "CRAFT_SERVICE_TOKEN",
    "craft_scoring.api": "CRAFT_SERVICE_TOKEN",
    "craft_training.api": "CRAFT_SERVICE_TOKEN",
    "craft_datasets.worker": "CRAFT_WORKER_TOKEN",
    "craft_inference.worker": "CRAFT_WORKER_TOKEN",
    "craft_scoring.worker": "CRAFT_WORKER_TOKEN",
    "craft_training.worker": "CRAFT_WORKER_TOKEN",
    "craft_inference.model_server": "CRAFT_MODEL_SERVER_TOKEN",
}
TOKENS = sorted(set(NEEDED.values()))


@pytest.mark.parametrize("module", NEEDED)
def test_a_program_without_its_token_ends_in_words(tmp_path: Path, module: str) -> None:
    settings = {"CRAFT_STATE_DIR": str(tmp_path), "CRAFT_GATEWAY__PORT": "1"}
    ended = subprocess.run(
        [sys.executable, "-m", module],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    assert f"{NEEDED[module]} is not set." in ended.stderr


def test_each_start_of_the_local_stack_has_new_tokens(tmp_path: Path) -> None:
    first, second = (environment(Settings(state_dir=tmp_path)) for _ in range(2))
    values = [made[name] for made in (first, second) for name in TOKENS]
    assert len(set(values)) == len(values)
    assert min(map(len, values)) >= 32


def test_the_local_stack_keeps_tokens_that_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TOKENS:
        monkeypatch.setenv(name, f"own {name}")
    made = environment(Settings(state_dir=tmp_path))
    assert {name: made[name] for name in TOKENS} == {name: f"own {name}" for name in TOKENS}


def test_only_its_owner_reads_the_services_token_of_the_local_stack(tmp_path: Path) -> None:
    for _ in range(2):
        Stack(Settings(state_dir=tmp_path), say=lambda _: None)
    kept = tmp_path / "service.token"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert len(kept.read_text()) >= 32
