"""The vllm engine: the content, order and number of its requests, and its reading of the responses."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.models.families import QWEN3, write_tokenizer
from tests.services.inference.conftest import CONTEXT_LENGTH, byte_tokenizer, letter_prompts, prompts
from tests.services.inference.rigs.supervisor_rig import base
from transformers import AutoTokenizer

from craft.contracts.services.model_server import ServedBase, ServedTokens
from craft.core.replies.reply import FinishReason
from craft.errors import ContextTooLong, Internal, ModelRejected, Unavailable
from craft.infra.storage.served_adapters import STAGE_ADAPTER, ServedAdapters
from craft_inference.engine import Sampling
from craft_inference.prompting.chat import Chat
from craft_inference.vllm.client import Check, CompletionRequest, VllmSession, request_connections
from craft_inference.vllm.engine import ServerUse, VllmEngine

Answer = Callable[[CompletionRequest], dict[str, Any]]


def says(request: CompletionRequest) -> dict[str, Any]:
    """As many texts as requested, the last one first: vLLM gives them in no order. Odd ones are cut."""
    samples = int(request.body["n"])
    choices = [
        {"index": number, "text": f"{request.id} says {number}", "finish_reason": ("stop", "length")[number % 2]}
        for number in reversed(range(samples))
    ]
    cut = samples // 2
    return {"choices": choices, "usage": {"completion_tokens": 5 * (samples - cut) + request.body["max_tokens"] * cut}}


def scores(request: CompletionRequest) -> dict[str, Any]:
    """Each letter's log-probability is minus its token, and the sampled token stands among them."""
    found = {f"token_id:{token}": -float(token) for token in [*request.body["logprob_token_ids"], 2]}
    return {"choices": [{"logprobs": {"top_logprobs": [found]}}], "usage": {"completion_tokens": 1}}


class FakeSession(VllmSession):
    """Answers at once, later requests first where `backwards`; counts the requests in flight."""

    def __init__(self, rig: "Rig") -> None:
        self._rig = rig

    @property
    def version(self) -> str:
        return "9.9"

    @property
    def context_length(self) -> int:
        return self._rig.context_length

    async def tokens(self) -> ServedTokens | None:
        return self._rig.counters.pop(0) if self._rig.counters else None

    async def complete(self, request: CompletionRequest, model: str) -> Any:
        rig = self._rig
        rig.in_flight += 1
        rig.max_in_flight = max(rig.max_in_flight, rig.in_flight)
        try:
            turns = 40 - int(request.id[1:]) % 40 if rig.backwards else 1
            for _ in range(turns):
                await asyncio.sleep(0)
            rig.requests.append((request, model))
            if request.id in rig.failures:
                raise rig.failures[request.id]
            return rig.answer(request)
        finally:
            rig.in_flight -= 1


class Rig:
    """An engine with a fake session."""

    def __init__(
        self,
        folder: Path,
        answer: Answer = says,
        *,
        in_flight: int = 192,
        seeds: bool = True,
        asks_context: bool = False,
        connections: int = 4096,
        own_length: int = CONTEXT_LENGTH,
    ) -> None:
        self.requests: list[tuple[CompletionRequest, str]] = []
        self.with_adapters: list[bool] = []
        self.needed: list[int | None] = []
        self.context_length = CONTEXT_LENGTH
        self.counters: list[ServedTokens | None] = []
        self.failures: dict[str, Exception] = {}
        self.answer = answer
        self.backwards = False
        self.in_flight = self.max_in_flight = self.open = self.opened = 0
        self.adapters = ServedAdapters(folder / "served")
        self.adapters.ensure_root()
        chat = Chat(byte_tokenizer(), end_tokens=[2, 0], context_length=CONTEXT_LENGTH, own_length=own_length)
        self.chat = chat
        use = ServerUse(base(), in_flight, seeds, asks_context=asks_context, connections=connections)
        self.engine = VllmEngine(chat, self.lease_model, self.adapters, use)

    def lease_model(self, served: ServedBase, needed: int | None, _: Check) -> AbstractAsyncContextManager[VllmSession]:
        self.needed.append(needed)
        assert served.model_copy(update={"adapters": True}) == base()
        self.with_adapters.append(served.adapters)
        return self._session()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[VllmSession]:
        self.opened += 1
        self.open += 1
        try:
            yield FakeSession(self)
        finally:
            self.open -= 1

    def bodies(self) -> dict[str, dict[str, Any]]:
        return {request.id: dict(request.body) for request, _ in self.requests}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def adapter(folder: Path, name: str, weights: bytes = b"weights") -> Path:
    made = folder / name
    made.mkdir()
    (made / "adapter_config.json").write_text(json.dumps({"r": 8, "base_model_name_or_path": "/elsewhere"}))
    (made / "adapter_model.safetensors").write_bytes(weights)
    return made


