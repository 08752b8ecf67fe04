"""Metrics of the core as an evaluation shows them."""

from craft.contracts.documents.evaluation import EstimateView
from craft.core.metrics import Interval, MetricEstimate


def test_a_metric_keeps_its_value_and_its_interval() -> None:
    view = EstimateView.of(MetricEstimate(0.5, Interval(0.25, 0.75)))
    assert (view.value, view.low, view.high, view.reason) == (0.5, 0.25, 0.75, None)


def test_an_undefined_metric_is_null_with_its_reason() -> None:
    view = EstimateView.of(MetricEstimate(None, reason="no question was answered"))
    assert (view.value, view.low, view.high, view.reason) == (None, None, None, "no question was answered")
