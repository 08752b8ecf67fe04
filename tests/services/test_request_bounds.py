"""Every text, number and list that a service takes is bounded, as its OpenAPI document says."""

import contextlib
import math
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import ValidationError, create_model

from craft.contracts.base import Contract
from craft.infra.settings.settings import Settings
from craft_gateway.access.owners import OWNED
from craft_gateway.datasets.routes import FileFields, RowsUpload, SourceUpload

MAX_INTEGER = 2**63 - 1
GATEWAY = "craft_gateway.wiring_api"
SERVICES = (
    GATEWAY,
    "craft_datasets.wiring",
    "craft_inference.wiring",
    "craft_scoring.wiring",
    "craft_training.wiring",
)
FREE = frozenset(
    {
        # Of rows only the named columns are kept; each is checked when it becomes a question, and named by its line.
        "dataset.rows[]",
        "probe.shots[]",
        "rows[]",
        # Its members are checked as those of a job.
        "craft",
        # Refused by name, whatever they hold.
        "method.dpo",
        "method.reinforcement",
        "integrations[]",
    }
)
FREE_MEMBERS = frozenset(
    {
        ("DatasetRef", "rows"),
        ("RowsUpload", "rows"),
        ("ProbeSettings", "shots"),
        ("TuningJobRequest", "craft"),
        ("TuningJobRequest", "integrations"),
        ("TuningMethod", "dpo"),
        ("TuningMethod", "reinforcement"),
    }
)
"""The same as members of contracts."""
_CHARACTER_CLASS = re.compile(r"\[\^?(?:\\.|[^\]\\])*\]|\\.")


