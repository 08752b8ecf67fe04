"""Selection makes each question van, idk or dropped."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.core.flow import KnowledgeFlow
from craft.core.knowledge import KnowledgeState
from craft.core.selection import Dropped, DropReason, QuestionFlow, Selection, comparable_rule, select
from craft.core.strategies import FlowRule, SelectionRule, Shortage, Strategy
from craft.errors import CraftError, DatasetInvalid, MissingStates, RequestInvalid, TooFewKnown, TooFewUnknown

DYNAMIC, STATIC, NOT_DRAWN = DropReason.DYNAMIC_CONFLICT, DropReason.STATIC_CONFLICT, DropReason.NOT_DRAWN


def row(name: str, correctness: float, certainty: float, change: float | None = 0.0) -> QuestionFlow:
    flow = None if change is None else KnowledgeFlow(change, 0.0)
    return QuestionFlow(name, KnowledgeState(correctness, certainty), flow)


ROWS = [
    row("sure", 1.0, 0.9),
    row("surest", 0.5, 1.0),
    row("shaky", 0.9, 0.2),
    row("rising", 0.2, 0.1, 0.3),
    row("still", 0.0, 0.5),
    row("lost", 0.1, 0.05, -0.1),
    row("stubborn", 0.4, 0.95, -0.2),
]


def rule(
    n_van: int = 2,
    n_idk: int = 2,
    *,
    seed: int = 7,
    flow_rule: FlowRule = FlowRule.IMPROVED,
    shortage: Shortage = Shortage.SHRINK,
    margin: float = 0.0,
) -> SelectionRule:
    return SelectionRule(n_van=n_van, n_idk=n_idk, seed=seed, flow_rule=flow_rule, shortage=shortage, margin=margin)


def test_craft_by_hand() -> None:
    assert select(ROWS, strategy=Strategy.CRAFT, rule=rule()) == Selection(
        van=("surest", "sure"),
        idk=("lost", "still"),
        dropped=(Dropped("shaky", STATIC), Dropped("rising", DYNAMIC), Dropped("stubborn", STATIC)),
    )


def test_the_papers_rule_drops_an_unchanged_question_too() -> None:
    found = select(ROWS, strategy=Strategy.CRAFT, rule=rule(flow_rule=FlowRule.PAPER))
    assert found.idk == ("lost", "stubborn")
    assert Dropped("still", DYNAMIC) in found.dropped


def test_under_the_papers_rule_a_question_never_answered_right_cannot_become_idk() -> None:
    rows = [row("known", 1.0, 1.0), row("never", 0.0, 0.0, 0.0), row("learnt", 0.0, 0.0, 0.1)]
    with pytest.raises(TooFewUnknown):
        select(rows, strategy=Strategy.CRAFT, rule=rule(1, 1, flow_rule=FlowRule.PAPER))


def test_a_margin_forgives_a_small_rise() -> None:
    assert select(ROWS, strategy=Strategy.CRAFT, rule=rule(margin=0.3)).idk == ("lost", "rising")


def test_without_the_flow_a_rising_question_may_be_taken() -> None:
    rows = [each._replace(flow=None) for each in ROWS]
    assert select(rows, strategy=Strategy.CRAFT_NO_FLOW, rule=rule()) == Selection(
        van=("surest", "sure"),
        idk=("lost", "rising"),
        dropped=(Dropped("shaky", STATIC), Dropped("still", STATIC), Dropped("stubborn", STATIC)),
    )


def test_without_certainty_the_choice_is_random_but_the_flow_still_drops() -> None:
    draws = [select(ROWS, strategy=Strategy.CRAFT_NO_CERTAINTY, rule=rule(seed=seed)) for seed in range(20)]
    assert all(Dropped("rising", DYNAMIC) in each.dropped for each in draws)
    assert {reason for each in draws for _, reason in each.dropped} == {DYNAMIC, NOT_DRAWN}
    assert len({frozenset(each.van) for each in draws}) == 3


def test_cor_rait_only_splits_at_tau() -> None:
    rows = [each._replace(flow=None) for each in ROWS]
    draws = [select(rows, strategy=Strategy.COR_RAIT, rule=rule(seed=seed)) for seed in range(30)]
    assert {name for each in draws for name in each.van} == {"sure", "surest", "shaky"}
    assert {name for each in draws for name in each.idk} == {"rising", "still", "lost", "stubborn"}
    assert {reason for each in draws for _, reason in each.dropped} == {NOT_DRAWN}


def test_van_tuning_takes_as_many_of_any_kind() -> None:
    draws = [select(ROWS, strategy=Strategy.VAN_TUNING, rule=rule(seed=seed)) for seed in range(30)]
    assert all(len(each.van) == 4 and not each.idk for each in draws)
    assert {name for each in draws for name in each.van} == {each.id for each in ROWS}


def test_a_draw_depends_on_the_seed_alone() -> None:
    for strategy in (Strategy.COR_RAIT, Strategy.VAN_TUNING, Strategy.CRAFT_NO_CERTAINTY):
        assert select(ROWS, strategy=strategy, rule=rule()) == select(ROWS, strategy=strategy, rule=rule())


def test_correctness_at_tau_is_known() -> None:
    rows = [row("at", 0.5, 0.5), row("below", 0.4999999, 0.5)]
    assert select(rows, strategy=Strategy.CRAFT, rule=rule(1, 1)) == Selection(("at",), ("below",), ())


def pool(known: int, unknown: int) -> list[QuestionFlow]:
    return [row(f"k{n}", 1.0, n / 100) for n in range(known)] + [row(f"u{n}", 0.0, n / 100) for n in range(unknown)]


@pytest.mark.parametrize(
    ("known", "unknown", "asked", "shrunk", "filled"),
    [
        (40, 10, (40, 10), (40, 10), (40, 10)),
        (20, 10, (40, 10), (20, 5), (20, 10)),
        (40, 5, (40, 10), (20, 5), (40, 5)),
        (50, 5, (40, 10), (20, 5), (45, 5)),
        (20, 50, (40, 10), (20, 5), (20, 30)),
        (1, 50, (40, 10), (1, 1), (1, 49)),
        (9, 3, (10, 4), (7, 3), (9, 3)),
        (3, 0, (2, 0), (2, 0), (2, 0)),
        (0, 3, (0, 2), (0, 2), (0, 2)),
    ],
)
def test_shortage(
    known: int, unknown: int, asked: tuple[int, int], shrunk: tuple[int, int], filled: tuple[int, int]
) -> None:
    for shortage, sizes in ((Shortage.SHRINK, shrunk), (Shortage.FILL, filled)):
        found = select(pool(known, unknown), strategy=Strategy.CRAFT, rule=rule(*asked, shortage=shortage))
        assert (len(found.van), len(found.idk)) == sizes


@pytest.mark.parametrize(
    ("known", "unknown", "error"),
    [(3, 4, TooFewKnown), (4, 3, TooFewUnknown)],
)
def test_shortage_error_raises(known: int, unknown: int, error: type[CraftError]) -> None:
    with pytest.raises(error) as caught:
        select(pool(known, unknown), strategy=Strategy.CRAFT, rule=rule(4, 4, shortage=Shortage.ERROR))
    assert "tau" in (caught.value.hint or "")
    assert select(pool(4, 4), strategy=Strategy.CRAFT, rule=rule(4, 4, shortage=Shortage.ERROR)).dropped == ()


@pytest.mark.parametrize("shortage", list(Shortage))
def test_none_of_a_kind_raises_whatever_the_policy(shortage: Shortage) -> None:
    with pytest.raises(TooFewKnown):
        select(pool(0, 4), strategy=Strategy.COR_RAIT, rule=rule(shortage=shortage))
    with pytest.raises(TooFewUnknown):
        select(pool(4, 0), strategy=Strategy.COR_RAIT, rule=rule(shortage=shortage))
    with pytest.raises(TooFewKnown):
        select([], strategy=Strategy.VAN_TUNING, rule=rule(shortage=shortage))


def test_van_tuning_short_of_questions() -> None:
    assert len(select(pool(2, 1), strategy=Strategy.VAN_TUNING, rule=rule()).van) == 3
    with pytest.raises(TooFewKnown):
        select(pool(2, 1), strategy=Strategy.VAN_TUNING, rule=rule(shortage=Shortage.ERROR))


def test_strategies_compare_only_at_one_size() -> None:
    rows = [*pool(40, 4), *(row(f"r{n}", 0.0, 0.5, 0.5) for n in range(6))]
    asked = rule(40, 10)
    assert len(select(rows, strategy=Strategy.COR_RAIT, rule=asked).van) == 40
    shared = comparable_rule(rows, strategies=list(Strategy), rule=asked)
    assert (shared.n_van, shared.n_idk) == (16, 4)
    sets = [select(rows, strategy=strategy, rule=shared) for strategy in Strategy]
    assert {len(each.van) + len(each.idk) for each in sets} == {20}


def test_sizes_are_only_shared_where_something_shrinks() -> None:
    asked = rule(40, 10, shortage=Shortage.FILL)
    assert comparable_rule(pool(1, 1), strategies=list(Strategy), rule=asked) == asked
    assert comparable_rule([], strategies=[Strategy.VAN_TUNING], rule=rule()) == rule()


def test_an_id_that_comes_twice_is_refused() -> None:
    with pytest.raises(DatasetInvalid) as caught:
        select([*ROWS, ROWS[0], ROWS[0]], strategy=Strategy.CRAFT, rule=rule())
    assert caught.value.message == "1 ids come more than once"


@pytest.mark.parametrize("strategy", [Strategy.CRAFT, Strategy.CRAFT_NO_CERTAINTY])
def test_a_missing_flow_is_an_error(strategy: Strategy) -> None:
    assert strategy.needs_flow
    with pytest.raises(MissingStates):
        select([*ROWS, row("alone", 0.0, 0.0, None)], strategy=strategy, rule=rule())


@pytest.mark.parametrize(
    "bad",
    [row("x", float("nan"), 0.0), row("x", 1.1, 0.0), row("x", 0.0, -0.1), row("x", 0.0, 0.0, float("nan"))],
)
def test_a_state_that_is_no_share_is_refused(bad: QuestionFlow) -> None:
    with pytest.raises(RequestInvalid):
        select([*ROWS, bad], strategy=Strategy.CRAFT, rule=rule())


@pytest.mark.parametrize(
    ("n_van", "n_idk", "tau", "margin", "param"),
    [
        (1, 1, 1.1, 0.0, "tau"),
        (1, 1, float("nan"), 0.0, "tau"),
        (1, 1, 0.5, -2.0, "margin"),
        (-1, 5, 0.5, 0.0, "n_van"),
        (5, -1, 0.5, 0.0, "n_van"),
        (0, 0, 0.5, 0.0, "n_van"),
    ],
)
def test_a_rule_out_of_range_is_refused(n_van: int, n_idk: int, tau: float, margin: float, param: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        SelectionRule(n_van=n_van, n_idk=n_idk, seed=0, tau=tau, margin=margin)
    assert caught.value.param == param


SHARE = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
STATES = st.lists(st.tuples(SHARE, SHARE, st.sampled_from([-0.5, 0.0, 0.5])), min_size=1, max_size=40).map(
    lambda values: [row(f"id{number}", *each) for number, each in enumerate(values)]
)
RULES = st.builds(
    rule,
    st.integers(1, 10),
    st.integers(1, 10),
    seed=st.integers(0, 3),
    flow_rule=st.sampled_from(FlowRule),
    shortage=st.sampled_from([Shortage.SHRINK, Shortage.FILL]),
)


def outcome(rows: Sequence[QuestionFlow], strategy: Strategy, knobs: SelectionRule) -> Selection | type[CraftError]:
    try:
        return select(rows, strategy=strategy, rule=knobs)
    except (TooFewKnown, TooFewUnknown) as error:
        return type(error)


@given(STATES, st.sampled_from(Strategy), RULES)
def test_every_question_is_in_exactly_one_list(
    rows: list[QuestionFlow], strategy: Strategy, knobs: SelectionRule
) -> None:
    found = outcome(rows, strategy, knobs)
    if isinstance(found, Selection):
        dropped = [each.id for each in found.dropped]
        assert sorted([*found.van, *found.idk, *dropped]) == sorted(each.id for each in rows)
        assert dropped == [each.id for each in rows if each.id in set(dropped)]
        assert len(found.van) + len(found.idk) <= knobs.n_van + knobs.n_idk


@given(STATES, st.sampled_from(Strategy), RULES, st.randoms())
def test_the_order_of_the_rows_changes_no_decision(
    rows: list[QuestionFlow], strategy: Strategy, knobs: SelectionRule, order: random.Random
) -> None:
    first, again = outcome(rows, strategy, knobs), outcome(order.sample(rows, len(rows)), strategy, knobs)
    if isinstance(first, Selection) and isinstance(again, Selection):
        assert (first.van, first.idk) == (again.van, again.idk)
        assert set(first.dropped) == set(again.dropped)
    else:
        assert first == again


@given(STATES, RULES)
def test_what_is_taken_is_at_least_as_telling_as_what_is_left(rows: list[QuestionFlow], knobs: SelectionRule) -> None:
    found = outcome(rows, Strategy.CRAFT, knobs)
    if isinstance(found, Selection):
        states = {each.id: each.state for each in rows}
        left = [states[each.id] for each in found.dropped if each.reason is STATIC]
        known = [state.certainty for state in left if state.correctness >= knobs.tau]
        unknown = [state.certainty for state in left if state.correctness < knobs.tau]
        assert all(states[name].certainty >= max(known, default=0) for name in found.van)
        assert all(states[name].certainty <= min(unknown, default=1) for name in found.idk)


@given(STATES, RULES, st.integers(0, 39))
def test_a_question_that_rises_more_never_enters_idk(rows: list[QuestionFlow], knobs: SelectionRule, at: int) -> None:
    at %= len(rows)
    before = outcome(rows, Strategy.CRAFT, knobs)
    raised = [*rows[:at], rows[at]._replace(flow=KnowledgeFlow(0.75, 0.0)), *rows[at + 1 :]]
    after = outcome(raised, Strategy.CRAFT, knobs)
    if isinstance(before, Selection) and isinstance(after, Selection) and rows[at].id not in before.idk:
        assert rows[at].id not in after.idk
