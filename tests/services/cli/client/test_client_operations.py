"""The client matches the OpenAPI document: each operation has a method with its path, parameters and models."""

import asyncio
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import httpx
import pytest
from tests.services.gateway.rigs.public_rig import body, open_rig

from craft.contracts.spec.jobs import JobSpec
from craft_client import AsyncClient, AsyncJobHandle, Client, JobHandle
from craft_client.aio.transport import AsyncTransport
from craft_client.sync.transport import Transport

ROOT = Path(__file__).parents[4]
WITHOUT_METHOD = {
    "createChatCompletion": "for OpenAI's own client",
    "getReport": "getReportJson and getReportHtml are its two forms",
    "healthz": "for probes of the process",
    "metrics": "for Prometheus",
}
OPENAI_TAGS = {"files", "fine-tuning"}
"""Routes for OpenAI's own client."""
SAMPLES: dict[str, Any] = {
    "spec": JobSpec.model_validate(body(name="n", labels={"a": "b"})).model_dump(mode="json"),
    "rows": [{"question": "q", "answers": ["a"]}],
    "status": "running",
    "from_stage": "tune:craft",
    "scopes": ["jobs:read"],
    "target": "unused",
    "types": ["job.*"],
    "columns": {"question": "prompt"},
    "source": {"kind": "https", "url": "https://example.com/rows.jsonl"},
    "to": {"kind": "mlflow", "model_name": "m"},
    "job_ids": ["a", "b"],
}
BY_TYPE: dict[str, Any] = {"int": 1, "float": 1.0, "bool": True, "str": "x", "datetime": None}
MODEL_OF_HANDLE = {"JobHandle": "JobView", "AsyncJobHandle": "JobView"}
OWN_RESULTS = {
    "readyz",
    "getReportJson",
    "getReportHtml",
    "downloadAdapter",
    "withdrawAdapter",
    "deleteDataset",
    "deleteWebhook",
}
"""Operations whose method does not return the response's model, but bytes, a path, a bool or None."""


class Captured(Exception):
    """Raised with the request that a method would send."""

    def __init__(self, request: httpx.Request) -> None:
        self.request = request


class Operation(NamedTuple):
    method: str
    path: str
    document: dict[str, Any]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with open_rig(tmp_path_factory.mktemp("rig")) as rig:
        yield rig.app.openapi()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, Operation]:
    return {
        described["operationId"]: Operation(method.upper(), path, described)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
        if not OPENAI_TAGS.intersection(described.get("tags", ()))
    }


def methods(client: object) -> dict[str, Any]:
    """The client's methods by their operations."""
    by_operation: dict[str, Any] = {}
    for part in (client, *vars(client).values()):
        for _, method in inspect.getmembers(part, inspect.ismethod):
            name = getattr(method, "__operation__", None)
            if name is not None:
                assert name not in by_operation, f"two methods are {name}"
                by_operation[name] = method
    return by_operation


def capture(request: httpx.Request) -> httpx.Response:
    raise Captured(request)


async def acapture(request: httpx.Request) -> httpx.Response:
    raise Captured(request)


CLIENT = Client(transport=Transport("http://test", http=httpx.MockTransport(capture)))
ASYNC_CLIENT = AsyncClient(transport=AsyncTransport("http://test", http=httpx.MockTransport(acapture)))
METHODS = methods(CLIENT)


def sample(parameter: inspect.Parameter) -> Any:
    if parameter.name in SAMPLES:
        return SAMPLES[parameter.name]
    if parameter.name == "created_after":
        return datetime(2026, 1, 1, tzinfo=UTC)
    if parameter.name == "labels":
        return None
    kinds = re.findall(r"\b(?:int|float|bool)\b", str(parameter.annotation))
    return BY_TYPE[kinds[0]] if kinds else "x"


def requested(method: Any) -> httpx.Request:
    """The request that the method sends with all its arguments."""
    words = {name: sample(parameter) for name, parameter in inspect.signature(method).parameters.items()}
    with pytest.raises(Captured) as caught:
        asyncio.run(_called(method, words))
    return caught.value.request


async def _called(method: Any, words: dict[str, Any]) -> None:
    result = method(**words)
    if inspect.isawaitable(result):
        await result


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    schema = choices[0] if choices else schema
    reference = schema.get("$ref")
    target: dict[str, Any] = document["components"]["schemas"][reference.rpartition("/")[2]] if reference else schema
    return target


