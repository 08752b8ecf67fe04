"""The models of the model server's calls."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from craft.contracts.base import Contract
from craft.contracts.services.model_server import (
    ModelLease,
    ModelLeaseRequest,
    ServedBase,
    ServedTokens,
    ServerState,
    ServerView,
)
from craft.contracts.stages.parameters import ModelRef

BASE = ServedBase(model=ModelRef(id="team/a", revision="v2", digest="d" * 64), dtype="bfloat16")
VIEW = ServerView(
    state=ServerState.READY,
    base=BASE,
    context_length=4096,
    since=datetime(2026, 1, 2, tzinfo=UTC),
    starts=1,
    leases=2,
    in_flight=3,
    last_error=None,
)
ALL = [
    BASE,
    ModelLeaseRequest(base=BASE, has_device=True),
    ModelLeaseRequest(base=BASE, has_device=True, context_tokens=5000),
    ModelLease(id="lease_1", version="0.32.0", context_length=5120, attached=False),
    ServedTokens(prompt=9, cached=4),
    VIEW,
    VIEW.model_copy(update={"state": ServerState.STOPPED, "base": None, "last_error": "It died."}),
]


@pytest.mark.parametrize("it", ALL, ids=lambda it: type(it).__name__)
def test_it_survives_the_journey(it: Contract) -> None:
    assert type(it).model_validate_json(it.model_dump_json()) == it


def test_a_base_model_fits_a_headers_value() -> None:
    text = BASE.model_dump_json()
    assert text.isascii()
    assert "\n" not in text


def test_a_base_model_is_another_one_by_any_of_its_parts() -> None:
    model = BASE.model.model_dump()
    others = [
        ServedBase(model=BASE.model, dtype="float32"),
        *(
            ServedBase(model=ModelRef.model_validate({**model, **change}), dtype="bfloat16")
            for change in ({"revision": "main"}, {"id": "team/b"}, {"digest": "e" * 64})
        ),
    ]
    assert BASE not in others
    assert len({other.model_dump_json() for other in others}) == 4


def test_a_server_with_adapters_also_answers_without_but_not_the_other_way_round() -> None:
    plain = BASE.model_copy(update={"adapters": False})
    other = BASE.model_copy(update={"dtype": "float32"})
    assert BASE.covers(BASE)
    assert BASE.covers(plain)
    assert plain.covers(plain)
    assert not plain.covers(BASE)
    assert not other.covers(BASE)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"base": BASE.model_dump()},
        {"base": BASE.model_dump(), "has_device": True, "folder": "/etc"},
        {"base": {**BASE.model_dump(), "path": "/etc"}, "has_device": True},
        {"base": {"model": "team/a", "dtype": "bfloat16"}, "has_device": True},
    ],
)
def test_a_request_for_a_lease_says_all_of_it_and_nothing_else(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModelLeaseRequest.model_validate(body)


def test_a_time_without_a_zone_is_no_time() -> None:
    with pytest.raises(ValidationError):
        ServerView.model_validate({**VIEW.model_dump(), "since": "2026-01-02T00:00:00"})
