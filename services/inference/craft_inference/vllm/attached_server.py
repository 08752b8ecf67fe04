"""Looks, before a stage, whether a vLLM server of the team's own gives the numbers that a server of ours would give.

Its options cannot be read from outside, so their effects are looked at: a known conversation's tokens,
log-probabilities with and without a bias, a greedy token, and some hundred draws. What a request can say itself is said
in every request (`completions.NEUTRAL`); only the rest is looked for here.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from craft.core.prompts import ModelMessage
from craft.errors import Internal, ModelRejected, ServerUnsuitable
from craft_inference.engine import Prompt
from craft_inference.prompting.chat import Chat
from craft_inference.vllm.client import CompletionRequest
from craft_inference.vllm.completions import NEUTRAL, first_logprobs, letters_request

_CONVERSATION = Prompt(
    "the check of the server",
    (ModelMessage("user", "Question: Where do 3 élèves, 12,345 日本 trains and 🙂 meet\n\n  in Straße   7?\tAnswer:"),),
)
"""Digits, blanks, other scripts and an emoji: tokenizers differ in these first."""
_TOP = 5
_LETTERS = 26
_DRAWS = 256
_BIAS = 8.0
_SAME = 0.5
"""Two log-probabilities of one token differ by less in 16 bits, and by the bias where it counts."""
_CUTS = (0.3, 0.5, 0.8)
"""Parts of the conversation after which tokens are drawn: in the middle of a question many may come next."""
_MAX_DEVIATION = 90.0
"""Twice the log of the likelihood ratio of all draws: 15 degrees of freedom reach this once in 10^12 checks."""
_LEAST_EXPECTED = 5.0
_TEXT_ALONE = "{{- text -}}"
"""A template that writes the text that the request carries, as the model server sends it where a job has its own."""
_START = "Start it as a server of ours is started (shared/docs/serving.md): "


class Asker(Protocol):
    """Sends a request once. Both calls raise the errors of a session."""

    async def ask(self, request: CompletionRequest, model: str) -> Any:
        """vLLM's response as JSON."""
        ...

    async def tokens_of(self, body: Mapping[str, Any]) -> list[int]:
        """The server's own tokens of a text or conversation."""
        ...


async def check_attached(server: Asker, chat: Chat, model: str) -> None:
    """Raises ServerUnsuitable, with the option to set, if the server's results would be others than ours."""
    [ids] = chat.encode([_CONVERSATION], new_tokens=1)
    await _check_tokens(server, chat, ids, model)
    likely = await _likely(server, ids, model)
    await _check_asked_tokens(server, ids, likely, model)
    await _check_draws(server, [ids[: max(1, int(part * len(ids)))] for part in _CUTS], model)


async def check_adapters(server: Asker, chat: Chat, model: str, neutral: str) -> None:
    """Raises ServerUnsuitable if the server would not serve a job's adapter as it was evaluated.

    `neutral` is the name of an adapter that lies in the common folder and changes nothing.
    """
    [ids] = chat.encode([_CONVERSATION], new_tokens=1)
    await _check_chats(server, chat, ids, model)
    base = await _likely(server, ids, model)
    try:
        response = await server.ask(letters_request(_CONVERSATION.id, ids, list(base)), neutral)
    except (Internal, ModelRejected) as error:
        raise ServerUnsuitable(
            f"The vLLM server does not load adapters: {error.message}",
            hint=f"{_START}`--enable-lora`, a `--max-lora-rank` not below CRAFT_INFERENCE__VLLM__MAX_LORA_RANK, "
            "VLLM_PLUGINS=lora_filesystem_resolver, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and "
            "VLLM_LORA_RESOLVER_CACHE_DIR, the folder that is CRAFT_ADAPTERS_DIR here.",
        ) from error
    found = first_logprobs(response)
    if any(abs(found[token] - base[token]) > _SAME for token in base):
        raise ServerUnsuitable(
            "The vLLM server answers with another adapter than the one that was asked for.",
            hint="Give it an adapters folder that no other installation uses.",
        )


async def _check_chats(server: Asker, chat: Chat, ids: list[int], model: str) -> None:
    """A served adapter's chats are rendered by the server, with what the model server adds to each request."""
    messages = [message._asdict() for message in _CONVERSATION.messages]
    body: dict[str, Any] = {"model": model, "messages": messages, "chat_template_kwargs": dict(chat.form.arguments)}
    option = "`--chat-template-content-format string`, and without `--chat-template`"
    if chat.form.template is not None or chat.form.date is not None:
        body |= {"chat_template": _TEXT_ALONE, "chat_template_kwargs": {"text": chat.text(_CONVERSATION)}}
        option = "`--trust-request-chat-template`"
    try:
        found = await server.tokens_of(body)
    except (Internal, ModelRejected) as error:
        raise ServerUnsuitable(
            f"The vLLM server does not take a chat as adapters need it: {error.message}", hint=f"{_START}{option}."
        ) from error
    if found != ids:
        raise ServerUnsuitable(
            "The vLLM server writes a chat otherwise than the job does.",
            hint=f"{_START}{option}, and with the template of this model folder.",
        )


