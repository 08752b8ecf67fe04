"""Settings of the inference service, vLLM and the model server."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator

from craft.infra.settings.listen import Listen

_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def _vllm_rank(rank: int) -> int:
    if rank not in _LORA_RANKS:
        raise ValueError(f"vLLM knows the ranks {', '.join(map(str, _LORA_RANKS))}")
    return rank


class VllmSettings(BaseModel):
    """vLLM, for the engine "vllm": its server's command line, and how the service uses it."""

    url: str | None = Field(None, description="A vLLM server that already runs; then none is started here.")
    api_key: SecretStr | None = Field(None, description="The key of that server.")
    python: Path | None = Field(
        None, description="Python of the environment in which vLLM is installed; by default this one."
    )
    max_model_len: Annotated[int, Field(ge=16)] | Literal["auto"] | None = Field(
        None,
        description="Context in tokens, and then no stage gets more. By default 4096, or what a stage needs; "
        '"auto": as much as fits the device.',
    )
    head_dtype: Literal["float32", "model"] | None = Field(
        None, description="Type in which the output head computes; by default float32 on a GPU, else the model's."
    )
    max_lora_rank: Annotated[int, AfterValidator(_vllm_rank)] = 64
    max_loras: int = Field(4, ge=1, description="Adapters in one batch.")
    tensor_parallel_size: int = Field(1, ge=1)
    gpu_memory_utilization: float = Field(0.85, gt=0.0, le=1.0)
    max_num_seqs: int | None = Field(None, description="Sequences in one step; by default 256 on CPU, else vLLM's own.")
    max_num_batched_tokens: int | None = Field(
        None, description="Tokens in one step; by default 4096 on CPU, else vLLM's own."
    )
    block_size: int | None = Field(
        None, description="Tokens of a KV block. On CPU, 32 shares prefixes that 128 does not."
    )
    enforce_eager: bool = Field(default=False, description="Without compilation: starts sooner, runs slower.")
    cpu_kvcache_gib: int | None = Field(None, description="KV cache on CPU, in GiB.")
    cpu_threads: str | None = Field(None, description='Cores to bind on CPU, such as "0-1".')
    seed_requests: bool = Field(
        default=True, description="A seed in each request, so that the same job draws the same samples."
    )
    sequences_in_flight: int = Field(
        1024, ge=1, description="Replies that are asked for before the first one is there; n samples count n times."
    )
    start_seconds: float = Field(900.0, description="A server that is not ready after this time is stopped.")
    idle_seconds: float = Field(600.0, description="A server without requests for this time is stopped.")
    sleep: Literal["auto", "sleep", "stop", "stay"] = Field(
        "auto",
        description="What vLLM does when another stage needs the GPU: it sleeps, which keeps its weights in the host's "
        "memory and 1 to 3 GiB of the GPU, it stops, or it stays, with a `gpu_memory_utilization` that leaves room. By "
        "default it sleeps on a GPU of 40 GiB or more where the host has room for the weights.",
    )
    sleep_seconds: float = Field(3600.0, description="A server that sleeps for this time is stopped.")
    extra_arguments: list[str] = Field(default_factory=list, description="Further arguments of vLLM's command line.")


class ModelServerSettings(Listen):
    """The process beside vLLM that starts it, watches it and forwards requests to it."""

    port: int = 8086


class InferenceSettings(Listen):
    """The inference service."""

    port: int = 8082
    engine: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["bfloat16", "float32", "float16"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="vLLM's device; the embedded engine, transformers, computes on the CPU only."
    )
    device_index: int = Field(
        0, ge=0, le=127, description="The first GPU of vLLM's, by its number among those that the model server sees."
    )
    versions: str | None = Field(
        None,
        max_length=200,
        description="The engine's version for jobs to come, as workers tell it where it is another. By default that "
        "installed beside the gateway, else this release's.",
    )
    threads: int | None = None
    questions_per_batch: int = 32
    questions_per_shard: int | None = Field(
        None,
        ge=1,
        description="Questions between two checkpoints, at most; by default 2048 for vLLM on a GPU, else 256.",
    )
    vllm: VllmSettings = VllmSettings()

    @model_validator(mode="after")
    def _embedded_on_cpu(self) -> Self:
        if self.engine == "transformers" and self.device == "cuda":
            raise ValueError(
                "CRAFT_INFERENCE__DEVICE=cuda needs CRAFT_INFERENCE__ENGINE=vllm: the embedded engine, transformers, "
                "computes on the CPU only. Choose vllm for the GPU, or set CRAFT_INFERENCE__DEVICE=cpu"
            )
        return self


def result_options(settings: InferenceSettings) -> tuple[str, ...]:
    """Those of vLLM's settings that change replies or log-probabilities, one text each, always in the same order.

    What `EngineRef` names itself is not among them, nor is what changes roundings only, such as the sizes of a step.
    Empty for another engine.
    """
    if settings.engine != "vllm":
        return ()
    vllm = settings.vllm
    return (
        f"url={vllm.url or ''}",
        f"head_dtype={vllm.head_dtype or ''}",
        f"seed_requests={vllm.seed_requests}",
        *(f"extra_argument={argument}" for argument in vllm.extra_arguments),
    )


def questions_per_shard(settings: InferenceSettings) -> int:
    """The questions of a shard, where the settings name no number."""
    return 2048 if settings.engine == "vllm" and settings.device != "cpu" else 256
