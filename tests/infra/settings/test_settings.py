"""Settings come from the environment, have local defaults, and show no secret."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from craft.contracts.stages.kinds import RetentionClass
from craft.infra.settings.settings import Settings


def test_everything_listens_on_loopback_by_default() -> None:
    settings = Settings()
    parts = (settings.gateway, settings.coordinator, settings.datasets)
    more = (settings.inference, settings.scoring, settings.training)
    assert {part.host for part in (*parts, *more)} == {"127.0.0.1"}
    assert [part.port for part in (*parts, *more)] == [8080, 8085, 8081, 8082, 8083, 8084]


def test_local_defaults_lie_below_the_state_folder(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/craft.db"
    assert settings.resolved_broker_url == f"redis+socket://{tmp_path}/valkey.sock"
    assert settings.resolved_artifacts_dir == tmp_path / "artifacts"
    assert settings.resolved_models_dir == tmp_path / "models"
    assert settings.resolved_coordinator_url == "http://127.0.0.1:8085"
    assert settings.resolved_datasets_url == "http://127.0.0.1:8081"


def test_a_team_names_its_own_parts() -> None:
    settings = Settings(
        database_url="postgresql://db/craft",
        broker_url="redis://broker/0",
        artifacts_dir=Path("/data/artifacts"),
        models_dir=Path("/data/models"),
        coordinator_url="http://coordinator:8085",
        datasets_url="http://datasets:8081",
    )
    assert settings.resolved_database_url == "postgresql://db/craft"
    assert settings.resolved_broker_url == "redis://broker/0"
    assert settings.resolved_artifacts_dir == Path("/data/artifacts")
    assert settings.resolved_models_dir == Path("/data/models")
    assert settings.resolved_coordinator_url == "http://coordinator:8085"
    assert settings.resolved_datasets_url == "http://datasets:8081"


def test_the_environment_reaches_nested_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAFT_INFERENCE__PORT", "9000")
    monkeypatch.setenv("CRAFT_WORKER__GRACE_SECONDS", "1.5")
    settings = Settings()
    assert settings.inference.port == 9000
    assert settings.worker.grace_seconds == 1.5


def test_the_embedded_engine_on_a_gpu_is_refused_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAFT_INFERENCE__DEVICE", "cuda")
    with pytest.raises(ValidationError, match="CRAFT_INFERENCE__ENGINE=vllm"):
        Settings()
    monkeypatch.setenv("CRAFT_INFERENCE__ENGINE", "vllm")
    assert Settings().inference.device == "cuda"


def test_the_workers_token_is_not_printed() -> None:
    assert "sesame" not in repr(Settings(worker_token=SecretStr("sesame")))


def test_vllms_rank_is_read_from_the_environment_and_must_be_one_that_it_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CRAFT_INFERENCE__VLLM__MAX_LORA_RANK", "16")
    assert Settings().inference.vllm.max_lora_rank == 16
    monkeypatch.setenv("CRAFT_INFERENCE__VLLM__MAX_LORA_RANK", "17")
    with pytest.raises(ValidationError, match="vLLM knows the ranks 8, 16"):
        Settings()


def test_a_lifetime_is_a_number_of_days_or_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAFT_RETENTION__RESULT_DAYS", "never")
    monkeypatch.setenv("CRAFT_RETENTION__SCRATCH_DAYS", "0.5")
    retention = Settings().retention
    assert retention.lifetime(RetentionClass.RESULT) is None
    assert retention.lifetime(RetentionClass.SCRATCH) == timedelta(hours=12)
    assert [retention.lifetime(name) for name in RetentionClass if name is not RetentionClass.RESULT].count(None) == 0
    monkeypatch.setenv("CRAFT_RETENTION__RESULT_DAYS", "-1")
    with pytest.raises(ValidationError, match="result_days"):
        Settings()


@pytest.mark.parametrize("setting", ["SCRATCH_DAYS", "ORPHAN_DAYS"])
def test_what_may_still_be_written_to_is_kept_for_some_time(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(f"CRAFT_RETENTION__{setting}", "never")
    Settings()
    monkeypatch.setenv(f"CRAFT_RETENTION__{setting}", "0")
    with pytest.raises(ValidationError, match=setting.lower()):
        Settings()


def test_log_lines_are_kept_for_days_or_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().retention.log_lifetime == timedelta(days=90)
    monkeypatch.setenv("CRAFT_RETENTION__LOG_DAYS", "never")
    assert Settings().retention.log_lifetime is None


def test_tests_begin_with_the_defaults_whatever_the_shell_exports() -> None:
    exported = {"CRAFT_MODELS_DIR": "/elsewhere", "CRAFT_GATEWAY__HOST": "0.0.0.0", "CRAFT_URL": "http://elsewhere"}
    named = (test_everything_listens_on_loopback_by_default, test_local_defaults_lie_below_the_state_folder)
    words = ["-q", "-p", "no:cacheprovider", *(f"{__file__}::{test.__name__}" for test in named)]
    command = [sys.executable, "-m", "pytest", *words]
    done = subprocess.run(command, env=os.environ | exported, capture_output=True, check=False)
    assert (done.returncode, b"2 passed" in done.stdout) == (0, True), done.stdout.decode()
