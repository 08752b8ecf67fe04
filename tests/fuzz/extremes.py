"""Each member of each body, and each parameter, in turn with a value at the edge; the rest of the request is right."""

import random
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from tests.fuzz.values import OF_TYPE, OTHERS, Literal, Value, written

from craft.core.prompts import PromptTemplates

_MAX_DEPTH = 4
_MAX_QUERY_LENGTH = 8000
_NAMES: Mapping[str, Sequence[str]] = {"templates": [*PromptTemplates.__dataclass_fields__]}
"""Names that free objects take: others are refused before their values are looked at."""
_FAILED = 500
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the fuzzer. `place` says what in it is extreme."""

    method: str
    path: str
    query: str
    body: bytes | None
    place: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was answered with a fault of the server, or not at all."""

    request: Request
    answer: str

    def __str__(self) -> str:
        """The request and its answer, short."""
        sent, body = self.request, (self.request.body or b"")[:200]
        return f"{sent.method} {sent.path[:120]}{sent.query[:120]} {sent.place}: {self.answer} {body!r}"


def requests(document: Mapping[str, Any], ids: Mapping[str, str], model: str, dataset: str) -> Iterator[Request]:
    """Every request. `ids`: by path parameter one that exists."""
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parameters = operation.get("parameters", ())
            known = {each["name"]: ids.get(each["name"], "x") for each in parameters if each["in"] == "path"}
            base = _base(operation, model, dataset)
            address = path.format_map(known)
            for each in parameters:
                for text in _texts(types_of(each["schema"], schemas)):
                    changed = {**known, each["name"]: text} if each["in"] == "path" else known
                    query = f"?{quote(each['name'])}={text}" if each["in"] == "query" else ""
                    if each["in"] == "query" or (each["in"] == "path" and text):
                        body = None if base is None else written(base)
                        place = f"{each['in']} {each['name']}"
                        yield Request(method.upper(), path.format_map(changed), query, body, place)
            for place, value in _bodies(operation, base, schemas):
                yield Request(method.upper(), address, "", written(value), place)


def sent(client: httpx.Client, request: Request) -> Failure | None:
    """Send one; a fault of the server is a failure."""
    headers = {"Content-Type": "application/json"} if request.body is not None else {}
    try:
        answer = client.request(request.method, f"{request.path}{request.query}", content=request.body, headers=headers)
    except httpx.HTTPError as error:
        return Failure(request, type(error).__name__)
    return Failure(request, f"{answer.status_code} {answer.text[:200]}") if answer.status_code >= _FAILED else None


def chosen(every: Sequence[Request], count: int, seed: int) -> list[Request]:
    """So many of the requests, by chance, in an order by chance."""
    return random.Random(seed).sample(every, min(count, len(every)))


def types_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> frozenset[str]:
    """The types that a schema allows; `date-time` for times."""
    if "$ref" in schema:
        return types_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    own = {str(schema["type"])} if "type" in schema else set()
    if schema.get("format") == "date-time":
        own = {"date-time"}
    parts = (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ()))
    return frozenset(own).union(*(types_of(part, schemas) for part in parts))


def _texts(types: frozenset[str]) -> Iterator[str]:
    """Values of a parameter, percent-encoded."""
    for value in _values(types):
        if isinstance(value, Literal):
            yield value.text
        elif isinstance(value, str):
            yield quote(value.encode("utf-8", "surrogatepass"), safe="")[:_MAX_QUERY_LENGTH]
        elif isinstance(value, int | float):
            yield str(value)


def _values(types: frozenset[str]) -> Iterator[Value]:
    for each in sorted(types):
        yield from OF_TYPE[each]
    yield from OTHERS


def _base(operation: Mapping[str, Any], model: str, dataset: str) -> dict[str, Any] | None:
    """A right body of the operation, from its example; None if it takes no JSON."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return None
    if operation["operationId"] in {"createJob", "validateJob"}:
        return {"base_model": {"id": model}, "dataset": {"id": dataset}}
    examples = [each["value"] for each in content.get("examples", {}).values()]
    schema = content.get("schema", {})
    body = next(iter([*examples, *schema.get("examples", ()), content.get("example")]), None) or {}
    return {**body, "model": model} if operation["operationId"] == "createTuningJob" else dict(body)


def _bodies(
    operation: Mapping[str, Any], base: dict[str, Any] | None, schemas: Mapping[str, Any]
) -> Iterator[tuple[str, Value]]:
    """The body with each member replaced by each value, and the values alone."""
    if base is None:
        return
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    for value in _values(frozenset({"object"})):
        yield "the body", value
    for place, types in dict(_places(schema, schemas)).items():
        for value in _values(types):
            changed = deepcopy(base)
            if _put(changed, place, value):
                yield ".".join(map(str, place)), changed


def _places(
    schema: Mapping[str, Any], schemas: Mapping[str, Any], at: Place = ()
) -> Iterator[tuple[Place, frozenset[str]]]:
    """The members of a schema by their path: of objects by name, of lists the first item, of free objects a name."""
    if "$ref" in schema:
        yield from _places(schemas[schema["$ref"].rpartition("/")[2]], schemas, at)
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _places(one, schemas, at)
    members = dict(schema.get("properties", {}))
    if schema.get("type") == "object" and "properties" not in schema:
        others: object = schema.get("additionalProperties") or [*schema.get("patternProperties", {}).values(), {}][0]
        value = {**(others if isinstance(others, dict) else {}), "type": "string"}
        members = dict.fromkeys(_NAMES.get(str(at[-1] if at else ""), ("question",)), value)
    items = {0: schema["items"]} if isinstance(schema.get("items"), dict) else {}
    if len(at) < _MAX_DEPTH:
        for name, member in {**members, **items}.items():
            yield (*at, name), types_of(member, schemas)
            yield from _places(member, schemas, (*at, name))


def _put(body: dict[str, Any], place: Place, value: Value) -> bool:
    """Put the value at the place, and make the objects and lists on the way. False where others are in the way."""
    at: Any = body
    for part, following in zip(place, [*place[1:], None], strict=True):
        if isinstance(part, int):
            if not isinstance(at, list):
                return False
            if not at:
                at.append(None)
        elif not isinstance(at, dict):
            return False
        if following is None:
            at[part] = value
            return True
        found = at[part] if isinstance(part, int) or part in at else None
        if not isinstance(found, dict | list):
            found = at[part] = [] if isinstance(following, int) else {}
        at = found
    return False
