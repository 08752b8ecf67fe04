"""Makes training sets from knowledge states: the rehearsal set and each strategy's tuning set (Algorithm 1)."""

from collections.abc import Mapping, Sequence

from craft.contracts.services.datasets import SelectRequest, SelectState
from craft.contracts.spec.jobs import PromptSettings, SelectionSettings
from craft.contracts.stages.rows import ChatMessage, TrainingKind, TrainingRow
from craft.core.flow import KnowledgeFlow
from craft.core.judging.answers import majority_right_answer
from craft.core.judging.refusals import wording_for
from craft.core.judging.wordings.base import RefusalWording
from craft.core.knowledge import KnowledgeState
from craft.core.prompts import PromptMode, PromptTemplates, answer_messages, target, templates_from
from craft.core.questions import OpenQuestion, Question
from craft.core.selection import QuestionFlow, Selection, comparable_rule, select
from craft.core.strategies import SelectionRule, Shortage, Strategy

DEFAULT_VAN_PER_IDK = 4


def choose(
    states: Mapping[str, KnowledgeState],
    flows: Mapping[str, KnowledgeFlow] | None,
    *,
    strategy: Strategy,
    compared_with: Sequence[Strategy],
    settings: SelectionSettings,
    seed: int,
) -> Selection:
    """A strategy's selection from a job's states, of a size that each strategy in `compared_with` can fill too.

    `flows` may be None if none of these strategies needs it.
    """
    rows = [QuestionFlow(id, state, flows[id] if flows is not None else None) for id, state in states.items()]
    rule = comparable_rule(
        rows, strategies=compared_with or [strategy], rule=selection_rule(settings, questions=len(rows), seed=seed)
    )
    return select(rows, strategy=strategy, rule=rule)


def selection_rule(settings: SelectionSettings, *, questions: int, seed: int) -> SelectionRule:
    """The rule of a job's settings. A size that they leave out follows from the other one, at 4 : 1.

    Where they leave out both, the rule asks for more rows than there can be and lets the set shrink to the most.
    """
    n_van, n_idk, shortage = settings.n_van, settings.n_idk, settings.shortage
    if n_van is None and n_idk is None:
        n_idk, shortage = questions, Shortage.SHRINK
    if n_idk is None:
        n_idk = max(1, (n_van or 0) // DEFAULT_VAN_PER_IDK)
    return SelectionRule(
        tau=settings.tau,
        margin=settings.margin,
        flow_rule=settings.flow_rule,
        n_van=n_idk * DEFAULT_VAN_PER_IDK if n_van is None else n_van,
        n_idk=n_idk,
        shortage=shortage,
        seed=seed,
    )


def choose_stateless(request: SelectRequest) -> Selection:
    """The same selection from the states of a request, for `POST /v1/select`."""
    rule = SelectionRule(
        tau=request.rule.tau,
        margin=request.rule.margin,
        flow_rule=request.rule.flow_rule,
        n_van=request.rule.n_van,
        n_idk=request.rule.n_idk,
        shortage=request.rule.shortage,
        seed=request.rule.seed,
    )
    return select([_question_flow(state) for state in request.states], strategy=request.strategy, rule=rule)


def _question_flow(state: SelectState) -> QuestionFlow:
    flow = None if state.flow is None else KnowledgeFlow(state.flow.correctness, state.flow.certainty)
    return QuestionFlow(state.id, KnowledgeState(state.correctness, state.certainty), flow)


def tuning_rows(
    questions: Sequence[Question],
    selection: Selection,
    prompts: PromptSettings,
    *,
    samples: Mapping[str, Sequence[str]],
) -> list[TrainingRow]:
    """Training rows in the questions' order; both kinds carry the REFUSE prompt (method.md, step 8).

    A question with `samples` is taught the model's own right answer among them, if there is one.
    """
    templates, wording = templates_from(prompts.templates), _wording(prompts)
    van, idk = set(selection.van), set(selection.idk)
    rows: list[TrainingRow] = []
    for question in questions:
        if question.id in van:
            answer = _own_or_gold(question, samples, templates, wording)
            rows.append(_row(question, TrainingKind.VAN, PromptMode.REFUSE, answer, templates))
        elif question.id in idk:
            rows.append(_row(question, TrainingKind.IDK, PromptMode.REFUSE, templates.refusal, templates))
    return rows


def rehearsal_rows(
    questions: Sequence[Question], samples: Mapping[str, Sequence[str]], prompts: PromptSettings
) -> list[TrainingRow]:
    """Plain-prompt rows whose target is the model's own most frequent right answer; the gold letter for choices."""
    templates, wording = templates_from(prompts.templates), _wording(prompts)
    return [
        _row(
            question,
            TrainingKind.REHEARSE,
            PromptMode.BASIC,
            _own_or_gold(question, samples, templates, wording),
            templates,
        )
        for question in questions
    ]


def _wording(prompts: PromptSettings) -> RefusalWording:
    """The wording that the samples were scored with: a refusal that names the answer is not taught."""
    return wording_for(prompts.language, prompts.extra_refusals)


def _own_or_gold(
    question: Question, samples: Mapping[str, Sequence[str]], templates: PromptTemplates, wording: RefusalWording
) -> str:
    replies = samples.get(question.id, ())
    own = majority_right_answer(replies, question, wording=wording) if isinstance(question, OpenQuestion) else None
    return own if own is not None else target(question, templates)


def _row(
    question: Question, kind: TrainingKind, mode: PromptMode, answer: str, templates: PromptTemplates
) -> TrainingRow:
    turns = answer_messages(question, mode, templates)
    messages = [ChatMessage(role=turn.role, content=turn.content) for turn in turns]
    return TrainingRow(id=question.id, kind=kind, messages=messages, target=answer)
