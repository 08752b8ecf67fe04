"""Settings of the training service."""

from typing import Literal

from pydantic import Field

from craft.infra.settings.listen import Listen


class TrainingServiceSettings(Listen):
    """The training service."""

    port: int = 8084
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="`auto` is the GPU where the machine has one, and an error where that cannot be used."
    )
    device_index: int = Field(0, ge=0, le=127, description="The number of the GPU among those that the worker sees.")
    versions: str | None = Field(
        None,
        max_length=200,
        description="The libraries' versions for jobs to come, as workers tell them where they are others. By default "
        "those installed beside the gateway, else this release's.",
    )
    threads: int | None = None
    device_gib: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Memory of the GPU on which training workers compute. With it the gateway refuses models and rows "
        "that cannot fit when a job is submitted; without it the stage does.",
    )
    nf4: bool = Field(
        default=False,
        description="Training workers have bitsandbytes, so jobs may ask for training.quantization nf4. The gateway "
        "reads it too.",
    )
    checkpoint_seconds: float = 60.0
