"""Cuts a stage's work into shards. A later attempt does not repeat a finished shard."""

import hashlib
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar
from uuid import uuid4

from pydantic import ValidationError

from craft.contracts.base import Contract
from craft.contracts.stages.artifacts import Cost
from craft.contracts.stages.parameters import EngineRef

ItemT = TypeVar("ItemT")
RowT = TypeVar("RowT", bound=Contract)


class _SmallestShard(NamedTuple):
    questions: int
    replies: int


_SHARDS = 8
_SMALLEST: Mapping[str, _SmallestShard] = {"transformers": _SmallestShard(32, 96), "vllm": _SmallestShard(64, 640)}
"""An engine is noticeably slower on smaller shards: each shard begins with the shots and ends with few rows running."""


class Shard(Contract, Generic[RowT]):
    """A finished shard: a row for each of its items, in their order, and their cost."""

    rows: list[RowT]
    cost: Cost


_MAX_TOKENS: Mapping[str, int] = {"transformers": 100_000, "vllm": 4_000_000}
"""New tokens of a shard at the most: some minutes of a slow machine. A stage that gives way loses a shard at most."""


def shard_size(questions: int, *, replies_each: int, new_tokens: int, engine: EngineRef) -> int:
    """The number of questions in a shard: an eighth of the stage, so that a stop loses no more than that.

    It is more where an eighth is too few to keep the engine busy, and at most `engine.questions_per_shard`. It is less
    with long or many replies: `new_tokens` is the limit of each.
    """
    smallest = _SMALLEST[engine.name]
    return min(
        engine.questions_per_shard,
        max(1, _MAX_TOKENS[engine.name] // (replies_each * new_tokens)),
        max(-(-questions // _SHARDS), smallest.questions, -(-smallest.replies // replies_each)),
    )


class Parts(NamedTuple, Generic[ItemT]):
    """The parts of a stage's items that have no shard yet, and the number of items that have one."""

    missing: Iterator[Sequence[ItemT]]
    items_done: int


def in_shards(
    items: Sequence[ItemT],
    run: Callable[[Parts[ItemT]], Generator[Shard[RowT], None, None]],
    *,
    size: int,
    folder: Path,
    shard_type: type[Shard[RowT]],
    belongs: Callable[[RowT, ItemT], bool],
    inspect: Callable[[Sequence[ItemT], Sequence[RowT]], None],
    on_saved: Callable[[], None],
) -> list[Shard[RowT]]:
    """All shards of `items`: those in `folder`, and the others from `run`, one for each missing part and in order.

    The folder belongs to one stage key, so its shards came from the same parameters and inputs. A shard is run again
    where its file is torn (a crash while the disk was full) or damaged, is not of `shard_type`, or has rows of other
    items. `run` may take a part before it has given the shard of the one before. `inspect` gets the items and rows of
    every shard, in order; what it raises ends the work. `on_saved` is called when a shard was written.
    """
    starts = range(0, len(items), size)
    saved: dict[int, Shard[RowT]] = {}
    for start in starts:
        shard = read_shard(_path(folder, start, size), shard_type)
        part = items[start : start + size]
        if shard is not None and len(shard.rows) == len(part) and all(map(belongs, shard.rows, part)):
            saved[start] = shard
    missing = (items[start : start + size] for start in starts if start not in saved)
    shards = []
    with closing(run(Parts(missing, sum(len(shard.rows) for shard in saved.values())))) as made:
        for start in starts:
            shard = saved.get(start)
            if shard is None:
                shard = next(made)
                write_shard(_path(folder, start, size), shard)
                on_saved()
            inspect(items[start : start + size], shard.rows)
            shards.append(shard)
    return shards


def _path(folder: Path, start: int, size: int) -> Path:
    return folder / f"shard-{start:09d}-{size}.json"


def total(costs: Sequence[Cost]) -> Cost:
    """The sum of the costs."""
    return Cost(
        seconds=sum(cost.seconds for cost in costs),
        prompt_tokens=sum(cost.prompt_tokens for cost in costs),
        prefilled_tokens=sum(cost.prefilled_tokens for cost in costs),
        generated_tokens=sum(cost.generated_tokens for cost in costs),
    )


def read_shard(path: Path, shard_type: type[Shard[RowT]]) -> Shard[RowT] | None:
    """A shard with the bytes that `write_shard` wrote; None if there is none, or it was torn or damaged."""
    try:
        checksum, _, content = path.read_bytes().partition(b"\n")
        return shard_type.model_validate_json(content) if checksum == _checksum(content) else None
    except (FileNotFoundError, ValidationError):
        return None


def write_shard(path: Path, shard: Shard[RowT]) -> None:
    """Write a temporary file, flush it and rename it: the shard is whole or absent, also after a power cut.

    The file is a line with the SHA-256 (hex) of the rest, and the shard as JSON.
    """
    temporary = path.with_suffix(f".{uuid4().hex}.tmp")
    content = shard.model_dump_json().encode()
    try:
        with temporary.open("wb") as file:
            file.write(_checksum(content) + b"\n" + content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        # On a full disk each attempt would leave another part and use up the space that is freed.
        temporary.unlink(missing_ok=True)
        raise


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