def test_every_operation_has_a_method_or_a_reason(operations: dict[str, Operation]) -> None:
    assert set(operations) - set(METHODS) - set(WITHOUT_METHOD) == set(), "add a method to craft_client/aio"
    assert set(METHODS) - set(operations) == set(), "these methods stand for no operation"
    assert set(WITHOUT_METHOD) <= set(operations)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_sends_its_operation_with_every_parameter(operations: dict[str, Operation], name: str) -> None:
    request, operation = requested(METHODS[name]), operations[name]
    pattern = re.sub(r"\{[^}]+\}", "[^/]+", operation.path)
    assert (request.method, bool(re.fullmatch(pattern, request.url.path))) == (operation.method, True), request.url
    listed = {parameter["name"] for parameter in operation.document.get("parameters", ()) if parameter["in"] == "query"}
    assert set(request.url.params) == listed


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_body_has_every_documented_member(
    document: dict[str, Any], operations: dict[str, Operation], name: str
) -> None:
    content = operations[name].document.get("requestBody", {}).get("content", {})
    sent = requested(METHODS[name]).content
    assert bool(content) == bool(sent)
    if content:
        schema = resolved(document, content["application/json"]["schema"])
        assert set(json.loads(sent)) in [set(form["properties"]) for form in schema.get("oneOf", [schema])]


def test_each_way_to_make_a_dataset_sends_every_member(operations: dict[str, Operation], tmp_path: Path) -> None:
    content = operations["createDataset"].document["requestBody"]["content"]
    members = [set(form["properties"]) for form in content["application/json"]["schema"]["oneOf"]]
    sent = [set(json.loads(requested(way).content)) for way in (CLIENT.datasets.create, CLIENT.datasets.fetch)]
    assert sent == members
    path = tmp_path / "rows.jsonl"
    path.write_text("{}")
    with pytest.raises(Captured) as caught:
        CLIENT.datasets.upload(
            path, task="open_ended", columns={"question": "prompt"}, answer_base=1, accept=["control_tokens"]
        )
    form = caught.value.request.read().decode()
    assert set(re.findall(r'; name="(\w+)"', form)) == set(content["multipart/form-data"]["schema"]["properties"])
    assert '{"question": "prompt"}' in form


def test_an_omitted_task_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}")
    with pytest.raises(Captured) as uploaded:
        CLIENT.datasets.upload(path)
    with pytest.raises(Captured) as created:
        CLIENT.datasets.create([{}])
    assert not [caught for caught in (uploaded, created) if b"task" in caught.value.request.read()]


@pytest.mark.parametrize("name", sorted(set(METHODS) - OWN_RESULTS))
def test_an_answer_is_the_documents_model(operations: dict[str, Operation], name: str) -> None:
    returned = get_type_hints(METHODS[name])["return"].__name__
    good = next(value for status, value in operations[name].document["responses"].items() if status[0] == "2")
    schema = good.get("content", {}).get("application/json", {}).get("schema", {})
    if name == "getJob":  # it returns cached bytes, so the document has its model from the route's declaration
        assert schema["$ref"].endswith("/JobView")
    assert schema["$ref"].rpartition("/")[2] == MODEL_OF_HANDLE.get(returned, returned)


def test_both_clients_have_the_same_surface() -> None:
    other = methods(ASYNC_CLIENT)
    assert set(other) == set(METHODS)
    for name, method in METHODS.items():
        assert list(inspect.signature(method).parameters) == list(inspect.signature(other[name]).parameters)
    assert public(JobHandle) == public(AsyncJobHandle)
    assert public(Client) == public(AsyncClient)


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


@pytest.mark.parametrize("name", ["getJob", "createJob", "listLogs", "createKey", "putTeam", "changeWebhook"])
def test_the_asynchronous_client_sends_the_same(name: str) -> None:
    sent, awaited = requested(METHODS[name]), requested(methods(ASYNC_CLIENT)[name])
    assert (sent.method, sent.url, sent.content) == (awaited.method, awaited.url, awaited.content)


def test_the_synchronous_client_is_generated_from_the_other() -> None:
    command = [sys.executable, str(ROOT / "services" / "cli" / "craft_client" / "_generate_sync.py"), "--check"]
    finished = subprocess.run(command, check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
