"""Steps 6 and 7 of the method: questions trained with their answer, questions trained with a refusal, dropped ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from craft.core.flow import KnowledgeFlow
from craft.core.knowledge import KnowledgeState
from craft.core.questions import id_hash
from craft.core.strategies import FlowRule, SelectionRule, Shortage, Strategy
from craft.errors import DatasetInvalid, MissingStates, RequestInvalid, TooFewKnown, TooFewUnknown

Positions = NDArray[np.intp]


class QuestionFlow(NamedTuple):
    """A question's state under the initial model and, after a rehearsal, its flow."""

    id: str
    state: KnowledgeState
    flow: KnowledgeFlow | None = None


class DropReason(StrEnum):
    """The reason why a question is in neither set."""

    DYNAMIC_CONFLICT = "dynamic_conflict"
    """Its correctness rises by itself; a refusal as its target would work against that."""
    STATIC_CONFLICT = "static_conflict"
    """Left over by the ranking: its state is like that of questions with the other kind of target."""
    NOT_DRAWN = "not_drawn"
    """Left over by a random draw."""


class Dropped(NamedTuple):
    """One dropped question."""

    id: str
    reason: DropReason


@dataclass(frozen=True, slots=True)
class Selection:
    """Each input question is in exactly one list: van and idk in selection order, dropped in input order."""

    van: tuple[str, ...]
    idk: tuple[str, ...]
    dropped: tuple[Dropped, ...]


def select(states: Sequence[QuestionFlow], *, strategy: Strategy, rule: SelectionRule) -> Selection:
    """Train each question with its answer (van), with a refusal (idk), or drop it (Algorithm 1 of CRaFT).

    The order of `states` affects only the order of `dropped`; a hash of the id breaks ties.
    Raises DatasetInvalid for a repeated id, MissingStates for a missing flow, and TooFewKnown or TooFewUnknown if a
    requested kind has no candidate, or too few candidates and `rule.shortage` is "error".
    """
    table = _Table.of(states)
    candidates = _candidates(table, states, strategy=strategy, rule=rule)
    n_van, n_idk = _sizes(candidates, strategy=strategy, rule=rule)
    van = candidates.van[_order(table, candidates.van, -table.certainty, strategy, rule)][:n_van]
    idk = candidates.idk[_order(table, candidates.idk, table.certainty, strategy, rule)][:n_idk]
    reasons = np.full(len(states), DropReason.NOT_DRAWN, dtype=object)
    if strategy.by_certainty:
        reasons[:] = DropReason.STATIC_CONFLICT
    reasons[candidates.conflicting] = DropReason.DYNAMIC_CONFLICT
    left = np.ones(len(states), dtype=bool)
    left[van] = left[idk] = False
    return Selection(
        van=tuple(table.ids[at] for at in van),
        idk=tuple(table.ids[at] for at in idk),
        dropped=tuple(Dropped(table.ids[at], reasons[at]) for at in np.flatnonzero(left)),
    )


def comparable_rule(
    states: Sequence[QuestionFlow], *, strategies: Sequence[Strategy], rule: SelectionRule
) -> SelectionRule:
    """`rule` with sizes that each of `strategies` can fill, so that their sets have one size.

    Only a shortage changes the sizes: it takes the smallest of the sizes to which the strategies shrink. Raises as
    `select`.
    """
    table = _Table.of(states)
    sizes = [
        _sizes(_candidates(table, states, strategy=strategy, rule=rule), strategy=strategy, rule=rule)
        for strategy in strategies
        if strategy is not Strategy.VAN_TUNING
    ]
    if not sizes or rule.shortage is not Shortage.SHRINK:
        return rule
    return replace(rule, n_van=min(van for van, _ in sizes), n_idk=min(idk for _, idk in sizes))


class _Table(NamedTuple):
    """The states as columns, for arithmetic on whole columns."""

    ids: list[str]
    correctness: NDArray[np.float64]
    certainty: NDArray[np.float64]

    @classmethod
    def of(cls, states: Sequence[QuestionFlow]) -> "_Table":
        ids = [row.id for row in states]
        if len(set(ids)) != len(ids):
            repeated = sorted(_repeated(ids))
            raise DatasetInvalid(
                f"{len(repeated)} ids come more than once", hint=f"for example {', '.join(repeated[:3])}"
            )
        pairs = np.fromiter((part for row in states for part in row.state), dtype=np.float64, count=2 * len(ids))
        # `not (… and …)` instead of `<`, because NaN fails every comparison and so is caught too.
        if not bool(((pairs >= 0) & (pairs <= 1)).all()):
            raise RequestInvalid("correctness and certainty must be numbers from 0 to 1", param="states")
        return cls(ids, pairs[0::2], pairs[1::2])


