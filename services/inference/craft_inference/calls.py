"""The REST calls as functions, without HTTP: a request model in, a response model out."""

import math
from collections.abc import Callable
from dataclasses import asdict

from craft.contracts.services.inference import (
    MAX_NEW_TOKENS,
    MAX_PROMPTS,
    MAX_REPLIES,
    MAX_SAMPLES,
    ChatPrompt,
    EngineView,
    GeneratedRow,
    GenerateRequest,
    GenerateResponse,
    LettersRequest,
    LettersResponse,
    LettersRow,
    LoadedModel,
    TokenUsage,
)
from craft.contracts.spec.jobs import BaseModelRef
from craft.contracts.stages.parameters import EngineRef, ModelRef
from craft.core.prompts import ModelMessage
from craft.errors import RequestInvalid
from craft_inference.engine import LetterPrompt, Prompt, Sampling
from craft_inference.engine_holder import EngineHolder

Find = Callable[[BaseModelRef], ModelRef]
"""Resolves a model that a request names. Raises ModelNotFound, ModelRejected."""


class Calls:
    """The calls over one loaded engine."""

    def __init__(self, engines: EngineHolder, find: Find, engine: EngineRef) -> None:
        self._engines = engines
        self._find = find
        self._engine = engine

    def generate(self, request: GenerateRequest) -> GenerateResponse:
        """Reply to every prompt. Raises RequestInvalid if the request is too much for one call."""
        if len(request.prompts) * request.samples > MAX_REPLIES:
            raise RequestInvalid(
                f"{len(request.prompts)} prompts × {request.samples} samples are more than {MAX_REPLIES} replies.",
                hint="Send them in several calls.",
                param="prompts",
            )
        prompts = [Prompt(prompt.id, _messages(prompt)) for prompt in request.prompts]
        sampling = Sampling(
            max_new_tokens=request.max_new_tokens,
            samples=request.samples,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
        )
        with self._engines.borrow(self._find(request.model), self._engine) as engine:
            replies = engine.generate(prompts, sampling)
        return GenerateResponse(
            rows=[
                GeneratedRow(id=row.id, samples=list(row.texts), finishes=list(row.finishes)) for row in replies.rows
            ],
            usage=TokenUsage(**asdict(replies.usage)),
        )

    def letters(self, request: LettersRequest) -> LettersResponse:
        """Score the letters of every prompt."""
        prompts = [LetterPrompt(prompt.id, _messages(prompt), tuple(prompt.letters)) for prompt in request.prompts]
        for prompt in prompts:
            if len(set(prompt.letters)) != len(prompt.letters):
                raise RequestInvalid(f"{prompt.id} offers a letter twice.", param="prompts.letters")
        with self._engines.borrow(self._find(request.model), self._engine) as engine:
            letters = engine.letters(prompts)
        rows = [
            LettersRow(
                id=row.id,
                logprobs=dict(zip(prompt.letters, row.logprobs, strict=True)),
                mass=math.fsum(map(math.exp, row.logprobs)),
            )
            for prompt, row in zip(prompts, letters.rows, strict=True)
        ]
        return LettersResponse(rows=rows, usage=TokenUsage(**asdict(letters.usage)))

    def engine(self) -> EngineView:
        """The engine, the limits of one call, and the loaded model."""
        current = self._engines.current
        loaded = None
        if current is not None:
            model, description = current[0], current[1].describe()
            loaded = LoadedModel(
                id=model.id,
                revision=model.revision,
                dtype=description.dtype,
                device=description.device,
                attention=description.attention,
                context_length=description.context_length,
            )
        limits = {
            "prompts": MAX_PROMPTS,
            "samples": MAX_SAMPLES,
            "replies": MAX_REPLIES,
            "new_tokens": MAX_NEW_TOKENS,
        }
        return EngineView(name=self._engine.name, limits=limits, loaded=loaded)


def _messages(prompt: ChatPrompt) -> tuple[ModelMessage, ...]:
    return tuple(ModelMessage(message.role, message.content) for message in prompt.messages)