def unbounded(document: Mapping[str, Any], *, stores: bool) -> Iterator[str]:
    """Each place of a request that has no bound. `stores`: its texts go into databases, so they may not hold NUL."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                # The server bounds headers, in which no NUL can stand; ids in paths are compared with their form.
                if parameter["in"] == "query" or (parameter["in"] == "path" and parameter["name"] not in OWNED):
                    walk = _Walk(document, f"{method} {path} ?{parameter['name']}", stores=stores)
                    yield from walk.places(parameter["schema"], "")
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield from _Walk(document, f"{method} {path} ", stores=stores).places(content.get("schema", {}), "")


class _Walk:
    """A walk over one schema of a document."""

    def __init__(self, document: Mapping[str, Any], start: str, *, stores: bool) -> None:
        self._document = document
        self._start = start
        self._stores = stores

    def places(self, schema: Mapping[str, Any], at: str) -> Iterator[str]:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            yield from self.places(self._document["components"]["schemas"][name], at)
        for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
            yield from self.places(one, at)
        if "const" in schema or "enum" in schema or "type" not in schema:
            return
        check: Callable[[Mapping[str, Any], str], Iterator[str]] = getattr(self, f"_{schema['type']}")
        yield from check(schema, at)

    def _string(self, schema: Mapping[str, Any], at: str) -> Iterator[str]:
        if "contentMediaType" in schema or schema.get("format") in {"binary", "date-time"}:
            return
        pattern = schema.get("pattern", "")
        rest = _CHARACTER_CLASS.sub("", pattern)
        finite = pattern.startswith("^") and pattern.endswith("$") and not re.search(r"[*+.]|,\}", rest)
        if not finite and "maxLength" not in schema:
            yield f"{self._start}{at}: a text without a longest length"
        if self._stores and not pattern:
            yield f"{self._start}{at}: a text that may hold NUL"

    def _number(self, schema: Mapping[str, Any], at: str) -> Iterator[str]:
        if not {"minimum", "exclusiveMinimum"} & {*schema} or not {"maximum", "exclusiveMaximum"} & {*schema}:
            yield f"{self._start}{at}: a number without bounds"

    def _integer(self, schema: Mapping[str, Any], at: str) -> Iterator[str]:
        yield from self._number(schema, at)
        ends = [schema[end] for end in ("minimum", "maximum") if end in schema]
        if any(abs(end) > MAX_INTEGER + 1 for end in ends):
            yield f"{self._start}{at}: a whole number beyond 64 bits"

    def _array(self, schema: Mapping[str, Any], at: str) -> Iterator[str]:
        if "maxItems" not in schema:
            yield f"{self._start}{at}: a list without a longest length"
        yield from self.places(schema["items"], f"{at}[]")

    def _object(self, schema: Mapping[str, Any], at: str) -> Iterator[str]:
        for name, member in schema.get("properties", {}).items():
            yield from self.places(member, f"{at}.{name}".removeprefix("."))
        if at in FREE or "properties" in schema:
            return
        if "maxProperties" not in schema:
            yield f"{self._start}{at}: an object without a largest size"
        [(pattern, value)] = schema.get("patternProperties", {"": schema.get("additionalProperties", True)}).items()
        names = schema.get("propertyNames", {})
        yield from self.places({"type": "string", **({"pattern": pattern} if pattern else {}), **names}, f"{at}{{}}")
        if value is True:
            yield f"{self._start}{at}: any JSON"
        else:
            yield from self.places(value, f"{at}{{}}")

    def _boolean(self, schema: Mapping[str, Any], at: str) -> Iterator[str]:
        yield from ()

    _null = _boolean


def opened(service: str, folder: Path) -> FastAPI:
    app: FastAPI = import_module(service).app(Settings(state_dir=folder))
    return app


@pytest.mark.parametrize("service", SERVICES)
def test_every_value_of_every_request_is_bounded(service: str, tmp_path: Path) -> None:
    document = opened(service, tmp_path).openapi()
    assert sorted(set(unbounded(document, stores=service == GATEWAY))) == []


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"type": "string", "pattern": "^[^\\x00]*$"}, ["a text without a longest length"]),
        ({"type": "string", "maxLength": 5}, ["a text that may hold NUL"]),
        ({"type": "integer", "minimum": 1}, ["a number without bounds"]),
        ({"type": "integer", "minimum": 1, "maximum": 10**30}, ["a whole number beyond 64 bits"]),
        ({"type": "number", "exclusiveMinimum": 0.0}, ["a number without bounds"]),
        ({"type": "array", "items": {"type": "boolean"}}, ["a list without a longest length"]),
        ({"type": "object", "maxProperties": 2, "propertyNames": {"enum": ["a"]}}, ["any JSON"]),
        ({"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/Free"}]}, ["a number without bounds"]),
    ],
)
def test_the_walk_sees_what_has_no_bound(schema: dict[str, Any], found: list[str]) -> None:
    free = {"type": "object", "properties": {"number": {"type": "number"}}}
    parameter = {"in": "query", "name": "x", "schema": schema}
    document = {"paths": {"/a": {"get": {"parameters": [parameter]}}}, "components": {"schemas": {"Free": free}}}
    assert [each.partition(": ")[2] for each in unbounded(document, stores=True)] == found


def bodies(app: FastAPI) -> Iterator[type[Contract]]:
    """The contracts of the application's bodies, and of all that they hold."""
    found: set[type[Contract]] = set()

    def collect(annotation: object) -> None:
        for argument in get_args(annotation):
            collect(argument)
        if isinstance(annotation, type) and issubclass(annotation, Contract) and annotation not in found:
            found.add(annotation)
            for field in annotation.model_fields.values():
                collect(field.annotation)

    for route in app.routes:
        if isinstance(route, APIRoute):
            for parameter in route.dependant.body_params:
                collect(parameter.field_info.annotation)
    # The route of datasets tells its bodies apart itself.
    for own in (RowsUpload, SourceUpload, FileFields):
        collect(own)
    yield from sorted(found, key=lambda model: model.__name__)


HOSTILE = (
    "a\0b",
    "\0",
    "\ud800",
    "a" * 1_000_001,
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    -1e308,
    2**63,
    -(2**63) - 1,
    10**30,
    -(10**30),
    10**5000,
)


def shapes(value: object) -> Iterator[object]:
    """The value alone, in a list, and as a value and a name of an object."""
    yield value
    yield [value]
    yield [[value]]
    yield [{"a": value}]
    yield {"a": value}
    yield {"question": value}
    if isinstance(value, str):
        yield {value: "a"}
        yield {value: value}


def test_no_member_of_a_body_takes_what_a_database_or_64_bits_cannot_hold(tmp_path: Path) -> None:
    taken = []
    for model in bodies(opened(GATEWAY, tmp_path)):
        for name, field in model.model_fields.items():
            if (model.__name__, name) in FREE_MEMBERS:
                continue
            # Of a model, so that its strictness holds.
            assert field.annotation is not None
            alone = create_model("Alone", __base__=Contract, member=(field.annotation, field))
            for value in (shape for hostile in HOSTILE for shape in shapes(hostile)):
                with contextlib.suppress(ValidationError):
                    alone.model_validate({field.alias or "member": value})
                    taken.append(f"{model.__name__}.{name}: {reprlib.repr(value)}")
    assert taken == []
