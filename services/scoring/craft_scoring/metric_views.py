"""Converts the core's metrics to the models of the contracts."""

from collections.abc import Sequence

from craft.contracts.documents.evaluation import CategoryRates, Differences, EstimateView, MetricSet, ModelMetrics
from craft.core.evaluated import Evaluated
from craft.core.metrics import CategoryResult, evaluate, paired_difference


def measured(
    candidate: Sequence[Evaluated], baseline: Sequence[Evaluated], *, resamples: int, seed: int
) -> ModelMetrics:
    """All metrics of one model on one set. `baseline` is M0 under the BASIC prompt on the same questions."""
    result = evaluate(candidate, baseline, resamples=resamples, seed=seed)
    return ModelMetrics(
        count=result.count,
        micro=MetricSet(**{metric.value: EstimateView.of(estimate) for metric, estimate in result.micro.items()}),
        macro=MetricSet(**{metric.value: EstimateView.of(estimate) for metric, estimate in result.macro.items()}),
        categories={name: _rates(category) for name, category in result.per_category.items()},
    )


def differences(
    a: Sequence[Evaluated], b: Sequence[Evaluated], baseline: Sequence[Evaluated], *, resamples: int, seed: int
) -> Differences:
    """`a` minus `b` in each metric, over the same resampled questions."""
    return Differences(
        **{
            metric: EstimateView.of(paired_difference(a, b, baseline, metric=metric, resamples=resamples, seed=seed))
            for metric in Differences.model_fields
        }
    )


def _rates(category: CategoryResult) -> CategoryRates:
    return CategoryRates(
        count=category.count,
        right=category.rates.right,
        wrong=category.rates.wrong,
        refused=category.rates.refused,
        unparsed=category.rates.unparsed,
    )