SAMPLED = Sampling(max_new_tokens=16, samples=3, temperature=0.7, top_p=0.9, seed=5)
GREEDY = Sampling(max_new_tokens=16, samples=3)


def test_each_reply_has_its_own_finish_reason(rig: Rig) -> None:
    stop, length = FinishReason.STOP, FinishReason.LENGTH
    assert rig.engine.generate(prompts("a?"), SAMPLED).rows[0].finishes == (stop, length, stop)
    assert rig.engine.generate(prompts("a?"), GREEDY).rows[0].finishes == (stop, stop, stop)


def test_a_prompt_is_asked_once_for_all_its_samples_as_token_ids(rig: Rig) -> None:
    asked = prompts("x?", "y?")
    replies = rig.engine.generate(asked, SAMPLED)
    assert [row.texts for row in replies.rows] == [
        ("q0 says 0", "q0 says 1", "q0 says 2"),
        ("q1 says 0", "q1 says 1", "q1 says 2"),
    ]
    body = rig.bodies()["q0"]
    assert body.pop("seed") >= 0
    assert body == {
        "prompt": rig.chat.encode(asked, new_tokens=1)[0],
        "n": 3,
        "max_tokens": 16,
        "temperature": 0.7,
        "top_p": 0.9,
        "stop_token_ids": [0, 2],
        # Nothing is left to the server's idea of a default.
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "watermarking": False,
    }
    assert [model for _, model in rig.requests] == ["team/a", "team/a"]
    assert replies.usage.generated_tokens == 2 * (5 + 16 + 5)


def test_a_thought_whose_tags_are_control_tokens_is_seen(rig: Rig, tmp_path: Path) -> None:
    family = replace(QWEN3, control=(*QWEN3.control, *QWEN3.unmarked), unmarked=())
    tokenizer = AutoTokenizer.from_pretrained(write_tokenizer(family, tmp_path / "tokenizer"))
    chat = Chat(tokenizer, end_tokens=[], context_length=CONTEXT_LENGTH)
    text = "<think>Hm.</think>Lima.<|endoftext|>"

    def thinks(request: CompletionRequest) -> Any:
        return says(request) | {"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}

    rig.answer = thinks
    engine = VllmEngine(chat, rig.lease_model, rig.adapters, ServerUse(base(), 8, seeds=True))
    replies = engine.generate(prompts("x?"), GREEDY)
    assert rig.bodies()["q0"]["skip_special_tokens"] is False
    assert replies.rows[0].texts == ("<think>Hm.</think>Lima.",) * 3


def test_greedy_is_requested_once_and_given_as_often_as_wanted(rig: Rig) -> None:
    replies = rig.engine.generate(prompts("x?"), GREEDY)
    assert replies.rows[0].texts == ("q0 says 0",) * 3
    assert rig.bodies()["q0"]["n"] == 1
    assert replies.usage.generated_tokens == 5


def test_rows_keep_the_order_of_the_prompts_whatever_comes_first(rig: Rig) -> None:
    rig.backwards = True
    asked = prompts(*(f"{number}?" for number in range(40)))
    replies = rig.engine.generate(asked, SAMPLED)
    assert [request.id for request, _ in rig.requests] != [prompt.id for prompt in asked]
    assert [row.id for row in replies.rows] == [prompt.id for prompt in asked]
    assert all(row.texts[0] == f"{row.id} says 0" for row in replies.rows)


@pytest.mark.parametrize(
    ("sequences", "sampling", "in_flight"),
    [(12, SAMPLED, 4), (13, SAMPLED, 4), (2, SAMPLED, 1), (12, GREEDY, 12), (1000, SAMPLED, 30)],
)
def test_sequences_are_bounded_so_greedy_replies_are_as_many_as_samples(
    tmp_path: Path, sequences: int, sampling: Sampling, in_flight: int
) -> None:
    """A bound on prompts gives greedy replies an n-th of the sequences that samples get."""
    rig = Rig(tmp_path, in_flight=sequences)
    rig.engine.generate(prompts(*(f"{number}?" for number in range(30))), sampling)
    assert rig.max_in_flight == in_flight
    assert len(rig.requests) == 30


def test_letters_in_flight_are_bounded_as_greedy_replies_are(tmp_path: Path) -> None:
    rig = Rig(tmp_path, scores, in_flight=12)
    rig.engine.letters(letter_prompts(*(f"{number}?" for number in range(30))))
    assert rig.max_in_flight == 12


def test_requests_in_flight_are_no_more_than_files_that_may_be_open(tmp_path: Path) -> None:
    """Each has a connection, and many systems give a process 1,024: the next one looks like a lost server."""
    rig = Rig(tmp_path, in_flight=1000, connections=7)
    rig.engine.generate(prompts(*(f"{number}?" for number in range(30))), GREEDY)
    assert rig.max_in_flight == 7
    assert [request_connections(files) for files in (65_536, 1024, 100)] == [32_640, 384, 1]


def test_progress_counts_up_to_the_end(rig: Rig) -> None:
    seen: list[tuple[int, int]] = []
    rig.backwards = True
    rig.engine.generate(
        prompts(*(f"{number}?" for number in range(20))),
        SAMPLED,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 20) for done in range(1, 21)]


