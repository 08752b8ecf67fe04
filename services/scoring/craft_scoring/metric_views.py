"""The core's metrics as the models that travel and are stored."""

from collections.abc import Sequence

from craft.contracts.documents.evaluation import CategoryRates, Differences, EstimateView, MetricSet, ModelMetrics
from craft.core.metrics import CategoryResult, Evaluated, evaluate, paired_difference


def measured(
    candidate: Sequence[Evaluated], baseline: Sequence[Evaluated], *, resamples: int, seed: int
) -> ModelMetrics:
    """Every metric of one model on one set; `baseline` is M0 under BASIC on the same questions."""
    found = evaluate(candidate, baseline, resamples=resamples, seed=seed)
    return ModelMetrics(
        count=found.count,
        micro=MetricSet(**{metric.value: EstimateView.of(estimate) for metric, estimate in found.micro.items()}),
        macro=MetricSet(**{metric.value: EstimateView.of(estimate) for metric, estimate in found.macro.items()}),
        categories={name: _rates(result) for name, result in found.per_category.items()},
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


def _rates(result: CategoryResult) -> CategoryRates:
    return CategoryRates(
        count=result.count,
        right=result.rates.right,
        wrong=result.rates.wrong,
        refused=result.rates.refused,
        unparsed=result.rates.unparsed,
    )
