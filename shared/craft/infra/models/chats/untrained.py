"""Tells an end token that was never trained, from its row in the model's embedding or output head."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EMBEDDINGS = ("embed_tokens.weight", "embed_in.weight", "wte.weight", "word_embeddings.weight")
_HEADS = ("lm_head.weight", "embed_out.weight")
_WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}
_COMPARED_ROWS = 512
_MIN_DIFFERENT = 3
_NEIGHBOURS = 64
_TINY_SHARE = 0.05
"""Of the median length of rows. Tokens that never occurred keep the length of their start, or shrink to nothing."""


class Untrained(StrEnum):
    """The sign that a token was never trained, to be read after "its row …"."""

    ABSENT = "is not there"
    TINY = "is nearly zero"
    REPEATED = "is the same as another token's"


def untrained(folder: Path, token: int) -> Untrained | None:
    """The sign that a token of a checked model folder was never trained, or None.

    Only floating-point tables can be read. Of a table of another type, or with equal rows only, nothing is known.
    """
    for names in (_EMBEDDINGS, _HEADS):
        table = _Table.find(folder, names)
        if table is not None and (sign := table.sign(token)) is not None:
            return sign
    return None


class _Table:
    """One table of rows in a safetensors file."""

    def __init__(self, file: Path, entry: Mapping[str, Any], start: int) -> None:
        self._file = file
        self._type = str(entry["dtype"])
        self._rows, self._width = entry["shape"]
        self._start = start + int(entry["data_offsets"][0])

    @classmethod
    def find(cls, folder: Path, names: tuple[str, ...]) -> "_Table | None":
        """The table whose name ends so; None if no file has a readable one."""
        for file in sorted(folder.glob("*.safetensors")):
            with file.open("rb") as handle:
                length = int.from_bytes(handle.read(8), "little")
                entries = json.loads(handle.read(length))
            for name, entry in entries.items():
                if name.endswith(names) and entry["dtype"] in _WIDTHS and len(entry["shape"]) == 2:
                    return cls(file, entry, 8 + length)
        return None

    def sign(self, token: int) -> Untrained | None:
        """See `untrained`."""
        if token >= self._rows:
            return Untrained.ABSENT
        own = self._raw(token)
        others = [self._raw(row) for row in range(0, self._rows, max(1, self._rows // _COMPARED_ROWS)) if row != token]
        if len(set(others)) < _MIN_DIFFERENT:
            return None
        usual = np.median([self._length(other) for other in others])
        if self._length(own) <= _TINY_SHARE * usual:
            return Untrained.TINY
        near = range(max(0, token - _NEIGHBOURS), min(self._rows, token + _NEIGHBOURS))
        if any(row != token and self._raw(row) == own for row in near):
            return Untrained.REPEATED
        return None

    def _raw(self, row: int) -> bytes:
        size = self._width * _WIDTHS[self._type]
        with self._file.open("rb") as handle:
            handle.seek(self._start + row * size)
            return handle.read(size)

    def _length(self, raw: bytes) -> float:
        return float(np.linalg.norm(self._numbers(raw)))

    def _numbers(self, raw: bytes) -> NDArray[np.float32]:
        if self._type == "BF16":
            return (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(raw, dtype="<f4" if self._type == "F32" else "<f2").astype(np.float32)
