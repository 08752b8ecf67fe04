"""vLLM's command line and environment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from craft.contracts.services.model_server import ServedBase
from craft.contracts.stages.parameters import ModelRef
from craft.errors import DeviceFailed
from craft.infra.settings.inference import InferenceSettings, VllmSettings
from craft_inference.model_server.command import Served, ServerCommand, ServerPlaces, vllm_command
from craft_inference.model_server.memory.context import Context

BASE = ServedBase(model=ModelRef(id="team/a", revision="main", digest="d" * 64), dtype="bfloat16")
PLACES = ServerPlaces(models=Path("/models"), adapters=Path("/adapters"), socket=Path("/private/s"))


def built(
    *,
    device: str = "cpu",
    python: str = "/venv/bin/python",
    adapters: bool = True,
    context: Context = 4096,
    can_sleep: bool = False,
    **vllm: object,
) -> ServerCommand:
    settings = InferenceSettings.model_validate(
        {"engine": "vllm", "device": device, "vllm": VllmSettings.model_validate(vllm)}
    )
    served = Served(BASE.model_copy(update={"adapters": adapters}), context, can_sleep=can_sleep)
    return vllm_command(settings, PLACES, python=Path(python), served=served)


def value(command: ServerCommand, option: str) -> str:
    return command.arguments[command.arguments.index(option) + 1]


def test_the_model_is_named_by_its_path_below_the_working_folder() -> None:
    command = built()
    assert command.arguments[:3] == ("/venv/bin/python", "-m", "vllm.entrypoints.openai.api_server")
    assert (value(command, "--model"), command.folder) == ("team/a", Path("/models"))
    assert value(command, "--uds") == "/private/s"
    assert not {"--host", "--port"} & set(command.arguments)


def test_vllm_renders_texts_as_texts_and_takes_the_template_of_a_request() -> None:
    command = built()
    assert value(command, "--chat-template-content-format") == "string"
    assert "--trust-request-chat-template" in command.arguments


def test_every_setting_reaches_its_option() -> None:
    command = built(
        device="cuda",
        context=2048,
        max_lora_rank=128,
        max_loras=7,
        tensor_parallel_size=2,
        gpu_memory_utilization=0.5,
        max_num_seqs=99,
        block_size=16,
        enforce_eager=True,
        extra_arguments=["--seed", "1"],
    )
    expected = {
        "--dtype": "bfloat16",
        "--max-model-len": "2048",
        "--max-lora-rank": "128",
        "--max-loras": "7",
        "--tensor-parallel-size": "2",
        "--gpu-memory-utilization": "0.5",
        "--max-num-seqs": "99",
        "--block-size": "16",
    }
    assert {option: value(command, option) for option in expected} == expected
    assert "--enforce-eager" in command.arguments
    assert command.arguments[-2:] == ("--seed", "1")


def test_what_is_not_set_is_vllms_to_choose() -> None:
    assert "--enforce-eager" not in built().arguments
    sizes = {"--block-size", "--max-num-seqs", "--max-num-batched-tokens"}
    assert not sizes & set(built(device="cuda").arguments)


def test_on_cpu_a_step_takes_as_much_as_offline_batches_do() -> None:
    command = built()
    assert (value(command, "--max-num-seqs"), value(command, "--max-num-batched-tokens")) == ("256", "4096")
    asked = built(max_num_seqs=8, max_num_batched_tokens=5000)
    assert (value(asked, "--max-num-seqs"), value(asked, "--max-num-batched-tokens")) == ("8", "5000")


@pytest.mark.parametrize(
    ("context", "asked", "expected"), [(8192, None, "8192"), (8192, 512, "8192"), (512, 512, "512")]
)
def test_on_cpu_a_step_takes_the_longest_prompt_whole(context: int, asked: int | None, expected: str) -> None:
    """vLLM refuses to start with a step that is shorter than its context where prompts are not cut into parts."""
    command = built(context=context, max_num_batched_tokens=asked)
    assert value(command, "--max-num-batched-tokens") == expected
    assert "--max-num-batched-tokens" not in built(context="auto").arguments
    assert "--max-num-batched-tokens" not in built(device="cuda", context=context).arguments


def test_the_models_own_generation_settings_change_nothing() -> None:
    assert value(built(), "--generation-config") == "vllm"


def test_a_second_checkpoint_in_its_makers_own_format_is_not_preferred() -> None:
    command = built()
    assert value(command, "--config-format") == "hf"
    assert value(command, "--load-format") == "safetensors"
    assert value(command, "--tokenizer-mode") == "hf"


def test_on_cpu_blocks_are_small_threads_bound_and_the_cache_sized() -> None:
    command = built(cpu_threads="0-1", cpu_kvcache_gib=3)
    assert value(command, "--block-size") == "32"
    assert "--gpu-memory-utilization" not in command.arguments
    assert "--no-enable-chunked-prefill" in command.arguments
    assert command.environment["VLLM_CPU_OMP_THREADS_BIND"] == "0-1"
    assert command.environment["VLLM_CPU_KVCACHE_SPACE"] == "3"
    assert "VLLM_CPU_KVCACHE_SPACE" not in built(device="cuda").environment
    assert "VLLM_CPU_KVCACHE_SPACE" not in built(extra_arguments=["--kv-cache-memory-bytes", "1"]).environment


def test_adapters_are_resolved_from_the_folder_and_the_hub_is_off() -> None:
    environment = built().environment
    assert environment["VLLM_PLUGINS"] == "lora_filesystem_resolver"
    assert environment["VLLM_LORA_RESOLVER_CACHE_DIR"] == "/adapters"
    assert environment["VLLM_SERVER_DEV_MODE"] == "0"
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_no_setting_of_ours_reaches_vllm_however_it_is_spelt(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CRAFT_WORKER_TOKEN", "craft_worker_token", "Craft_Database_Url", "CRAFT_INFERENCE__VLLM__API_KEY"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("LANG", "C.UTF-8")
    environment = built(api_key="hunter2").environment
    assert "hunter2" not in environment.values()
    assert environment["LANG"] == "C.UTF-8"


def test_ours_wins_over_what_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    monkeypatch.setenv("VLLM_LORA_RESOLVER_CACHE_DIR", "/elsewhere")
    environment = built().environment
    assert environment["VLLM_SERVER_DEV_MODE"] == "0"
    assert environment["VLLM_LORA_RESOLVER_CACHE_DIR"] == "/adapters"


def test_an_interpreter_is_found_from_the_models_folder_too() -> None:
    assert built(python="venv/bin/python").arguments[0] == str(Path.cwd() / "venv/bin/python")
    assert built(python="python3").arguments[0] == "python3"


def test_nothing_in_the_models_folder_is_ever_imported(tmp_path: Path) -> None:
    (tmp_path / "this.py").write_text("raise SystemExit('imported from the models folder')")
    done = subprocess.run(
        [sys.executable, "-m", "this"],
        check=False,
        cwd=tmp_path,
        env=built().environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Zen of Python" in done.stdout


def test_a_server_that_needs_no_adapters_is_not_made_ready_for_them() -> None:
    assert "--enable-lora" in built().arguments
    assert not [word for word in built(adapters=False).arguments if "lora" in word]


def overrides(command: ServerCommand) -> dict[str, object]:
    """vLLM's reading of `--hf-overrides`: the dotted form, where there is one, replaces the plain one."""
    words = command.arguments
    dotted: dict[str, object] = {
        word.split(".")[1]: words[at + 1] for at, word in enumerate(words) if word.startswith("--hf-overrides.")
    }
    plain = [words[at + 1] for at, word in enumerate(words) if word == "--hf-overrides"]
    plain += [word.partition("=")[2] for word in words if word.startswith("--hf-overrides=")]
    read: dict[str, object] = json.loads(plain[-1]) if plain else {}
    return dotted or read


