"""The options of our command line, read by vLLM's own parser. No server is started."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.vllm.conftest import VLLM_PYTHON

from craft.contracts.services.model_server import ServedBase
from craft.contracts.stages.parameters import ModelRef
from craft.infra.settings.inference import InferenceSettings, VllmSettings
from craft_inference.model_server.command import Served, ServerPlaces, vllm_command
from craft_inference.model_server.memory.context import Context

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

PARSE = """
import json, sys
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parsed = [make_arg_parser(FlexibleArgumentParser()).parse_args(words) for words in json.loads(sys.argv[1])]
fields = json.loads(sys.argv[2])
print(json.dumps([{name: getattr(one, name) for name in fields} for one in parsed], default=str))
"""


def read_by_vllm(commands: list[list[str]], fields: list[str]) -> list[dict[str, object]]:
    """The fields of vLLM's parsed arguments, for each command line."""
    done = subprocess.run(
        [str(VLLM_PYTHON), "-c", PARSE, json.dumps(commands), json.dumps(fields)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"},
    )
    found: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return found


def words(device: str, *, context: Context = 2048, can_sleep: bool = False, **vllm: object) -> list[str]:
    settings = InferenceSettings.model_validate(
        {"engine": "vllm", "device": device, "vllm": VllmSettings.model_validate(vllm)}
    )
    places = ServerPlaces(models=Path("/models"), adapters=Path("/adapters"), socket=Path("/private/s"))
    base = ServedBase(model=ModelRef(id="team/a", revision="main", digest="d" * 64), dtype="bfloat16")
    served = Served(base, context, can_sleep=can_sleep)
    return list(vllm_command(settings, places, python=Path("python"), served=served).arguments[3:])


def test_vllm_reads_our_options_as_they_are_meant() -> None:
    gpu, theirs, dotted, cpu = read_by_vllm(
        [
            words("cuda", context="auto", can_sleep=True),
            words("cuda", extra_arguments=["--hf-overrides", '{"rope_theta": 5}']),
            words("cuda", extra_arguments=["--hf-overrides.rope_theta", "5"]),
            words("cpu"),
        ],
        ["hf_overrides", "logprobs_mode", "generation_config", "max_model_len", "uds", "enable_sleep_mode"],
    )
    assert gpu == {
        "hf_overrides": {"head_dtype": "float32"},
        "logprobs_mode": "raw_logprobs",
        "generation_config": "vllm",
        "max_model_len": -1,
        "uds": "/private/s",
        "enable_sleep_mode": True,
    }
    assert theirs["hf_overrides"] == dotted["hf_overrides"] == {"head_dtype": "float32", "rope_theta": 5}
    assert (cpu["hf_overrides"], cpu["max_model_len"]) == ({}, 2048)
