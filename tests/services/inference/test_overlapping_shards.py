"""A run that takes parts ahead of its shards has the rows, order and checkpoints of one shard after another."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from craft.contracts.stages.artifacts import Cost
from craft.contracts.stages.rows import ProbeRow
from craft_inference.shards import Parts, Shard, in_shards

ITEMS = [f"q{number}" for number in range(10)]
SIZE = 3


class Killed(Exception):
    """Stands for the end of the process."""


@dataclass
class Work:
    """A stage's work that takes two parts before it gives a shard, and is killed before it gives shard `killed_at`."""

    folder: Path
    killed_at: int | None = None
    taken: list[str] = field(default_factory=list)
    inspected: list[str] = field(default_factory=list)
    done_before: int | None = None
    closed: bool = False

    def run(self, parts: Parts[str]) -> Generator[Shard[ProbeRow], None, None]:
        self.done_before = parts.items_done
        try:
            yield from self._shards(parts.missing)
        finally:
            self.closed = True

    def _shards(self, parts: Iterator[Sequence[str]]) -> Iterator[Shard[ProbeRow]]:
        begun: list[Sequence[str]] = []
        given = 0
        while True:
            for part in parts:
                self.taken += part
                begun.append(part)
                if len(begun) == 2:
                    break
            if not begun:
                return
            if given == self.killed_at:
                raise Killed
            rows = [ProbeRow(id=item, samples=[f"reply to {item}"]) for item in begun.pop(0)]
            given += 1
            yield Shard(rows=rows, cost=Cost(seconds=1.0, prompt_tokens=1, prefilled_tokens=1, generated_tokens=1))

    def inspect(self, items: Sequence[str], rows: Sequence[ProbeRow]) -> None:
        assert [row.id for row in rows] == list(items)
        self.inspected += items

    def do(self) -> list[str]:
        shards = in_shards(
            ITEMS,
            self.run,
            size=SIZE,
            folder=self.folder,
            shard_type=Shard[ProbeRow],
            belongs=lambda row, item: row.id == item,
            inspect=self.inspect,
            on_saved=lambda: None,
        )
        return [row.id for shard in shards for row in shard.rows]


def test_rows_are_in_order_and_each_part_is_taken_once(tmp_path: Path) -> None:
    work = Work(tmp_path)
    assert work.do() == work.taken == work.inspected == ITEMS
    assert (work.done_before, work.closed) == (0, True)
    assert len(list(tmp_path.glob("shard-*.json"))) == 4


def test_a_killed_run_resumes_at_a_whole_shard(tmp_path: Path) -> None:
    """A checkpoint that is written when a part is taken, or a resumption that counts taken parts, loses rows."""
    killed = Work(tmp_path, killed_at=2)
    with pytest.raises(Killed):
        killed.do()
    again = Work(tmp_path)
    assert again.do() == ITEMS
    assert again.taken == ITEMS[2 * SIZE :]
    assert again.done_before == 2 * SIZE
    assert again.inspected == ITEMS


def test_a_damaged_shard_between_whole_ones_is_the_only_one_made_again(tmp_path: Path) -> None:
    Work(tmp_path).do()
    (tmp_path / f"shard-{SIZE:09d}-{SIZE}.json").write_bytes(b"torn")
    again = Work(tmp_path)
    assert again.do() == ITEMS
    assert again.taken == ITEMS[SIZE : 2 * SIZE]
    assert again.done_before == len(ITEMS) - SIZE


def test_a_guard_that_stops_the_stage_ends_the_run(tmp_path: Path) -> None:
    work = Work(tmp_path)

    def refuse(items: Sequence[str], rows: Sequence[ProbeRow]) -> None:
        raise Killed

    work.inspect = refuse  # type: ignore[method-assign]
    with pytest.raises(Killed):
        work.do()
    assert work.closed
    assert work.taken == ITEMS[: 2 * SIZE]
    assert len(list(tmp_path.glob("shard-*.json"))) == 1
