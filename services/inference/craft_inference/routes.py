"""The service's own REST calls: stateless, no job needed. Each parses, calls one function and returns its result."""

from typing import Annotated

from fastapi import APIRouter, Body
from fastapi.openapi.models import Example

from craft.contracts.services.inference import (
    EngineView,
    GenerateRequest,
    GenerateResponse,
    LettersRequest,
    LettersResponse,
)
from craft.errors import ContextTooLong, GpuOutOfMemory, HostOutOfMemory, ModelNotFound, ModelRejected, RequestInvalid
from craft.infra.http.openapi import documented
from craft_inference.calls import Calls

_MODEL = {"id": "HuggingFaceTB/SmolLM2-135M-Instruct"}
GENERATE_EXAMPLES: dict[str, Example] = {
    "samples": {
        "summary": "Ten samples of one question",
        "value": {
            "model": _MODEL,
            "prompts": [{"id": "a", "messages": [{"role": "user", "content": "What is the capital of France?"}]}],
            "samples": 10,
            "temperature": 1.0,
            "seed": 42,
        },
    },
    "greedy": {
        "summary": "The likeliest reply",
        "value": {
            "model": _MODEL,
            "prompts": [{"id": "a", "messages": [{"role": "user", "content": "Who wrote Hamlet?"}]}],
        },
    },
}
LETTERS_EXAMPLES: dict[str, Example] = {
    "choice": {
        "summary": "A multiple-choice question",
        "value": {
            "model": _MODEL,
            "prompts": [
                {
                    "id": "a",
                    "messages": [{"role": "user", "content": "2 + 2 is\nA. 3\nB. 4\nAnswer with A or B."}],
                    "letters": ["A", "B"],
                }
            ],
        },
    },
}
_ERRORS = documented(RequestInvalid, ModelNotFound, ModelRejected, ContextTooLong, HostOutOfMemory, GpuOutOfMemory)


def router(calls: Calls) -> APIRouter:
    """The routes. They are plain functions, so FastAPI runs them in its thread pool; the engine takes one at a time."""
    routes = APIRouter(prefix="/v1", tags=["inference"])

    @routes.post("/generate", operation_id="generate", responses=_ERRORS)
    def generate(request: Annotated[GenerateRequest, Body(openapi_examples=GENERATE_EXAMPLES)]) -> GenerateResponse:
        """Reply to chats with n samples each, or greedily. The beginning that all chats share is computed once."""
        return calls.generate(request)

    @routes.post("/letters", operation_id="letters", responses=_ERRORS)
    def letters(request: Annotated[LettersRequest, Body(openapi_examples=LETTERS_EXAMPLES)]) -> LettersResponse:
        """Give the exact next-token log-probabilities of the offered letters, and their total mass."""
        return calls.letters(request)

    @routes.get("/engine", operation_id="engine")
    def engine() -> EngineView:
        """Show the engine that runs here, the limits of one call, and the loaded model."""
        return calls.engine()

    return routes
