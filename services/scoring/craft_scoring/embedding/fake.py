"""The embedder for tests: deterministic, without a model. Texts that share words get similar vectors."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class HashingEmbedder:
    """Adds up one pseudo-random vector for each word. `embedded` keeps all texts that it got."""

    version = "hashing"

    def __init__(self, dimensions: int = 64) -> None:
        self._dimensions = dimensions
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder.embed`."""
        self.embedded.extend(texts)
        table = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.casefold().split() or [""]:
                table[row] += self._word(word)
        return table

    def _word(self, word: str) -> NDArray[np.float32]:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
        return np.random.default_rng(seed).standard_normal(self._dimensions).astype(np.float32)
