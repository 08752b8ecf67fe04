"""The service's own REST calls: stateless, no job needed. Each parses, calls one function and returns its result."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Body
from fastapi.openapi.models import Example

from craft.contracts.services.scoring import (
    EvaluateRequest,
    EvaluateResponse,
    FlowRequest,
    FlowResponse,
    JudgeRequest,
    JudgeResponse,
    StatesRequest,
    StatesResponse,
)
from craft.errors import ModelNotFound, ModelRejected, RequestInvalid
from craft.infra.http.openapi import documented
from craft_scoring import calls
from craft_scoring.embedding.embedder import Embedder

JUDGE_EXAMPLES: dict[str, Example] = {
    "open_ended": {
        "summary": "Open-ended replies",
        "value": {
            "task": "open_ended",
            "rows": [
                {"id": "a", "reply": "It is Paris.", "answers": ["Paris"]},
                {"id": "b", "reply": "我不知道。", "answers": ["堪培拉", "Canberra"], "language": "zh"},
            ],
        },
    },
    "multiple_choice": {
        "summary": "Multiple-choice replies",
        "value": {
            "task": "multiple_choice",
            "rows": [{"id": "a", "reply": "B.", "choices": ["Lyon", "Paris", "Nice"], "answer": "B"}],
        },
    },
}
STATES_EXAMPLES: dict[str, Example] = {
    "open_ended": {
        "summary": "Sampled replies",
        "value": {
            "task": "open_ended",
            "rows": [{"id": "a", "samples": ["Paris", "Paris.", "Lyon"], "answers": ["Paris"]}],
        },
    },
    "multiple_choice": {
        "summary": "Log-probabilities of the letters",
        "value": {
            "task": "multiple_choice",
            "rows": [{"id": "a", "logprobs": {"A": -0.22, "B": -2.1, "C": -3.5}, "answer": "A"}],
        },
    },
}


def router(embedder: Callable[[], Embedder]) -> APIRouter:
    """The routes. `embedder` is called at need. They are plain functions, so FastAPI runs them in its thread pool."""
    routes = APIRouter(prefix="/v1", tags=["scoring"], responses=documented(RequestInvalid))

    @routes.post("/judge", operation_id="judge")
    def judge(request: Annotated[JudgeRequest, Body(openapi_examples=JUDGE_EXAMPLES)]) -> JudgeResponse:
        """Judge each reply as right, wrong, refused or unparsed."""
        return calls.judged(request)

    @routes.post(
        "/states",
        operation_id="states",
        response_model_exclude_none=True,
        responses=documented(RequestInvalid, ModelNotFound, ModelRejected),
    )
    def states(request: Annotated[StatesRequest, Body(openapi_examples=STATES_EXAMPLES)]) -> StatesResponse:
        """Compute each question's correctness and certainty from sampled replies or letter log-probabilities."""
        return calls.states(request, embedder)

    @routes.post("/flow", operation_id="flow")
    def flow(request: FlowRequest) -> FlowResponse:
        """Compute the knowledge flow: each question's state after rehearsal minus its state before."""
        return calls.flow(request)

    @routes.post("/evaluate", operation_id="evaluate")
    def evaluate(request: EvaluateRequest) -> EvaluateResponse:
        """Compute all metrics with bootstrap 95 % intervals, and the candidates' paired differences to the baseline."""
        return calls.evaluation(request)

    return routes
