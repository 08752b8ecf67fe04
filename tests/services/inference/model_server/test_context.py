"""The context of a server: what callers need, within the model's own, and the operator's word before both."""

import json
from pathlib import Path

import pytest
from tests.services.inference.rigs.supervisor_rig import Rig, a_while, base, in_a_loop

from craft.contracts.services.model_server import ModelLeaseRequest
from craft.errors import DeviceBusy
from craft_inference.model_server.memory.context import chosen_context, own_context


@pytest.mark.parametrize(
    ("setting", "own", "needed", "expected"),
    [
        (None, 131_072, None, 4096),
        (None, 131_072, 300, 4096),
        (None, 131_072, 4097, 5120),
        (None, 131_072, 8192, 8192),
        (None, 8192, 8000, 8192),
        (None, 2048, None, 2048),
        (None, 2048, 9000, 2048),
        (None, None, 9000, 9216),
        (2048, 131_072, 9000, 2048),
        (2048, 1024, None, 1024),
        ("auto", 131_072, 9000, "auto"),
    ],
)
def test_a_server_gets_what_is_needed_and_never_a_models_own_context_by_itself(
    setting: int | None, own: int | None, needed: int | None, expected: object
) -> None:
    """vLLM's default is the model's own: with 131,072 tokens an 8B model does not start on 24 GB."""
    assert chosen_context(setting, own=own, needed=needed) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 8192}, 8192),
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": 8192, "max_seq_len": 4096}, 4096),
        ({"text_config": {"max_position_embeddings": 32_768}, "model_type": "gemma3"}, 32_768),
        ({"max_position_embeddings": None, "hidden_size": 8}, None),
        ([], None),
    ],
)
def test_a_models_own_context_is_its_configurations(tmp_path: Path, config: object, expected: int | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert own_context(tmp_path) == expected


def test_a_model_that_is_not_there_has_no_context(tmp_path: Path) -> None:
    assert own_context(tmp_path / "nothing") is None


@in_a_loop
async def test_a_lease_has_the_context_that_the_server_runs_with() -> None:
    rig = Rig()
    lease = await rig.lease(context=6144)
    assert (lease.context_length, lease.attached) == (6144, False)
    assert rig.supervisor.view().context_length == 6144


@in_a_loop
async def test_a_stage_that_needs_more_restarts_the_server_and_one_that_needs_less_does_not() -> None:
    rig = Rig()
    for context in (None, 4096, 5120, 4096, None):
        rig.supervisor.end_lease((await rig.lease(context=context)).id)
    assert rig.contexts == [4096, 5120]
    await rig.ask_as_user()
    assert len(rig.servers) == 2


@in_a_loop
async def test_a_server_with_less_context_is_not_taken_from_its_users() -> None:
    rig = Rig()
    first = await rig.lease()
    larger = rig.leasing(context=8192)
    await a_while()
    assert not larger.done()
    assert await rig.ask(first) == 200
    rig.now += 31
    with pytest.raises(DeviceBusy):
        await larger


@in_a_loop
async def test_a_server_whose_context_cannot_grow_is_kept_and_says_how_much_it_has() -> None:
    """An operator's limit, or the model's own: a supervisor that compares the bare need restarts for ever."""
    rig = Rig(choose_context=lambda *_: 2048)
    for _ in range(2):
        lease = await rig.lease(context=9000)
        assert lease.context_length == 2048
        rig.supervisor.end_lease(lease.id)
    auto = Rig(choose_context=lambda *_: "auto")
    for _ in range(2):
        auto.supervisor.end_lease((await auto.lease(context=9000)).id)
    assert len(rig.servers) == len(auto.servers) == 1


@in_a_loop
async def test_a_server_that_died_comes_back_with_its_context() -> None:
    rig = Rig()
    with rig.watched():
        lease = await rig.lease(context=6144)
        rig.servers[0].alive = False
        assert await rig.ask(lease) == 200
    assert rig.contexts == [6144, 6144]


def test_a_request_for_no_context_is_none() -> None:
    with pytest.raises(ValueError, match="context_tokens"):
        ModelLeaseRequest(base=base(), has_device=True, context_tokens=0)
