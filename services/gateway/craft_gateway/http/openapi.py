"""Links of the OpenAPI document: what an answer's id can be used for, so that tools walk from one call to the next."""

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
"""By path parameter, the operations whose answers hold a value for it, and where."""


def add_links(document: dict[str, Any]) -> None:
    """Link every operation that makes something to those that take its id."""
    operations = {operation["operationId"]: operation for operation in _operations(document)}
    for target in operations.values():
        wanted = [each["name"] for each in target.get("parameters", ()) if each["in"] == "path"]
        # One that needs two ids cannot be reached from one answer.
        if len(wanted) != 1:
            continue
        for source, where in _MADE_BY.get(wanted[0], ()):
            for status, response in operations[source]["responses"].items():
                if status.startswith("2"):
                    link = {"operationId": target["operationId"], "parameters": {wanted[0]: where}}
                    response.setdefault("links", {})[target["operationId"]] = link


def _operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()
