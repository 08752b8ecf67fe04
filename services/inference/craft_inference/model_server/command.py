"""Builds vLLM's command line and environment from the settings. Only this file knows vLLM's option names."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from craft.contracts.services.model_server import ServedBase
from craft.infra.models.folders import served_path
from craft.infra.process.compute_threads import with_short_spins
from craft.infra.settings.inference import InferenceSettings, VllmSettings
from craft_inference.model_server.devices import on_cpu, shown_devices
from craft_inference.model_server.memory.context import Context

_OVERRIDES = "--hf-overrides"
_CPU_DEFAULTS = {"block_size": 32, "max_num_seqs": 256, "max_num_batched_tokens": 4096}
"""These replace vLLM's own defaults on CPU: a KV block of 128 tokens, of which short prompts share nothing, and half as
many tokens in a server's step as in an offline batch's. A probe is a batch."""


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """The command line, environment and working folder that start one server."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    on_cpu: bool = False
    can_sleep: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """What a server is started for. `can_sleep`: it may be put to sleep instead of stopped, on a GPU only."""

    base: ServedBase
    context: Context
    can_sleep: bool = False


@dataclass(frozen=True, slots=True)
class ServerPlaces:
    """The folders in which the server finds models and adapters, and the Unix socket on which it listens."""

    models: Path
    adapters: Path
    socket: Path


def vllm_command(settings: InferenceSettings, places: ServerPlaces, *, python: Path, served: Served) -> ServerCommand:
    """The command that serves the model; the model's path below the models folder is its name.

    The path is relative, with the models folder as working folder, because vLLM's resolver takes an adapter only where
    its `base_model_name_or_path` is the very text after `--model`.
    """
    vllm, base = settings.vllm, served.base
    cpu = on_cpu(settings.device)
    can_sleep = served.can_sleep and not cpu
    words = ["-m", "vllm.entrypoints.openai.api_server", "--model", served_path(base.model)]
    words += ["--dtype", base.dtype]
    words += ["--uds", str(places.socket), "--disable-uvicorn-access-log"]
    # The model's own generation_config.json must not change how a probe samples, and log-probabilities are those of the
    # model, before temperature and penalties. Both are said although the second is vLLM's default: a later version's
    # default would change numbers without a word.
    words += ["--generation-config", "vllm", "--logprobs-mode", "raw_logprobs", "--enable-prefix-caching"]
    # Chats are rendered as the stages render them: texts as texts. A template may come with a request, from our proxy
    # alone, which writes it itself (see AdapterChats). Arguments have no default here: each adapter has its own.
    words += ["--chat-template-content-format", "string", "--trust-request-chat-template"]
    # Mistral's repositories hold a second configuration, tokenizer and copy of the weights, which vLLM would prefer to
    # those that were checked and hashed, and that training loads.
    words += ["--config-format", "hf", "--load-format", "safetensors", "--tokenizer-mode", "hf"]
    if base.adapters:
        words += ["--enable-lora", "--max-lora-rank", str(vllm.max_lora_rank), "--max-loras", str(vllm.max_loras)]
    words += ["--tensor-parallel-size", str(vllm.tensor_parallel_size)]
    # vLLM takes back the sampled token of a prompt that is prefilled in parts. A seeded generator of a CPU cannot do
    # that: "CPU Generator does not use offset" ends the server.
    words += ["--no-enable-chunked-prefill"] if cpu else ["--gpu-memory-utilization", str(vllm.gpu_memory_utilization)]
    defaults = _CPU_DEFAULTS if cpu else {}
    optional = {
        "--max-model-len": served.context,
        "--max-num-seqs": vllm.max_num_seqs or defaults.get("max_num_seqs"),
        "--max-num-batched-tokens": _step_tokens(vllm, served.context, cpu=cpu),
        "--block-size": vllm.block_size or defaults.get("block_size"),
    }
    for option, value in optional.items():
        words += [] if value is None else [option, str(value)]
    words += ["--enforce-eager"] if vllm.enforce_eager else []
    words += ["--enable-sleep-mode"] if can_sleep else []
    words += _with_head_dtype(vllm.extra_arguments, vllm.head_dtype or ("model" if cpu else "float32"))
    return ServerCommand(
        arguments=(_absolute(python), *words),
        environment=_environment(settings, places, cpu=cpu, can_sleep=can_sleep),
        folder=places.models,
        on_cpu=cpu,
        can_sleep=can_sleep,
    )


def _step_tokens(vllm: VllmSettings, context: Context, *, cpu: bool) -> int | None:
    """Tokens of one step; None leaves them to vLLM. On CPU a step takes a prompt whole, so at least the context."""
    asked = vllm.max_num_batched_tokens
    if not cpu:
        return asked
    return max(asked or _CPU_DEFAULTS["max_num_batched_tokens"], context) if isinstance(context, int) else asked


def _with_head_dtype(extra: Sequence[str], dtype: str) -> list[str]:
    """The further arguments, with the output head's type among their `--hf-overrides`. The operator's own type wins.

    vLLM merges the dotted form over all arguments, and lets it replace the plain form: so one of the two must be used
    for everything. Text that is no JSON object stays as it is, for vLLM to refuse.
    """
    if dtype == "model":
        return list(extra)
    words = list(extra)
    names = [word.partition("=")[0].replace("_", "-") for word in words]
    if _OVERRIDES not in names or any(name.startswith(f"{_OVERRIDES}.") for name in names):
        return [f"{_OVERRIDES}.head_dtype", dtype, *words]
    at = len(names) - 1 - names[::-1].index(_OVERRIDES)  # vLLM takes the last one
    own, _, text = words[at].partition("=")
    text_at = at if text else at + 1
    with suppress(ValueError, TypeError, IndexError):
        merged = json.dumps({"head_dtype": dtype, **json.loads(text or words[text_at])})
        words[text_at] = f"{own}={merged}" if text else merged
    return words


def _absolute(python: Path) -> str:
    # A bare name is looked up in PATH. A relative path is relative to our working folder, not to the models folder.
    return str(python if len(python.parts) == 1 else python.absolute())


def _environment(settings: InferenceSettings, places: ServerPlaces, *, cpu: bool, can_sleep: bool) -> dict[str, str]:
    """This process's environment without our own settings (which hold secrets), with the variables that vLLM reads.

    Raises DeviceFailed if fewer GPUs are visible than the server computes on.
    """
    vllm = settings.vllm
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("CRAFT_")}
    own = {
        # Nothing in the working folder may be imported: it holds models that others made.
        "PYTHONSAFEPATH": "1",
        # Adapters are loaded on first use. The switch also opens a call that loads any folder. Therefore the socket is
        # private, and our proxy has no route for that call.
        "VLLM_PLUGINS": "lora_filesystem_resolver",
        "VLLM_LORA_RESOLVER_CACHE_DIR": str(places.adapters),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        # Opens the calls for sleep, and others that run code: for the private socket's owner alone, as above.
        "VLLM_SERVER_DEV_MODE": "1" if can_sleep else "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if cpu:
        own["VLLM_CPU_OMP_THREADS_BIND"] = vllm.cpu_threads or f"0-{(os.cpu_count() or 1) - 1}"
        # It would win over an operator's option in bytes.
        if not any(word.startswith("--kv-cache-memory-bytes") for word in vllm.extra_arguments):
            own["VLLM_CPU_KVCACHE_SPACE"] = str(vllm.cpu_kvcache_gib or 2)
    else:
        inherited = shown_devices(settings, inherited)
    return with_short_spins(inherited) | own
