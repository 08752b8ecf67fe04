"""Attacks on every parameter that an OpenAPI document names, sent over ASGI as a server would pass them on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Message

METHODS = ("get", "post", "put", "patch", "delete")
NAMING = {"id", "model", "base_model", "revision", "dataset", "name", "from_stage", "stage", "strategy", "owner"}
"""Members of bodies that name something."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One request. `hostile` is what stands in the place of the `parameter`, as it is written."""

    operation: str
    parameter: str
    where: str
    hostile: str
    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; an exception that left the application is a 500."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Honest:
    """Values that let a request through to where the attacked parameter counts."""

    path: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    bodies: Mapping[str, object] = field(default_factory=dict)
    """By operationId, where the document's own example would not do."""


def attacks_on(document: Mapping[str, Any], hostile: Sequence[str], honest: Honest) -> Iterator[Attack]:
    """Every hostile text in the place of every parameter, and of every member of a JSON body that names something."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            operation = methods.get(method)
            if operation is None:
                continue
            given = honest.bodies.get(operation["operationId"], _example(operation))
            for parameter in operation.get("parameters", ()):
                for text in hostile:
                    yield _on_parameter(path, method, operation["operationId"], parameter, text, honest, given)
            for where in _naming(given):
                for text in hostile:
                    body = _replaced(given, where, unquote(text))
                    name = operation["operationId"]
                    target = _filled(path, honest.path)
                    yield Attack(
                        name, ".".join(map(str, where)), "body", text, method, target, "", _JSON, _encoded(body)
                    )


_JSON = {"content-type": "application/json"}


def _on_parameter(
    path: str, method: str, name: str, parameter: Mapping[str, Any], text: str, honest: Honest, given: object
) -> Attack:
    values, query, headers = dict(honest.path), "", {} if given is None else dict(_JSON)
    if parameter["in"] == "path":
        values[parameter["name"]] = text
    elif parameter["in"] == "query":
        query = f"{parameter['name']}={text}"
    else:
        headers[parameter["name"].lower()] = text
    body = b"" if given is None else _encoded(given)
    where = parameter["in"]
    return Attack(name, parameter["name"], where, text, method, _filled(path, values), query, headers, body)


def _filled(path: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def _example(operation: Mapping[str, Any]) -> object:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    examples = [example["value"] for example in content.get("examples", {}).values()]
    return next(iter(examples), content.get("example"))


def _naming(body: object, where: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where in a body something is named; of a list its first item speaks for all."""
    if isinstance(body, dict):
        for name, value in body.items():
            if name in NAMING and isinstance(value, str):
                yield (*where, name)
            yield from _naming(value, (*where, name))
    elif isinstance(body, list) and body:
        yield from _naming(body[0], (*where, 0))


def _replaced(body: object, where: Sequence[str | int], text: str) -> object:
    changed: Any = deepcopy(body)
    inner = changed
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = text
    return changed


def _encoded(body: object) -> bytes:
    return json.dumps(body).encode()


async def send(app: ASGIApp, attack: Attack, headers: Mapping[str, str]) -> Answer:
    """The request as uvicorn hands it to an application: nothing resolved, the path decoded once."""
    path = quote(attack.path, safe="%/\\:$*|;`{}[]~!@&'()+,=")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": attack.method.upper(),
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": quote(attack.query, safe="%=/\\:$*|;`{}[]~!@'(),").encode("ascii"),
        "root_path": "",
        "headers": [
            (name.encode(), value.encode("utf-8"))
            for name, value in {"host": "localhost", **headers, **attack.headers}.items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("craft", 80),
    }
    body = [attack.body]
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body.pop()} if body else {"type": "http.disconnect"}

    async def keep(message: Message) -> None:
        sent.append(message)

    try:
        await app(scope, receive, keep)
    except Exception as error:
        return Answer(500, {}, repr(error).encode())
    start = next(message for message in sent if message["type"] == "http.response.start")
    told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], told, b"".join(message.get("body", b"") for message in sent))