async def _check_tokens(server: Asker, chat: Chat, ids: list[int], model: str) -> None:
    text = chat.text(_CONVERSATION)
    if await server.tokens_of({"model": model, "prompt": text, "add_special_tokens": False}) != ids:
        raise ServerUnsuitable(
            f"The vLLM server splits a text into other tokens than the tokenizer of {model} here.",
            hint=f"{_START}with the files of this model folder, and without `--tokenizer` and `--tokenizer-mode`.",
        )


async def _likely(server: Asker, ids: list[int], model: str) -> dict[int, float]:
    """The likeliest tokens after the conversation. Raises ServerUnsuitable if they are no log-probabilities."""
    body = {"prompt": ids, "max_tokens": 1, "temperature": 0.0, "top_p": 1.0, **NEUTRAL, "logprobs": _TOP}
    response = await _asked(server, {**body, "return_tokens_as_token_ids": True}, model, option="--max-logprobs 20")
    found = first_logprobs(response)
    if max(found.values()) > 1e-3 or math.fsum(map(math.exp, found.values())) > 1.01:
        raise ServerUnsuitable(
            "The vLLM server gives logits where log-probabilities are asked for.",
            hint=f"{_START}`--logprobs-mode raw_logprobs`.",
        )
    [chosen] = response["choices"][0]["logprobs"]["tokens"]
    if found[_token(chosen)] < max(found.values()) - _SAME:
        raise ServerUnsuitable(
            "The vLLM server does not give the likeliest token at temperature 0.",
            hint=f"{_START}without `--logits-processors` and without a plugin that changes sampling.",
        )
    return found


async def _check_asked_tokens(server: Asker, ids: list[int], likely: Mapping[int, float], model: str) -> None:
    first, second = sorted(likely, key=lambda token: -likely[token])[:2]
    others = [token for token in range(2 * _LETTERS) if token not in likely]
    letters = [*likely, *others][:_LETTERS]
    request = letters_request(_CONVERSATION.id, ids, letters)
    plain = await _asked(server, request.body, model, option="--max-logprobs 20")
    bias = {str(first): -_BIAS, str(second): _BIAS}
    biased = await _asked(server, {**request.body, "logit_bias": bias}, model, option="--max-logprobs 20")
    for response in (plain, biased):
        found = first_logprobs(response)
        if missing := [token for token in letters if token not in found]:
            raise ServerUnsuitable(
                f"The vLLM server gives no log-probability for {len(missing)} of the {_LETTERS} tokens asked for.",
                hint="Update it: `logprob_token_ids` of completions is needed, which vLLM 0.32 has.",
            )
        if any(abs(found[token] - likely[token]) > _SAME for token in likely):
            raise ServerUnsuitable(
                "The vLLM server's log-probabilities are those after its processing, not the model's.",
                hint=f"{_START}`--logprobs-mode raw_logprobs`.",
            )


async def _check_draws(server: Asker, prompts: Sequence[list[int]], model: str) -> None:
    total = math.fsum([await _deviation_after(server, ids, model) for ids in prompts])
    if total > _MAX_DEVIATION:
        raise ServerUnsuitable(
            "The vLLM server does not draw tokens with the model's own probabilities.",
            hint=f"{_START}`--generation-config vllm`, without `--logits-processors` and without a plugin that changes "
            "sampling.",
        )


async def _deviation_after(server: Asker, ids: list[int], model: str) -> float:
    expected = await _likely(server, ids, model)
    body = {"prompt": ids, "max_tokens": 1, "n": _DRAWS, "temperature": 1.0, "top_p": 1.0, "seed": 1, **NEUTRAL}
    wanted = {**body, "logprobs": 1, "return_tokens_as_token_ids": True}
    response = await _asked(server, wanted, model, option="--max-logprobs 20")
    drawn = [_token(choice["logprobs"]["tokens"][0]) for choice in response["choices"]]
    return deviation(drawn, {token: math.exp(value) for token, value in expected.items()})


def deviation(drawn: Sequence[int], probabilities: Mapping[int, float]) -> float:
    """Twice the log of the likelihood ratio of the draws' own shares to the probabilities. Rare tokens are one."""
    counts = Counter(drawn)
    often = {token: share for token, share in probabilities.items() if share * len(drawn) >= _LEAST_EXPECTED}
    rest = max(1.0 - math.fsum(often.values()), 1e-9), len(drawn) - sum(counts[token] for token in often)
    cells = [*((share, counts[token]) for token, share in often.items()), rest]
    return 2 * math.fsum(seen * math.log(seen / (share * len(drawn))) for share, seen in cells if seen)


async def _asked(server: Asker, body: Mapping[str, Any], model: str, *, option: str) -> Any:
    """The response. What the server refuses of an ordinary request, an option of its own forbids."""
    try:
        return await server.ask(CompletionRequest(_CONVERSATION.id, body), model)
    except (Internal, ModelRejected) as error:
        raise ServerUnsuitable(
            f"The vLLM server refuses a request that stages send: {error.message}", hint=f"{_START}`{option}`."
        ) from error


def _token(name: str) -> int:
    return int(name.removeprefix("token_id:"))
