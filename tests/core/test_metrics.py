"""Metrics worked by hand, and properties of all results."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.core.evaluated import NO_CATEGORY, Evaluated
from craft.core.judging.answers import Outcome
from craft.core.metric_formulas import Metric
from craft.core.metrics import CategoryResult, MetricEstimate, Rates, evaluate, paired_difference, ths
from craft.errors import DatasetInvalid, MissingStates, RequestInvalid

CODES = {"r": Outcome.RIGHT, "w": Outcome.WRONG, "i": Outcome.REFUSED, "u": Outcome.UNPARSED}


def rows(codes: str, categories: str = "") -> list[Evaluated]:
    """One question for each letter: right, wrong, "i don't know", unparsed; a category letter for each, or none."""
    return [
        Evaluated(f"q{number}", CODES[code], categories[number] if categories else None)
        for number, code in enumerate(codes)
    ]


@pytest.mark.parametrize(
    ("pc", "pw", "expected"), [(0.3, 0.2, 0.1), (0.3, 0.15, 0.15), (0.5, 0.0, 0.5), (1.0, 0.0, 1.0)]
)
def test_the_papers_toy_rows(pc: float, pw: float, expected: float) -> None:
    assert ths(pc, pw, 0.4, 0.4) == pytest.approx(expected)


def test_ths_of_the_published_table() -> None:
    # LLaMA3-8B-Instruct on TriviaQA: M0 REFUSE 53.9 / 20.8 against BASIC 66.8 / 33.2 gives 12.0.
    assert ths(0.539, 0.208, 0.668, 0.332) == pytest.approx(0.120, abs=0.001)


def test_ths_is_undefined_where_the_baseline_is_never_wrong() -> None:
    assert ths(0.5, 0.5, 1.0, 0.0) is None


def test_rates_by_hand() -> None:
    found = evaluate(rows("rrwiu"), rows("rwwiu"), resamples=0, seed=0).per_category[NO_CATEGORY]
    assert (found.rates, found.baseline) == (Rates(0.4, 0.2, 0.2, 0.2), Rates(0.2, 0.4, 0.2, 0.2))
    with pytest.raises(DatasetInvalid):
        evaluate([], [], seed=0)


#                   candidate:  r r w i i i u w   against baseline: r w r r w u w w
CANDIDATE, BASELINE = rows("rrwiiiuw"), rows("rwrrwuww")
BY_HAND = {
    Metric.PC: 2 / 8,
    Metric.PW: 2 / 8,
    Metric.PR: 3 / 8,
    Metric.PU: 1 / 8,
    Metric.THS: 2 / 8 - 2 / 8 * (3 / 4),  # baseline: 3 right, 4 wrong
    Metric.OVER_REFUSAL: 1 / 3,
    Metric.SELECTIVE_ACCURACY: 2 / 4,
    Metric.COVERAGE: 4 / 8,
    Metric.ABSTAIN_PRECISION: 2 / 3,
    Metric.ABSTAIN_RECALL: 2 / 5,
    Metric.ABSTAIN_F1: 2 * 2 / (3 + 5),
}


@pytest.mark.parametrize("metric", list(Metric))
def test_each_metric_by_hand(metric: Metric) -> None:
    found = evaluate(CANDIDATE, BASELINE, resamples=200, seed=0)
    assert found.count == 8
    for estimate in (found.micro[metric], found.macro[metric]):
        assert estimate.value == pytest.approx(BY_HAND[metric])
        assert estimate.interval is not None
        assert estimate.interval.low <= BY_HAND[metric] <= estimate.interval.high


def test_questions_are_joined_on_their_ids() -> None:
    assert evaluate(CANDIDATE, BASELINE[::-1], resamples=0, seed=0) == evaluate(
        CANDIDATE, BASELINE, resamples=0, seed=0
    )


def test_macro_gives_each_category_the_same_weight() -> None:
    # x: 1 of 1 right; y: 0 of 3 right, 1 refused. Baseline: x right; y wrong.
    candidate, baseline = rows("rwwi", "xyyy"), rows("rwww")
    found = evaluate(candidate, baseline, resamples=0, seed=0)
    assert found.micro[Metric.PC].value == pytest.approx(1 / 4)
    assert found.macro[Metric.PC].value == pytest.approx(1 / 2)
    assert found.macro[Metric.PW].value == pytest.approx(1 / 3)
    assert found.macro[Metric.THS].value == pytest.approx(1 / 2 - 1 / 3 * (0.5 / 0.5))
    assert found.per_category["y"] == CategoryResult(3, Rates(0, 2 / 3, 1 / 3, 0), Rates(0, 1, 0, 0))
    assert list(found.per_category) == ["x", "y"]


def test_a_category_may_come_with_the_baseline_or_not_at_all() -> None:
    assert list(evaluate(rows("rw"), rows("rw", "xy"), resamples=0, seed=0).per_category) == ["x", "y"]
    assert list(evaluate(rows("rw"), rows("rw"), resamples=0, seed=0).per_category) == [NO_CATEGORY]


def test_a_rare_category_never_vanishes_from_macro_resamples() -> None:
    found = evaluate(rows("r" + "w" * 99, "x" + "y" * 99), rows("w" * 100), resamples=500, seed=0)
    macro, micro = found.macro[Metric.PC].interval, found.micro[Metric.PC].interval
    assert macro is not None
    assert micro is not None
    assert (macro.low, macro.high) == (0.5, 0.5)
    assert micro.low == 0.0


@pytest.mark.parametrize(
    ("candidate", "baseline", "metric", "why"),
    [
        ("rw", "rr", Metric.THS, "baseline answers nothing wrong"),
        ("rw", "ww", Metric.OVER_REFUSAL, "nothing could be over-refused"),
        ("iu", "rw", Metric.SELECTIVE_ACCURACY, "answers nothing"),
        ("rw", "rw", Metric.ABSTAIN_PRECISION, "refuses nothing"),
        ("ri", "rr", Metric.ABSTAIN_RECALL, "nothing should be refused"),
        ("rr", "rr", Metric.ABSTAIN_F1, "nothing should be refused"),
    ],
)
def test_what_is_undefined_says_why(candidate: str, baseline: str, metric: Metric, why: str) -> None:
    estimate = evaluate(rows(candidate), rows(baseline), resamples=50, seed=0).micro[metric]
    assert (estimate.value, estimate.interval) == (None, None)
    assert why in (estimate.reason or "")


def test_a_metric_defined_in_few_resamples_has_a_value_but_no_interval() -> None:
    # Each refuses one question of 40, and not the same: 63 % of resamples hold the one, only 40 % hold both.
    a, b = rows("iw" + "w" * 38), rows("wi" + "w" * 38)
    found = paired_difference(a, b, rows("w" * 40), metric="abstain_precision", resamples=1000, seed=0)
    assert (found.value, found.interval) == (0.0, None)
    assert found.reason == "in most resamples the model refuses nothing"


def test_no_resamples_no_interval() -> None:
    found = evaluate(rows("iw", "xy"), rows("rw"), resamples=0, seed=0).micro[Metric.OVER_REFUSAL]
    assert found == MetricEstimate(1.0, None, "no resamples were asked for")


def test_an_interval_is_as_wide_as_the_binomial_says() -> None:
    interval = evaluate(rows("r" * 500 + "w" * 500), rows("w" * 1000), resamples=4000, seed=1).micro[Metric.PC].interval
    assert interval is not None
    # 1.96 · sqrt(.5 · .5 / 1000) = .031
    assert interval.low == pytest.approx(0.469, abs=0.004)
    assert interval.high == pytest.approx(0.531, abs=0.004)


def test_the_multinomial_draw_agrees_with_resampling_items_one_by_one() -> None:
    """THS is the mean of +1, 0 and −Pc0/Pw0 over items; resample those and compare the percentiles."""
    candidate, baseline = rows("rrrrwwwiiu" * 20), rows("rrwrwwrwww" * 20)
    score = {Outcome.RIGHT: 1.0, Outcome.WRONG: -4 / 6, Outcome.REFUSED: 0.0, Outcome.UNPARSED: 0.0}
    items = np.array([score[row.outcome] for row in candidate])
    drawn = np.random.default_rng(5).choice(items, size=(4000, items.size)).mean(axis=1)
    found = evaluate(candidate, baseline, resamples=4000, seed=6).micro[Metric.THS]
    assert found.value == pytest.approx(items.mean())
    assert found.interval is not None
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=0.015)


def test_the_same_seed_gives_the_same_interval() -> None:
    first, again, other = (evaluate(CANDIDATE, BASELINE, resamples=50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_difference_of_a_model_to_itself_is_nothing() -> None:
    found = paired_difference(CANDIDATE, CANDIDATE, BASELINE, metric="ths", resamples=100, seed=0)
    assert found.value == 0.0
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (0.0, 0.0)


@pytest.mark.parametrize("metric", list(Metric))
def test_a_difference_is_the_difference_of_the_metrics(metric: Metric) -> None:
    other = rows("rriwiwwr")
    found = paired_difference(CANDIDATE, other, BASELINE, metric=metric, resamples=0, seed=0)
    first, second = (evaluate(each, BASELINE, resamples=0, seed=0).micro[metric].value for each in (CANDIDATE, other))
    assert first is not None
    assert second is not None
    assert found.value == pytest.approx(first - second)


def test_pairing_narrows_the_interval() -> None:
    # The two differ in 10 of 200 questions only: unpaired their rates would each vary by ±7 points.
    a, b = rows("rw" * 100), rows("rw" * 90 + "rr" * 10)
    found = paired_difference(b, a, a, metric=Metric.PC, resamples=1000, seed=0)
    assert found.value == pytest.approx(0.05)
    assert found.interval is not None
    assert found.interval.low > 0.01
    assert found.interval.high < 0.09


def test_a_difference_of_something_undefined_is_undefined() -> None:
    found = paired_difference(rows("rw"), rows("ri"), rows("rr"), metric="ths", resamples=10, seed=0)
    assert found.value is None
    assert "nothing wrong" in (found.reason or "")


def test_results_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(MissingStates):
        evaluate(rows("rw"), rows("rww"), seed=0)
    with pytest.raises(DatasetInvalid):
        evaluate([*rows("r"), *rows("w")], rows("r"), seed=0)
    with pytest.raises(DatasetInvalid):
        evaluate([], [], seed=0)
    with pytest.raises(RequestInvalid):
        evaluate(rows("r"), rows("r"), resamples=-1, seed=0)
    with pytest.raises(RequestInvalid):
        paired_difference(rows("r"), rows("r"), rows("r"), metric="nonsense", seed=0)


CODE_TEXT = st.text(alphabet="rwiu", min_size=1, max_size=40)


@given(CODE_TEXT)
def test_rates_sum_to_one(codes: str) -> None:
    found = evaluate(rows(codes), rows(codes[::-1]), resamples=0, seed=0)
    values = [found.micro[metric].value for metric in (Metric.PC, Metric.PW, Metric.PR, Metric.PU)]
    assert sum(value for value in values if value is not None) == pytest.approx(1)
    assert sum(found.per_category[NO_CATEGORY].rates) == pytest.approx(1)


@given(st.text(alphabet="rwiu", min_size=1, max_size=40).filter(lambda codes: "w" in codes))
def test_refusing_everything_scores_zero(codes: str) -> None:
    found = evaluate(rows("i" * len(codes)), rows(codes), resamples=20, seed=0).micro[Metric.THS]
    assert found.value == 0.0
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (0.0, 0.0)


@given(st.text(alphabet="rwiu", min_size=1, max_size=40).filter(lambda codes: "w" in codes))
def test_the_baseline_itself_scores_zero(codes: str) -> None:
    assert evaluate(rows(codes), rows(codes), resamples=0, seed=0).micro[Metric.THS].value == pytest.approx(0)


@given(CODE_TEXT, st.integers(0, 39))
def test_a_wrong_answer_that_becomes_a_refusal_never_lowers_the_score(codes: str, at: int) -> None:
    codes += "w"
    at %= len(codes)
    better = codes[:at] + codes[at].replace("w", "i") + codes[at + 1 :]
    before, after = (
        evaluate(rows(each), rows("w" + "r" * (len(codes) - 1)), resamples=0, seed=0).micro[Metric.THS].value
        for each in (codes, better)
    )
    assert before is not None
    assert after is not None
    assert after >= before
