"""A Celery process stays small: only its child imports the libraries of stages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import tokens

STARTED = """
import importlib, sys
from celery.apps.worker import Worker
{before}
Worker.start = lambda self: print(*sys.modules)
importlib.import_module(sys.argv[1]).main()
"""
HEAVY = {"torch", "transformers", "vllm", "peft", "sentence_transformers", "safetensors", "jinja2"}


def modules_of_a_started(service: str, folder: Path, before: str = "", **environment: str) -> set[str]:
    """The modules that a worker has imported when it is ready for its first message; no broker is needed."""
    started = subprocess.run(
        [sys.executable, "-c", STARTED.format(before=before), f"craft_{service}.worker"],
        env=os.environ | tokens.ENVIRONMENT | {"CRAFT_STATE_DIR": str(folder)} | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return set(started.stdout.split())


@pytest.mark.parametrize(
    ("service", "environment"),
    [
        ("datasets", {}),
        ("scoring", {}),
        ("training", {}),
        ("inference", {}),
        ("inference", {"CRAFT_INFERENCE__ENGINE": "vllm"}),
    ],
    ids=["datasets", "scoring", "training", "inference", "inference with vllm"],
)
def test_a_worker_waits_for_its_first_message_without_heavy_libraries(
    service: str, environment: dict[str, str], tmp_path: Path
) -> None:
    modules = modules_of_a_started(service, tmp_path, **environment)
    assert {"celery.worker.consumer", f"craft_{service}.worker"} <= modules
    assert modules & HEAVY == set()


def test_a_heavy_library_would_be_seen(tmp_path: Path) -> None:
    assert "safetensors" in modules_of_a_started("datasets", tmp_path, before="import safetensors")