def test_on_a_gpu_the_output_head_computes_in_float32() -> None:
    assert overrides(built(device="cuda")) == {"head_dtype": "float32"}
    assert overrides(built(device="cuda", head_dtype="model")) == {}
    assert overrides(built()) == {}
    assert overrides(built(head_dtype="float32")) == {"head_dtype": "float32"}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["--hf-overrides", '{"rope_theta": 5}'], {"head_dtype": "float32", "rope_theta": 5}),
        (['--hf-overrides={"rope_theta": 5}'], {"head_dtype": "float32", "rope_theta": 5}),
        (["--hf-overrides", '{"head_dtype": "model"}'], {"head_dtype": "model"}),
        (["--hf-overrides.rope_theta", "5"], {"head_dtype": "float32", "rope_theta": "5"}),
        (["--seed", "1"], {"head_dtype": "float32"}),
    ],
)
def test_an_operators_overrides_do_not_undo_the_output_heads_type(extra: list[str], expected: object) -> None:
    """A command line that appends ours to the operator's, or theirs to ours, loses one of them: the last one counts."""
    assert overrides(built(device="cuda", extra_arguments=extra)) == expected


def test_overrides_that_are_no_json_are_vllms_to_refuse() -> None:
    assert built(device="cuda", extra_arguments=["--hf-overrides", "{"]).arguments[-2:] == ("--hf-overrides", "{")
    assert built(device="cuda", extra_arguments=["--hf-overrides"]).arguments[-1] == "--hf-overrides"


