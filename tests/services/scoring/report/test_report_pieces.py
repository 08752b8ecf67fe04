"""The pieces of the report: its geometry and its texts."""

import pytest

from craft.contracts.documents.evaluation import Differences, EstimateView
from craft.contracts.stages.rows import CurveRow, StateRow
from craft_scoring.report.charts import curve_chart, stacked, ticks, whiskers
from craft_scoring.report.comparisons import pairs, verdict
from craft_scoring.report.knowledge_map import SIZE, knowledge_map
from craft_scoring.report.texts import duration, interval, percent, plain_text, points

EVEN = EstimateView(value=0.0, low=-0.1, high=0.1)


def _curve(*losses: float) -> list[CurveRow]:
    return [CurveRow(step=n, epoch=1, loss=loss, learning_rate=1e-4, seconds=n) for n, loss in enumerate(losses, 1)]


def test_curves_leave_out_losses_that_are_no_numbers() -> None:
    chart = curve_chart({"a": _curve(2.0, float("nan"), 1.0), "b": _curve(float("inf")), "c": _curve(0.5)})
    assert [line.name for line in chart.lines] == ["a", "c"]
    assert "nan" not in chart.lines[0].raw + chart.lines[0].smooth
    assert curve_chart({}).lines == []
    assert curve_chart({"zero": _curve(0.0, 0.0)}).lines[0].raw.startswith("M")


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    chart = curve_chart({"a": _curve(*[1.0] * 50_000, 3.0)})
    assert chart.lines[0].raw.count("L") < 500
    assert chart.lines[0].raw.endswith("430.0 0.0")


@pytest.mark.parametrize(("top", "last"), [(3.2, 4), (0.07, 0.08), (1, 1), (950, 1000)])
def test_ticks_reach_the_top(top: float, last: float) -> None:
    assert ticks(top)[0] == 0
    assert ticks(top)[-1] == pytest.approx(last)


def test_stacked_parts_follow_one_another() -> None:
    assert [(part.css, part.start, part.width) for part in stacked([("a", 0.25), ("b", 0), ("c", 0.5)])] == [
        ("a", 0, 25), ("c", 25, 50),
    ]  # fmt: skip


def test_whiskers_share_one_scale_with_zero() -> None:
    first, second, third = whiskers(
        [EstimateView(value=0.2, low=0.1, high=0.4), EVEN, EstimateView(value=None, reason="undefined")]
    )
    assert first.zero == second.zero == third.zero
    assert first.low is not None
    assert first.low > first.zero
    assert third.value is None
    assert whiskers([EstimateView(value=0.0)])[0].value == 50


def test_every_dot_lies_inside_the_map() -> None:
    before = {f"{n}": StateRow(id=f"{n}", correctness=n % 2, certainty=n // 2 % 2) for n in range(200)}
    drawn = knowledge_map(before, before, {}, discrete=True)
    spots = [stroke.removesuffix("h0").split() for _, path in drawn.before.dots for stroke in path.split("M")[1:]]
    assert len(spots) == 200
    assert all(0 <= float(x) <= SIZE and 0 <= float(y) <= SIZE for x, y in spots)
    assert drawn.arrows == []
    assert drawn.counts == {"undecided": 200}


def test_strategies_nearer_to_craft_come_first() -> None:
    assert list(pairs(["van-tuning", "craft"])) == [
        ("craft", "initial_basic"), ("craft", "initial_refuse"), ("van-tuning", "initial_basic"),
        ("van-tuning", "initial_refuse"), ("craft", "van-tuning"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ths", "over_refusal", "words"),
    [
        (EstimateView(value=0.06, low=0.01, high=0.1), EstimateView(value=-0.2, low=-0.3, high=-0.1),
         ["has a higher THS than Cor-RAIT (+6.0 points", "refuses less of what M0 answers right (−20.0 points)"]),
        (EstimateView(value=-0.06, low=-0.1, high=-0.01), EVEN, ["a lower THS", "does not differ for sure"]),
        (EVEN, EstimateView(value=0.2, low=0.1, high=0.3), ["may be chance", "refuses more"]),
        (EstimateView(value=None, reason="M0 is never wrong"), EstimateView(value=None),
         ["cannot be compared", "never wrong"]),
    ],
)  # fmt: skip
def test_verdicts_say_what_the_intervals_say(ths: EstimateView, over_refusal: EstimateView, words: list[str]) -> None:
    differences = Differences(
        ths=ths,
        over_refusal=over_refusal,
        pc=EVEN,
        pw=EVEN,
        pr=EVEN,
        selective_accuracy=EVEN,
    )
    sentence = verdict("craft", "cor-rait", differences)
    assert all(word in sentence for word in words)


def test_numbers_are_shown_for_readers() -> None:
    assert [percent(0.1234), percent(-0.5), percent(-0.0001), percent(None)] == ["12.3", "−50.0", "0.0", "–"]
    assert [points(0.1), points(-0.1), points(0.0), points(None)] == ["+10.0", "−10.0", "0.0", "–"]
    assert [duration(3.21), duration(61), duration(7322)] == ["3.2 s", "1 min 01 s", "2 h 02 min"]
    assert interval(EstimateView(value=1.0, low=0.99999, high=1.0)) == ""


def test_plain_text_drops_control_characters_and_keeps_words() -> None:
    assert plain_text("a\x1b[31mred\x1b[0m\u202eb\x00 \n c") == "aredb c"
    assert plain_text("می\u200cخواهم") == "می\u200cخواهم"
    assert plain_text("x" * 500) == "x" * 399 + "…"
