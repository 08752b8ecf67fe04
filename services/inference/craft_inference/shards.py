"""Work cut into shards that a later attempt need not do again."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar
from uuid import uuid4

from pydantic import ValidationError

from craft.contracts.base import Contract
from craft.contracts.stages.artifacts import Cost
from craft.contracts.stages.parameters import EngineRef

ItemT = TypeVar("ItemT")
RowT = TypeVar("RowT", bound=Contract)


class _Least(NamedTuple):
    questions: int
    replies: int


_SHARDS = 8
_LEAST: Mapping[str, _Least] = {"transformers": _Least(32, 96), "vllm": _Least(64, 640)}
"""Below these an engine is noticeably slower: each shard begins with the shots and ends with few rows under way."""


class Shard(Contract, Generic[RowT]):
    """A finished shard: a row for each of its items, in their order, and what they cost."""

    rows: list[RowT]
    cost: Cost


def shard_size(questions: int, *, replies_each: int, engine: EngineRef) -> int:
    """Questions of a shard: an eighth of the stage, so that being stopped costs no more of it.

    More where that would be too few to keep the engine busy, and `engine.questions_per_shard` at most.
    """
    least = _LEAST[engine.name]
    return min(
        engine.questions_per_shard,
        max(-(-questions // _SHARDS), least.questions, -(-least.replies // replies_each)),
    )


def in_shards(
    items: Sequence[ItemT],
    work: Callable[[Sequence[ItemT], int], Shard[RowT]],
    *,
    size: int,
    folder: Path,
    form: type[Shard[RowT]],
    belongs: Callable[[RowT, ItemT], bool],
) -> list[Shard[RowT]]:
    """`work(items of the shard, items before it)` for every shard that `folder` does not hold yet; all of them.

    The folder belongs to one stage key, so what it holds came from the same parameters and inputs. A file that is torn
    (a crash while the disk was full), of another `form`, or whose rows do not belong to the items is made again.
    """
    shards = []
    for start in range(0, len(items), size):
        own = items[start : start + size]
        path = folder / f"shard-{start:09d}-{size}.json"
        shard = _kept(path, form)
        if shard is None or len(shard.rows) != len(own) or not all(map(belongs, shard.rows, own)):
            shard = work(own, start)
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


def _kept(path: Path, form: type[Shard[RowT]]) -> Shard[RowT] | None:
    try:
        return form.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _keep(path: Path, shard: Shard[RowT]) -> None:
    """Whole or absent, also after a power cut: written aside, flushed, renamed."""
    aside = path.with_suffix(f".{uuid4().hex}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(shard.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        # On a full disk each attempt would leave another part, and eat the space that is freed.
        aside.unlink(missing_ok=True)
        raise