def test_no_prompts_cost_nothing(rig: Rig) -> None:
    assert rig.engine.generate([], SAMPLED).rows == ()
    assert rig.engine.letters([]).rows == ()
    assert rig.opened == 0


def test_a_seed_belongs_to_its_prompt_and_the_jobs_seed(rig: Rig, tmp_path: Path) -> None:
    asked = prompts("x?", "y?", "z?")
    rig.engine.generate(asked, SAMPLED)
    seeds = {name: body["seed"] for name, body in rig.bodies().items()}
    assert len(set(seeds.values())) == 3
    assert all(0 <= seed < 2**31 for seed in seeds.values())

    other = Rig(tmp_path)
    other.engine.generate(asked[::-1][:2], SAMPLED)
    assert {name: body["seed"] for name, body in other.bodies().items()} == {n: seeds[n] for n in ("q2", "q1")}

    other.engine.generate(asked, Sampling(max_new_tokens=16, samples=3, temperature=0.7, top_p=0.9, seed=6))
    assert not set(seeds.values()) & {body["seed"] for body in other.bodies().values()}


def test_greedy_and_unseeded_requests_have_no_seed(rig: Rig, tmp_path: Path) -> None:
    rig.engine.generate(prompts("x?"), GREEDY)
    unseeded = Rig(tmp_path, seeds=False)
    unseeded.engine.generate(prompts("x?"), SAMPLED)
    assert "seed" not in rig.bodies()["q0"]
    assert "seed" not in unseeded.bodies()["q0"]


def test_letters_are_read_by_their_tokens_at_the_first_new_token(tmp_path: Path) -> None:
    rig = Rig(tmp_path, scores)
    found = rig.engine.letters(letter_prompts("x?", "y?", letters="CAB"))
    tokens = rig.chat.letter_tokens(letter_prompts("x?", letters="CAB"))[0]
    assert [row.id for row in found.rows] == ["q0", "q1"]
    assert found.rows[0].logprobs == tuple(-float(token) for token in tokens)
    assert len(set(tokens)) == 3
    body = rig.bodies()["q0"]
    assert (body["logprob_token_ids"], body["max_tokens"], body["temperature"]) == (tokens, 1, 0.0)
    assert body["return_tokens_as_token_ids"] is True
    assert "seed" not in body
    assert found.usage.generated_tokens == 0


def test_a_letter_that_vllm_does_not_score_is_a_defect_and_never_a_guess(tmp_path: Path) -> None:
    def forgetful(request: CompletionRequest) -> dict[str, Any]:
        answer = scores(request)
        del answer["choices"][0]["logprobs"]["top_logprobs"][0][f"token_id:{request.body['logprob_token_ids'][1]}"]
        return answer

    with pytest.raises(Internal, match="no log-probability"):
        Rig(tmp_path, forgetful).engine.letters(letter_prompts("x?"))


def test_replies_that_the_server_cut_itself_are_no_replies(tmp_path: Path) -> None:
    """A server-wide limit on new tokens shortens every reply; finish reasons alone do not tell."""

    def shortened(request: CompletionRequest) -> dict[str, Any]:
        choices = [{"index": n, "text": "cut", "finish_reason": "length"} for n in range(int(request.body["n"]))]
        return {"choices": choices, "usage": {"completion_tokens": 15 * len(choices)}}

    with pytest.raises(ModelRejected, match="before their 16 tokens") as refused:
        Rig(tmp_path, shortened).engine.generate(prompts("x?"), SAMPLED)
    assert "--override-generation-config" in str(refused.value.hint)


def test_a_prompt_that_is_too_long_asks_nothing(rig: Rig) -> None:
    with pytest.raises(ContextTooLong, match="q1"):
        rig.engine.generate(prompts("x?", "long " * 200), SAMPLED)
    assert (rig.requests, rig.opened) == ([], 0)


def test_one_failure_ends_the_call_and_the_lease(tmp_path: Path) -> None:
    rig = Rig(tmp_path, in_flight=12)
    rig.failures["q5"] = Unavailable("lost")
    with pytest.raises(Unavailable, match="lost"):
        rig.engine.generate(prompts(*(f"{number}?" for number in range(100))), SAMPLED)
    assert (rig.open, rig.in_flight) == (0, 0)
    assert len(rig.requests) < 20


