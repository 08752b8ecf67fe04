"""What exists before the fuzzer begins, and its configuration that names it: made-up ids meet nothing but 404."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import httpx
from tests.bench.gateway_workers import Workplace
from tests.fuzz.finished import finish
from tests.services.gateway.rigs.public_rig import MODEL, UNKNOWN_DATASET, UNKNOWN_JOB, rows

from craft.contracts.public.accounts import DEFAULT_TEAM
from craft_gateway.openai.ids import openai_id

_TEAMS = ("search", "0", "0" * 100)
"""With the shortest and the longest name, which the coverage phase sends."""
EXAMPLE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model of the document's examples."""
_JOBS = 12
_FINISHED = 4
_OTHERS = 6
_MOSTLY = 0.8
_STEPS_OF_A_WALK = 30
"""Along links; with fewer most links are never followed."""
Dictionaries = Mapping[str, Sequence[str | float]]
_PARAMETERS: Mapping[str, tuple[str, float]] = {
    "header.Craft-Team": ("teams", 0.95),
    "path.team": ("teams", 0.5),
    "path.job_id": ("jobs", _MOSTLY),
    "path.dataset_id": ("datasets", _MOSTLY),
    "path.file_id": ("files", _MOSTLY),
    "path.fine_tuning_job_id": ("tunings", _MOSTLY),
    "path.key_id": ("keys", _MOSTLY),
    "path.webhook_id": ("webhooks", _MOSTLY),
    "path.delivery_id": ("deliveries", _MOSTLY),
    # A valid wait lasts up to a minute.
    "query.wait": ("waits", 1.0),
}
PATHS: Mapping[str, str] = {
    name.removeprefix("path."): kind for name, (kind, _) in _PARAMETERS.items() if name.startswith("path.")
}
"""The kinds of ids by path parameter."""
_BODIES: Mapping[str, Mapping[str, tuple[str, float]]] = {
    "createJob": {"body.base_model.id": ("models", 0.9), "body.dataset.id": ("datasets", _MOSTLY)},
    "validateJob": {"body.base_model.id": ("models", 0.9), "body.dataset.id": ("datasets", _MOSTLY)},
    "createTuningJob": {
        "body.model": ("models", 0.9),
        "body.training_file": ("files", 0.9),
        "body.validation_file": ("files", 0.5),
    },
    "previewDataset": {"query.base_model": ("models", 0.5)},
    "compareJobs": {"query.ids": ("pairs", _MOSTLY)},
    "compareDatasets": {"query.with": ("datasets", _MOSTLY)},
}


def made(client: httpx.Client, place: Workplace) -> Dictionaries:
    """Make some of everything; returns the ids by kind, some of which name nothing."""

    def new(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = client.post(path, json=body).raise_for_status().json()
        return found

    for team in _TEAMS:
        client.put(f"/craft/teams/{team}", json={}).raise_for_status()
    datasets = [str(new("/craft/datasets", {"rows": rows(100 + n)})["id"]) for n in range(_OTHERS)]
    jobs = [str(new("/craft/jobs", _job(datasets[n % 3], n))["id"]) for n in range(_JOBS)]
    finish(place, jobs[:_FINISHED])
    for verb, job in zip(("cancel", "pause"), jobs[_FINISHED:], strict=False):
        client.post(f"/craft/jobs/{job}/{verb}").raise_for_status()
    keys = [str(new("/craft/api-keys", {"name": f"fuzz {n}"})["id"]) for n in range(_OTHERS)]
    hook = {"url": "https://hooks.example.com/craft", "types": ["*"]}
    webhooks = [str(new("/craft/webhooks", {**hook, "name": f"fuzz {n}"})["id"]) for n in range(_OTHERS)]
    deliveries = [str(new(f"/craft/webhooks/{each}/test", {})["id"]) for each in webhooks]
    return {
        "teams": [DEFAULT_TEAM, *_TEAMS],
        "models": [MODEL, EXAMPLE_MODEL],
        "jobs": [*jobs, UNKNOWN_JOB],
        "datasets": [*datasets, UNKNOWN_DATASET],
        "files": [openai_id(each) for each in (*datasets, UNKNOWN_DATASET)],
        "tunings": [openai_id(each) for each in (*jobs, UNKNOWN_JOB)],
        "keys": keys,
        "webhooks": webhooks,
        "deliveries": deliveries,
        "pairs": [f"{one},{other}" for one, other in pairwise(jobs)],
        "waits": [0, 0.01],
    }


def configuration(known: Dictionaries) -> str:
    """Schemathesis' configuration, TOML, of which JSON's strings and lists are a part."""

    def lines() -> Iterator[str]:
        # Its own list of refusals leaves out 413.
        yield "[checks.negative_data_rejection]\nexpected-statuses = [400, 401, 403, 404, 405, 409, 413, 422]"
        yield f"[phases.stateful]\nmax-steps = {_STEPS_OF_A_WALK}"
        for name, values in known.items():
            yield f"[dictionaries.{name}]\nvalues = {json.dumps(values)}"
        yield from _bound("parameters", _PARAMETERS)
        for operation, parameters in _BODIES.items():
            yield f'[[operations]]\ninclude-operation-id = "{operation}"'
            yield from _bound("operations.parameters", parameters)

    return "\n".join(lines()) + "\n"


def _bound(table: str, parameters: Mapping[str, tuple[str, float]]) -> Iterator[str]:
    yield f"[{table}]"
    for name, (dictionary, probability) in parameters.items():
        yield f'"{name}" = {{ dictionary = "{dictionary}", probability = {probability} }}'


def _job(dataset: str, seed: int) -> dict[str, Any]:
    return {"base_model": {"id": MODEL}, "dataset": {"id": dataset}, "seed": seed, "rehearsal": {"size": 60}}
