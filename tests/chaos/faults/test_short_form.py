"""A short random run on each database: what `make chaos` does for ten minutes, for one or two."""

import pytest
from tests.chaos.faults.outcome import table
from tests.chaos.faults.run import Options, run
from tests.chaos.faults.schedule import Fault

pytestmark = [pytest.mark.servers, pytest.mark.model, pytest.mark.timeout(600)]

KINDS = tuple(kind for kind in Fault if kind is not Fault.ALL_KILLED)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_no_job_is_lost_and_none_is_done_twice(database: str) -> None:
    options = Options(seed=1, faults=16, jobs=3, database=database, mean_seconds=2.5, kinds=KINDS)
    result = run(options, print)
    print(table(result.rows))
    assert result.violations == []
    assert result.lost == 0
    assert result.accepted >= options.jobs
