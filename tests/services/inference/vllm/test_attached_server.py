"""A vLLM server of the team's own that would give other numbers is refused, with the option to set."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tests.services.inference.conftest import CONTEXT_LENGTH, byte_tokenizer

from craft.contracts.spec.chats import ChatFormat
from craft.errors import Internal, ModelRejected, ServerUnsuitable, Unavailable
from craft_inference.prompting.chat import PLAIN, Chat
from craft_inference.vllm.attached_server import check_adapters, check_attached, deviation
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
    adapters: tuple[str, ...] = ("neutral",)
    adapter_shift: float = 0.0
    template: str | None = None
    trusts_templates: bool = True

    async def tokens_of(self, body: Mapping[str, Any]) -> list[int]:
        if "messages" in body:
            return self._chat_tokens(body)
        ids = byte_tokenizer()([body["prompt"]], add_special_tokens=body["add_special_tokens"])["input_ids"][0]
        return [token + self.tokenizer_shift for token in ids]

    def _chat_tokens(self, body: Mapping[str, Any]) -> list[int]:
        if "chat_template" in body and not self.trusts_templates:
            raise Internal("Chat template is passed with request, but --trust-request-chat-template is not set.")
        template = body.get("chat_template") or self.template
        arguments = body["chat_template_kwargs"]
        ids: list[int] = byte_tokenizer().apply_chat_template(
            body["messages"], chat_template=template, add_generation_prompt=True, return_dict=False, **arguments
        )
        return ids

    async def ask(self, request: CompletionRequest, model: str) -> Any:
        if self.lost:
            raise Unavailable("gone")
        body = request.body
        if model not in ("team/a", *self.adapters):
            raise ModelRejected(f"vLLM does not serve {model}: The model `{model}` does not exist.")
        if body["logprobs"] > self.max_logprobs:
            raise Internal(f"Requested sample logprobs of {body['logprobs']}, which is greater than max allowed")
        prompt = body["prompt"]
        logits = np.random.default_rng(sum(prompt) + len(prompt)).normal(4.0, 2.5, VOCABULARY)
        logits[::2] += self.adapter_shift if model != "team/a" else 0.0
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


def check_with_adapter(server: Theirs, form: ChatFormat = PLAIN) -> None:
    chat = Chat(byte_tokenizer(), end_tokens=[2], context_length=CONTEXT_LENGTH, form=form)
    asyncio.run(check_adapters(server, chat, "team/a", "neutral"))


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


OWN = ChatFormat(template="{% for message in messages %}[{{ message.content }}]{% endfor %}>")
ARGUED = ChatFormat(arguments={"mark": "!"})


@pytest.mark.parametrize("form", [PLAIN, OWN, ARGUED], ids=["plain", "own template", "arguments"])
def test_a_server_that_loads_a_neutral_adapter_passes(form: ChatFormat) -> None:
    check_with_adapter(Theirs(), form)


@pytest.mark.parametrize(
    ("server", "form", "words", "hint"),
    [
        (Theirs(template="{{ messages[0].content }}"), PLAIN, "otherwise than the job", "without `--chat-template`"),
        (Theirs(template="{{ messages[0].content }}"), ARGUED, "otherwise than the job", "without `--chat-template`"),
        (Theirs(trusts_templates=False), OWN, "does not take a chat", "--trust-request-chat-template"),
    ],
    ids=["its own template", "its own template, with arguments", "no template of a job"],
)
def test_a_server_that_writes_chats_otherwise_is_refused(
    server: Theirs, form: ChatFormat, words: str, hint: str
) -> None:
    """The adapter would answer users in another form than it was evaluated in."""
    with pytest.raises(ServerUnsuitable, match=words) as refused:
        check_with_adapter(server, form)
    assert hint in str(refused.value.hint)


@pytest.mark.parametrize(
    ("server", "words", "hint"),
    [
        (Theirs(adapters=()), "does not load adapters", "--enable-lora"),
        (Theirs(adapter_shift=3.0), "another adapter", "adapters folder"),
    ],
    ids=["none", "another"],
)
def test_a_server_without_adapters_is_refused_before_the_first_stage(server: Theirs, words: str, hint: str) -> None:
    """A job would else find out when its rehearsal is done, hours later."""
    with pytest.raises(ServerUnsuitable, match=words) as refused:
        check_with_adapter(server)
    assert hint in str(refused.value.hint)


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
