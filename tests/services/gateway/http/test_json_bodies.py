"""No JSON body keeps the parser, and with it all other requests, for long."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message
from tests.services.gateway.rigs.public_rig import MODEL, Rig, body, open_rig

from craft.errors import PayloadTooLarge
from craft_gateway.http.bodies import MAX_JSON_BYTES, MAX_JSON_MARKS, parsed_json, text_body

HEADERS = {"Content-Type": "application/json"}
MANY = {
    "empty lists": b"[" + b",".join([b"[]"] * MAX_JSON_MARKS) + b"]",
    "empty objects": b"[" + b",".join([b"{}"] * MAX_JSON_MARKS) + b"]",
    "numbers": b"[" + b",".join([b"1"] * (2 * MAX_JSON_MARKS)) + b"]",
    "members": b"{" + b",".join(b'"%d":1' % number for number in range(MAX_JSON_MARKS + 1)) + b"}",
}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with open_rig(tmp_path_factory.mktemp("rig")) as made:
        yield made


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize("path", ["/craft/jobs", "/craft/jobs/validate", "/craft/datasets", "/v1/fine_tuning/jobs"])
def test_a_body_of_very_many_values_is_refused_unparsed(rig: Rig, path: str, kind: str) -> None:
    began = time.monotonic()
    answer = rig.post(path, content=MANY[kind], headers=HEADERS)
    assert answer.status_code == 413
    assert time.monotonic() - began < 2


def read(content: bytes) -> Any:
    async def receive() -> Message:
        return {"type": "http.request", "body": content}

    return parsed_json(asyncio.run(text_body(Request({"type": "http"}, receive))))


def test_texts_may_be_as_long_as_the_body() -> None:
    text = json.dumps({"question": "why, " * (MAX_JSON_MARKS - 10)}).encode()
    assert len(text) < MAX_JSON_BYTES
    assert read(text) == {"question": "why, " * (MAX_JSON_MARKS - 10)}
    with pytest.raises(PayloadTooLarge):
        read(text.replace(b"why", b"w,y"))


def test_ten_thousand_rows_with_further_columns_are_parsed() -> None:
    row: dict[str, Any] = {"question": "Which, of these, is it?", "answers": ["a", "b", "c"]}
    row |= {f"column {number}": number for number in range(30)}
    assert len(read(json.dumps({"rows": [row] * 10_000}).encode())["rows"]) == 10_000


def test_a_wrong_body_is_explained_as_before(rig: Rig) -> None:
    for wrong in (b"{", b'{"a": 1,}', b"[" * 100_000):
        assert rig.post("/craft/jobs", content=wrong, headers=HEADERS).status_code == 422
    right = rig.post("/craft/jobs", content=json.dumps(body(base_model={"id": MODEL})).encode(), headers=HEADERS)
    assert right.status_code == 202
