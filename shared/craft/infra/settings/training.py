"""Settings of the training service."""

from typing import Literal

from craft.infra.settings.listen import Listen


class TrainingServiceSettings(Listen):
    """The training service."""

    port: int = 8084
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    checkpoint_seconds: float = 60.0
