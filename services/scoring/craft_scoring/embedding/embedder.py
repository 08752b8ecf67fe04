"""What certainty needs of a sentence embedder, and how texts are given to it."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """Turns texts into vectors whose cosine says how alike their meanings are."""

    @property
    def version(self) -> str:
        """What the vectors depend on, for an artifact's manifest."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row for each text: (len(texts), dimensions). The same text always gives the same row within one call."""
        ...


EmbedderSource = Callable[[str], Embedder]
"""Finds an embedder by name, loading it at the first call. Raises ModelNotFound, ModelRejected."""


def embed_once(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """As `embedder.embed`, but each distinct text goes through the model once: sampled replies repeat a lot."""
    positions: dict[str, int] = {}
    rows = [positions.setdefault(text, len(positions)) for text in texts]
    return embedder.embed(list(positions))[rows]