def test_log_probabilities_are_asked_for_as_the_model_has_them() -> None:
    assert value(built(), "--logprobs-mode") == "raw_logprobs"


@pytest.mark.parametrize(
    ("vllm", "shown"),
    [
        ({}, "4"),
        ({"tensor_parallel_size": 2}, "4,5"),
        ({"extra_arguments": ["--pipeline-parallel-size", "3"]}, "4,5,6"),
        ({"tensor_parallel_size": 2, "extra_arguments": ["-pp=2"]}, "4,5,6,7"),
        ({"extra_arguments": ["--tensor-parallel-size=2", "--seed", "1"]}, "4,5"),
        ({"extra_arguments": ["--data-parallel-size", "2"]}, "4,5"),
    ],
)
def test_vllm_sees_as_many_gpus_as_it_computes_on(
    monkeypatch: pytest.MonkeyPatch, vllm: dict[str, object], shown: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    settings = InferenceSettings.model_validate({"engine": "vllm", "device": "cuda", "vllm": vllm})
    command = vllm_command(settings, PLACES, python=Path("python"), served=Served(BASE, 4096))
    assert command.environment["CUDA_VISIBLE_DEVICES"] == shown


def test_more_gpus_than_are_visible_are_refused_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    with pytest.raises(DeviceFailed, match="CRAFT_INFERENCE__DEVICE_INDEX"):
        built(device="cuda", tensor_parallel_size=2)


def test_a_server_that_can_sleep_has_the_calls_for_it_and_no_other_server_has() -> None:
    """These calls also run code, so they are open where they are needed and the socket is private."""
    sleeper = built(device="cuda", can_sleep=True)
    assert "--enable-sleep-mode" in sleeper.arguments
    assert sleeper.environment["VLLM_SERVER_DEV_MODE"] == "1"
    assert not {"--host", "--port"} & set(sleeper.arguments)
    for other in (built(device="cuda"), built(can_sleep=True)):
        assert "--enable-sleep-mode" not in other.arguments
        assert other.environment["VLLM_SERVER_DEV_MODE"] == "0"
        assert not other.can_sleep


def test_auto_is_vllms_own_word_for_what_fits() -> None:
    assert value(built(context="auto"), "--max-model-len") == "auto"
