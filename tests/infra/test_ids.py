"""Ids sort by time, match the contracts' patterns and never repeat."""

import re
import threading

import pytest

from craft.contracts.base import ADAPTER_ID, DATASET_ID, JOB_ID
from craft.infra.ids import IdSource, new_id


def no_bits(count: int) -> int:
    return 0


@pytest.mark.parametrize(("prefix", "pattern"), [("cjob", JOB_ID), ("dset", DATASET_ID), ("adpt", ADAPTER_ID)])
def test_an_id_has_the_form_that_the_contracts_demand(prefix: str, pattern: str) -> None:
    assert re.fullmatch(pattern, new_id(prefix))


def test_the_first_ten_characters_are_the_time() -> None:
    # 1,469,918,176,385 ms is the example of the ULID specification: 01ARYZ6S41.
    source = IdSource(clock_ms=lambda: 1_469_918_176_385, random_bits=no_bits)
    assert source.new("x") == "x_01aryz6s41" + "0" * 16


def test_ids_of_one_millisecond_grow() -> None:
    source = IdSource(clock_ms=lambda: 5, random_bits=no_bits)
    ids = [source.new("x") for _ in range(100)]
    assert ids == sorted(set(ids))


def test_ids_grow_where_the_clock_steps_back() -> None:
    times = iter([1000, 10, 2000])
    source = IdSource(clock_ms=lambda: next(times), random_bits=lambda bits: 2**bits - 1)
    ids = [source.new("x") for _ in range(3)]
    assert ids == sorted(set(ids))


def test_threads_never_get_the_same_id() -> None:
    found: list[str] = []

    def work() -> None:
        found.extend([new_id("x") for _ in range(2000)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8000
