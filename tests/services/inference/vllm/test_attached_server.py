"""A vLLM server of the team's own that would give other numbers is refused, with the option to set."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tests.services.inference.conftest import CONTEXT_LENGTH, byte_tokenizer

from craft.errors import Internal, ServerUnsuitable, Unavailable
from craft_inference.prompting.chat import Chat
from craft_inference.vllm.attached_server import check_attached, deviation
from craft_inference.vllm.client import CompletionRequest

VOCABULARY = 262
Logits = np.ndarray[Any, np.dtype[np.float64]]


def log_softmax(logits: Logits) -> Logits:
    result: Logits = logits - np.logaddexp.reduce(logits)
    return result


@dataclass
class Theirs:
    """A server that samples as vLLM does from logits that depend on the prompt. Each field is a way to be different."""

    draw: Callable[[Logits], Logits] = log_softmax
    """The log-probabilities from which it draws."""
    logprobs_mode: str = "raw_logprobs"
    tokenizer_shift: int = 0
    knows_asked_tokens: bool = True
    max_logprobs: int = 20
    noise: float = 0.05
    lost: bool = False

    async def tokens_of(self, body: Mapping[str, Any]) -> list[int]:
        ids = byte_tokenizer()([body["prompt"]], add_special_tokens=body["add_special_tokens"])["input_ids"][0]
        return [token + self.tokenizer_shift for token in ids]

    async def ask(self, request: CompletionRequest, model: str) -> Any:
        if self.lost:
            raise Unavailable("gone")
        body = request.body
        if body["logprobs"] > self.max_logprobs:
            raise Internal(f"Requested sample logprobs of {body['logprobs']}, which is greater than max allowed")
        prompt = body["prompt"]
        logits = np.random.default_rng(sum(prompt) + len(prompt)).normal(4.0, 2.5, VOCABULARY)
        biased = logits.copy()
        for token, bias in body.get("logit_bias", {}).items():
            biased[int(token)] += bias
        kept = {
            "raw_logprobs": log_softmax(logits),
            "processed_logprobs": log_softmax(biased),
            "raw_logits": logits,
            "processed_logits": biased,
        }[self.logprobs_mode]
        random = np.random.default_rng(body.get("seed"))
        kept = kept + random.normal(0, self.noise, VOCABULARY) * (self.logprobs_mode == "raw_logprobs")
        return {"choices": [self._choice(body, biased, kept, random) for _ in range(body.get("n", 1))]}

    def _choice(self, body: Mapping[str, Any], biased: Logits, kept: Logits, random: np.random.Generator) -> Any:
        drawn_from = np.exp(self.draw(biased))
        greedy = body["temperature"] == 0.0
        token = int(drawn_from.argmax() if greedy else random.choice(VOCABULARY, p=drawn_from / drawn_from.sum()))
        asked = body.get("logprob_token_ids") if self.knows_asked_tokens else None
        shown = asked or [int(each) for each in np.argsort(-kept)[: body["logprobs"]]]
        top = {f"token_id:{each}": float(kept[each]) for each in [*shown, token]}
        return {"logprobs": {"tokens": [f"token_id:{token}"], "top_logprobs": [top]}}


def check(server: Theirs) -> None:
    chat = Chat(byte_tokenizer(), end_tokens=[2], context_length=CONTEXT_LENGTH)
    asyncio.run(check_attached(server, chat, "team/a"))


def top_one(logits: Logits) -> Logits:
    return np.where(logits == logits.max(), 0.0, -np.inf)


def hotter(logits: Logits) -> Logits:
    return log_softmax(logits / 1.6)


def nucleus(logits: Logits) -> Logits:
    """As top_p 0.7 does."""
    order = np.argsort(-logits)
    shares = np.exp(log_softmax(logits)[order])
    keep = np.cumsum(shares) - shares < 0.7
    result = np.full_like(logits, -np.inf)
    result[order[keep]] = logits[order[keep]]
    return log_softmax(result)


def without_the_likeliest(logits: Logits) -> Logits:
    return log_softmax(np.where(logits == logits.max(), -np.inf, logits))


def test_a_server_with_our_options_passes() -> None:
    check(Theirs())


@pytest.mark.parametrize(
    ("server", "words", "option"),
    [
        (Theirs(tokenizer_shift=1), "other tokens", "--tokenizer"),
        (Theirs(logprobs_mode="processed_logprobs"), "after its processing", "--logprobs-mode raw_logprobs"),
        (Theirs(logprobs_mode="raw_logits"), "logits", "--logprobs-mode raw_logprobs"),
        (Theirs(logprobs_mode="processed_logits"), "logits", "--logprobs-mode raw_logprobs"),
        (Theirs(knows_asked_tokens=False), "no log-probability for", "0.32"),
        (Theirs(max_logprobs=0), "refuses a request", "--max-logprobs"),
        (Theirs(draw=top_one), "does not draw", "--generation-config vllm"),
        (Theirs(draw=hotter), "does not draw", "--generation-config vllm"),
        (Theirs(draw=nucleus), "does not draw", "--generation-config vllm"),
        (Theirs(draw=without_the_likeliest), "likeliest token", "--logits-processors"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_server_that_would_give_other_numbers_is_refused_with_the_option_to_set(
    server: Theirs, words: str, option: str
) -> None:
    """Each line is a stage whose results would be others, in silence."""
    with pytest.raises(ServerUnsuitable, match=words) as refused:
        check(server)
    assert option in str(refused.value.hint)
    assert not refused.value.retryable


def test_a_server_that_is_lost_meanwhile_is_no_unsuitable_one() -> None:
    with pytest.raises(Unavailable, match="gone"):
        check(Theirs(lost=True))


def test_draws_as_they_should_be_deviate_little_and_others_much() -> None:
    probabilities = {1: 0.5, 2: 0.3, 3: 0.001}
    tokens, shares = [1, 2, 3, 9], [0.5, 0.3, 0.001, 0.199]
    fair = [
        deviation(list(np.random.default_rng(seed).choice(tokens, 256, p=shares)), probabilities) for seed in range(200)
    ]
    assert max(fair) < 25
    assert deviation([1] * 256, probabilities) == pytest.approx(2 * 256 * math.log(2))
    assert deviation([9] * 256, {1: 1.0}) > 1000