def test_an_order_to_stop_from_progress_ends_the_call_and_the_lease(tmp_path: Path) -> None:
    rig = Rig(tmp_path, in_flight=12)

    class Stopped(Exception):
        pass

    def progress(done: int, total: int) -> None:
        if done == 7:
            raise Stopped

    with pytest.raises(Stopped):
        rig.engine.generate(prompts(*(f"{number}?" for number in range(100))), SAMPLED, on_progress=progress)
    assert (rig.open, rig.in_flight) == (0, 0)
    assert len(rig.requests) < 20


@pytest.mark.parametrize(
    ("before", "after", "prefilled"),
    [
        (ServedTokens(prompt=1000, cached=400), ServedTokens(prompt=1500, cached=870), 30),
        (ServedTokens(prompt=1000, cached=400), ServedTokens(prompt=1500, cached=900), 0),
        (ServedTokens(prompt=1000, cached=400), ServedTokens(prompt=50, cached=10), None),
        (None, ServedTokens(prompt=50, cached=10), None),
        (ServedTokens(prompt=50, cached=10), None, None),
        (None, None, None),
    ],
    ids=["counted", "all cached", "restarted in between", "unknown before", "unknown after", "unknown"],
)
def test_what_was_prefilled_is_counted_or_else_every_prompt(
    rig: Rig, before: ServedTokens | None, after: ServedTokens | None, prefilled: int | None
) -> None:
    rig.counters = [before, after]
    asked = prompts("x?", "y?")
    usage = rig.engine.generate(asked, SAMPLED).usage
    length = sum(len(ids) for ids in rig.chat.encode(asked, new_tokens=1))
    assert usage.prompt_tokens == length
    assert usage.prefilled_tokens == (length if prefilled is None else prefilled)


def test_what_runs_is_described_with_vllms_own_version(rig: Rig) -> None:
    assert rig.engine.describe().version == "unknown"
    rig.engine.generate(prompts("x?"), GREEDY)
    found = rig.engine.describe()
    assert (found.name, found.version, found.dtype, found.context_length) == ("vllm", "9.9", "float32", CONTEXT_LENGTH)


def test_an_adapter_is_published_under_the_digest_of_its_bytes(rig: Rig, tmp_path: Path) -> None:
    first = adapter(tmp_path, "first")
    rig.engine.generate(prompts("x?"), GREEDY, adapter=first)
    (name,) = rig.adapters.names()
    assert name.startswith(STAGE_ADAPTER)
    assert [model for _, model in rig.requests] == [name]
    config = json.loads((tmp_path / "served" / name / "adapter_config.json").read_text())
    assert config == {"r": 8, "base_model_name_or_path": "team/a"}

    same = Rig(tmp_path)
    same.engine.generate(prompts("x?"), GREEDY, adapter=adapter(tmp_path, "copy"))
    assert same.requests[0][1] == name


def test_another_adapter_takes_the_place_of_the_one_before(rig: Rig, tmp_path: Path) -> None:
    first, second = adapter(tmp_path, "first"), adapter(tmp_path, "second", b"other weights")
    for one in (first, first, second, None, second, first):
        rig.engine.generate(prompts("x?"), GREEDY, adapter=one)
        assert len(rig.adapters.names()) == 1
    names = [model for _, model in rig.requests]
    assert names[0] == names[1] == names[5] != names[2] == names[4]
    assert names[3] == "team/a"
    assert rig.adapters.names() == [names[0]]
    assert rig.with_adapters == [True, True, True, False, True, True]


def test_an_adapter_that_another_process_took_out_is_there_again(rig: Rig, tmp_path: Path) -> None:
    first = adapter(tmp_path, "first")
    rig.engine.generate(prompts("x?"), GREEDY, adapter=first)
    (name,) = rig.adapters.names()
    rig.adapters.withdraw(name)
    rig.engine.generate(prompts("x?"), GREEDY, adapter=first)
    assert rig.adapters.names() == [name]


def test_what_is_no_adapter_is_refused_and_the_one_before_still_works(rig: Rig, tmp_path: Path) -> None:
    first = adapter(tmp_path, "first")
    rig.engine.generate(prompts("x?"), GREEDY, adapter=first)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelRejected):
        rig.engine.generate(prompts("x?"), GREEDY, adapter=tmp_path / "empty")
    rig.engine.generate(prompts("x?"), GREEDY, adapter=first)
    assert rig.adapters.names() == [rig.requests[-1][1]]
    assert len(rig.requests) == 2


def test_it_works_from_any_thread(rig: Rig) -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(rig.engine.generate(prompts("x?"), GREEDY).rows)))
    thread.start()
    thread.join(10)
    assert found == [1]
