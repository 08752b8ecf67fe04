"""Work cut into shards that a later attempt need not do again."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from craft.contracts.base import Contract
from craft.contracts.rows import ProbeRow
from craft.contracts.stages import Cost

ItemT = TypeVar("ItemT")


class Shard(Contract):
    """A finished shard: its rows in the order of their questions, and what they cost."""

    rows: list[ProbeRow]
    cost: Cost


def in_shards(
    items: Sequence[ItemT],
    size: int,
    folder: Path,
    work: Callable[[Sequence[ItemT], int], Shard],
) -> list[Shard]:
    """`work(items of the shard, items before it)` for every shard that `folder` does not hold yet; all of them.

    The folder belongs to one stage key, so what it holds came from these items. A file that cannot be read (a crash
    while the disk was full) is made again.
    """
    shards = []
    for start in range(0, len(items), size):
        path = folder / f"shard-{start:09d}-{size}.json"
        shard = _kept(path)
        if shard is None:
            shard = work(items[start : start + size], start)
            _keep(path, shard)
        shards.append(shard)
    return shards


def total(costs: Sequence[Cost]) -> Cost:
    """The sum."""
    return Cost(
        seconds=sum(cost.seconds for cost in costs),
        prompt_tokens=sum(cost.prompt_tokens for cost in costs),
        prefilled_tokens=sum(cost.prefilled_tokens for cost in costs),
        generated_tokens=sum(cost.generated_tokens for cost in costs),
    )


def _kept(path: Path) -> Shard | None:
    try:
        return Shard.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _keep(path: Path, shard: Shard) -> None:
    """Whole or absent, also after a power cut: written aside, flushed, renamed."""
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    with aside.open("wb") as file:
        file.write(shard.model_dump_json().encode())
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
