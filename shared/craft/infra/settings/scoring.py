"""Settings of the scoring service."""

from typing import Literal

from pydantic import Field

from craft.infra.settings.listen import Listen


class ScoringSettings(Listen):
    """The scoring service."""

    port: int = 8083
    embedder: str = "sentence-transformers/all-MiniLM-L6-v2"
    embedding_batch: int = 256
    device: Literal["cpu", "cuda"] = Field("cpu", description="The sentence embedder's device. It is small.")
    device_index: int = Field(0, ge=0, le=127, description="The number of the GPU among those that the worker sees.")
