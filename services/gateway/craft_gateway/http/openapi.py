"""Adds links to the OpenAPI document, by which tools follow an id of an answer to the calls that take it."""

from collections.abc import Iterator, Mapping
from typing import Any

_MADE_BY: Mapping[str, tuple[tuple[str, str], ...]] = {
    "job_id": (("createJob", "$response.body#/id"), ("retryJob", "$response.body#/id")),
    "dataset_id": (("createDataset", "$response.body#/id"),),
    "key_id": (("createKey", "$response.body#/id"),),
    "webhook_id": (("createWebhook", "$response.body#/id"),),
    "team": (("putTeam", "$response.body#/name"),),
    "model": (("deployAdapter", "$response.body#/model"),),
    "file_id": (("createFile", "$response.body#/id"),),
    "fine_tuning_job_id": (("createTuningJob", "$response.body#/id"),),
}
"""By path parameter: the operations whose answers contain a value for it, and the place of the value."""


def add_links(document: dict[str, Any]) -> None:
    """Link every operation that creates a resource to the operations that take its id."""
    operations = {operation["operationId"]: operation for operation in _operations(document)}
    for target in operations.values():
        needed = [parameter["name"] for parameter in target.get("parameters", ()) if parameter["in"] == "path"]
        # One answer has one id: it cannot lead to an operation that needs two.
        if len(needed) != 1:
            continue
        for source, expression in _MADE_BY.get(needed[0], ()):
            for status, response in operations[source]["responses"].items():
                if status.startswith("2"):
                    link = {"operationId": target["operationId"], "parameters": {needed[0]: expression}}
                    response.setdefault("links", {})[target["operationId"]] = link


def _operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()
