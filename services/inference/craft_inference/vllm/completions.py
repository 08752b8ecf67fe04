"""The bodies of vLLM's completion requests, and the reading of its responses.

All samples of a prompt are one request, so vLLM prefills it once (and the shots once for all prompts, by its prefix
cache). Letters are read from `logprob_token_ids` at the first new token: the log-probabilities of exactly these tokens
over the whole vocabulary, before temperature, for up to 26 letters in one request. Unlike prompt log-probabilities they
do not depend on the content of the prefix cache (shared/decisions/0005).
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from craft.core.replies.reply import FinishReason
from craft.errors import Internal, ModelRejected
from craft_inference.engine import LetterScores, Reply, Sampling
from craft_inference.vllm.client import CompletionRequest

NEUTRAL = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "watermarking": False,
}
"""Sent with each request: a server of the team's own would fill in missing fields from generation_config.json."""


def replies_request(
    prompt_id: str, ids: list[int], sampling: Sampling, *, samples: int, end_tokens: Sequence[int], seeded: bool
) -> CompletionRequest:
    """The request for this number of samples of one prompt. `seeded`: its draws depend on its id and the seed alone."""
    body = {
        "prompt": ids,
        "n": samples,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop_token_ids": list(end_tokens),
        **NEUTRAL,
    }
    return CompletionRequest(prompt_id, body | ({"seed": _seed(prompt_id, sampling)} if seeded else {}))


def replies_of(request: CompletionRequest, response: Any, *, times: int) -> Reply:
    """The replies in a response, each so many times. Raises ModelRejected for replies that the server cut itself."""
    choices = sorted(response["choices"], key=lambda choice: choice["index"])
    finishes = tuple(map(_finish, choices))
    cut, limit = finishes.count(FinishReason.LENGTH), request.body["max_tokens"]
    if cut * limit > generated_tokens(response):
        raise ModelRejected(
            f"vLLM cut replies to {request.id} before their {limit} tokens.",
            hint="Remove max_new_tokens from the server's `--override-generation-config`, and raise its "
            "`--max-model-len`.",
            param="engine",
        )
    return Reply(request.id, tuple(choice["text"] for choice in choices) * times, finishes * times)


def letters_request(prompt_id: str, ids: list[int], letters: Sequence[int]) -> CompletionRequest:
    """The request for the log-probabilities of these tokens at the prompt's first new token."""
    return CompletionRequest(
        prompt_id,
        {
            "prompt": ids,
            "max_tokens": 1,
            "temperature": 0.0,
            "top_p": 1.0,
            **NEUTRAL,
            "logprobs": 1,
            "logprob_token_ids": list(letters),
            "return_tokens_as_token_ids": True,
        },
    )


def letter_scores_of(request: CompletionRequest, response: Any) -> LetterScores:
    """The letters' log-probabilities in a response. Raises Internal if one is missing."""
    logprobs = first_logprobs(response)
    wanted = [int(token) for token in request.body["logprob_token_ids"]]
    if missing := [str(token) for token in wanted if token not in logprobs]:
        raise Internal(f"vLLM gave no log-probability for the tokens {', '.join(missing)}.")
    return LetterScores(request.id, tuple(logprobs[token] for token in wanted))


def first_logprobs(response: Any) -> dict[int, float]:
    """The log-probabilities that a response has at its first new token, by token."""
    found = response["choices"][0]["logprobs"]["top_logprobs"][0]
    return {int(name.removeprefix("token_id:")): float(value) for name, value in found.items()}


def generated_tokens(response: Any) -> int:
    """The number of tokens in a response's replies."""
    return int(response["usage"]["completion_tokens"])


def _finish(choice: Any) -> FinishReason:
    return FinishReason.LENGTH if choice.get("finish_reason") == "length" else FinishReason.STOP


def _seed(prompt_id: str, sampling: Sampling) -> int:
    digest = hashlib.sha256(f"{sampling.seed} {prompt_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
