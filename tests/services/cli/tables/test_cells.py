"""Cells: percentages and sizes."""

from craft.contracts.documents.evaluation import EstimateView
from craft_cli.tables.cells import percent, size


def test_an_undefined_share_is_a_dash_and_an_interval_is_shown() -> None:
    assert percent(EstimateView(value=None, reason="no wrong answer")) == "–"
    assert percent(EstimateView(value=0.436, low=0.4, high=0.47)) == "43.6 [40.0, 47.0]"
    assert percent(EstimateView(value=0.5)) == "50.0"


def test_sizes_are_in_the_largest_fitting_unit() -> None:
    sizes = (0, 1023, 1024, 3 * 2**20, int(1.5 * 2**40), 2**60)
    assert [size(count) for count in sizes] == ["0 B", "1023 B", "1.0 KiB", "3.0 MiB", "1.5 TiB", "1048576.0 TiB"]
