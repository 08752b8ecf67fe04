"""The Protocol of a sentence embedder, as certainty needs it, and a function that embeds each text once."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """Turns texts into vectors. The cosine of two vectors measures how similar the texts' meanings are."""

    @property
    def version(self) -> str:
        """The name and version that determine the vectors, for an artifact's manifest."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row for each text: (len(texts), dimensions). Within one call the same text always gives the same row."""
        ...


EmbedderSource = Callable[[str], Embedder]
"""Finds an embedder by name and loads it at the first call. Raises ModelNotFound, ModelRejected."""


def embed_once(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """As `embedder.embed`, but the model gets each distinct text once, because sampled replies repeat often."""
    positions: dict[str, int] = {}
    rows = [positions.setdefault(text, len(positions)) for text in texts]
    return embedder.embed(list(positions))[rows]