def _repeated(ids: Sequence[str]) -> set[str]:
    seen: set[str] = set()
    return {item for item in ids if item in seen or seen.add(item)}  # type: ignore[func-returns-value]


class _Candidates(NamedTuple):
    """The positions of each kind's candidates and of the dynamic conflicts."""

    van: Positions
    idk: Positions
    conflicting: Positions


def _candidates(
    table: _Table, states: Sequence[QuestionFlow], *, strategy: Strategy, rule: SelectionRule
) -> _Candidates:
    none = np.zeros(0, dtype=np.intp)
    if strategy is Strategy.VAN_TUNING:
        return _Candidates(np.arange(len(states)), none, none)
    known = table.correctness >= rule.tau
    conflict = np.zeros(len(states), dtype=bool)
    if strategy.needs_flow:
        change = _correctness_flow(states)
        rising = change > rule.margin if rule.flow_rule is FlowRule.IMPROVED else change >= rule.margin
        conflict = ~known & rising
    return _Candidates(np.flatnonzero(known), np.flatnonzero(~known & ~conflict), np.flatnonzero(conflict))


def _correctness_flow(states: Sequence[QuestionFlow]) -> NDArray[np.float64]:
    missing = [row.id for row in states if row.flow is None]
    if missing:
        raise MissingStates(f"{len(missing)} questions have no flow", hint=f"for example {', '.join(missing[:3])}")
    change = np.fromiter((row.flow.correctness for row in states if row.flow), dtype=np.float64, count=len(states))
    if np.isnan(change).any():
        raise RequestInvalid("a flow must be a number", param="states")
    return change


def _sizes(candidates: _Candidates, *, strategy: Strategy, rule: SelectionRule) -> tuple[int, int]:
    """The numbers of each kind to take, according to `rule.shortage`."""
    van, idk, total = len(candidates.van), len(candidates.idk), rule.n_van + rule.n_idk
    if strategy is Strategy.VAN_TUNING:
        _check(van, total, rule, TooFewKnown, "van-tuning takes n_van + n_idk questions; give more data or lower them")
        return min(van, total), 0
    _check(van, rule.n_van, rule, TooFewKnown, "lower tau, the probe temperature or n_van, or give more data")
    _check(idk, rule.n_idk, rule, TooFewUnknown, "raise tau or margin, lower n_idk, or give more or harder data")
    take_van, take_idk = min(van, rule.n_van), min(idk, rule.n_idk)
    if rule.shortage is Shortage.FILL:
        return min(van, total - take_idk), min(idk, total - take_van)
    if rule.n_van and rule.n_idk:
        # In integers: n_idk · take_van and n_van · take_idk compare both scales without rounding.
        if take_van * rule.n_idk < take_idk * rule.n_van:
            take_idk = max(1, take_van * rule.n_idk // rule.n_van)
        else:
            take_van = max(1, take_idk * rule.n_van // rule.n_idk)
    return take_van, take_idk


def _check(
    available: int, wanted: int, rule: SelectionRule, error: type[TooFewKnown | TooFewUnknown], hint: str
) -> None:
    if wanted and (not available or (available < wanted and rule.shortage is Shortage.ERROR)):
        kind = "known" if error is TooFewKnown else "unknown"
        raise error(f"{wanted} {kind} questions are wanted, but there are {available}", hint=hint, param="selection")


def _order(
    table: _Table, positions: Positions, badness: NDArray[np.float64], strategy: Strategy, rule: SelectionRule
) -> Positions:
    """The selection order: lowest `badness` first, or a seeded shuffle that the input's order cannot change."""
    salt = "tie" if strategy.by_certainty else f"draw {rule.seed}"
    hashes = _hashes(table.ids, positions, salt)
    return np.lexsort((hashes, badness[positions])) if strategy.by_certainty else np.argsort(hashes, kind="stable")


def _hashes(ids: Sequence[str], positions: Positions, salt: str) -> NDArray[np.uint64]:
    return np.fromiter((id_hash(ids[at], salt=salt) for at in positions), dtype=np.uint64, count=len(positions))
