"""Publishes to MLflow over its REST API: one run with parameters, metrics and files, and a version of a model.

Every step first checks whether an earlier attempt did it: the publication's id is a tag of the run.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlsplit

import httpx

from craft.contracts.documents.evaluation import ModelMetrics
from craft.contracts.public.publishing import MlflowTarget, PublishTarget
from craft.errors import Internal, PublishingRefused, Unavailable
from craft.infra.settings.publishing import MlflowSettings
from craft_gateway.publishing.mlflow_api import MlflowCalls
from craft_gateway.publishing.package import AdapterPackage, Published

_RUN_TAG = "craft.publication"
_MAX_AT_ONCE = 100
"""Items in one call: parameters, tags or metrics (MLflow's limit for parameters and tags)."""
_MAX_VALUE_LENGTH = 500
_ADAPTER = "adapter"
ItemT = TypeVar("ItemT")


class MlflowPublisher:
    """A `Publisher` to a tracking server that stores artifacts for its clients, as `mlflow server` does."""

    def __init__(self, settings: MlflowSettings, *, timeout_seconds: float) -> None:
        self._settings = settings
        self._base = settings.tracking_uri.rstrip("/")
        self._timeout = timeout_seconds

    def publish(self, package: AdapterPackage, target: PublishTarget) -> Published:
        """See `Publisher.publish`."""
        if not isinstance(target, MlflowTarget):
            raise Internal(f"MLflow is no {target.kind}.")
        with httpx.Client(timeout=self._timeout, headers=self._headers(), auth=self._auth()) as client:
            calls = MlflowCalls(client, self._base)
            run = _run(calls, package, self._settings.experiment)
            run_id, root = run["info"]["run_id"], run["info"]["artifact_uri"]
            _log(calls, package, run_id)
            _upload(calls, package, root)
            calls.post("runs/update", run_id=run_id, status="FINISHED", end_time=package.created_ms)
            version = _version(calls, package, target.model_name, run_id, source=f"{root}/{_ADAPTER}")
        return Published(f"{self._base}/#/models/{quote(target.model_name)}/versions/{version}", version)

    def _headers(self) -> dict[str, str]:
        token = self._settings.token
        return {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}

    def _auth(self) -> tuple[str, str] | None:
        name, password = self._settings.username, self._settings.password
        return (name, password.get_secret_value()) if name and password else None


def _run(calls: MlflowCalls, package: AdapterPackage, experiment: str) -> dict[str, Any]:
    experiment_id = _experiment(calls, experiment)
    by_tag = f"tags.`{_RUN_TAG}` = '{package.publication_id}'"
    page = calls.post("runs/search", experiment_ids=[experiment_id], filter=by_tag, max_results=1)
    if runs := page.get("runs"):
        return dict(runs[0])
    created = calls.post(
        "runs/create",
        experiment_id=experiment_id,
        run_name=f"{package.job_name or package.job_id} {package.strategy.value}"[:250],
        start_time=package.created_ms,
        tags=_tags(package),
    )
    return dict(created["run"])


def _experiment(calls: MlflowCalls, name: str) -> str:
    def find() -> str | None:
        answer = calls.call_allowing(
            "RESOURCE_DOES_NOT_EXIST", "GET", "experiments/get-by-name", params={"experiment_name": name}
        )
        if answer is None:
            return None
        if answer["experiment"]["lifecycle_stage"] != "active":
            raise PublishingRefused(
                f"MLflow's experiment {name} is deleted.",
                hint="Restore it, or set CRAFT_PUBLISHING__MLFLOW__EXPERIMENT.",
            )
        return str(answer["experiment"]["experiment_id"])

    if (existing := find()) is not None:
        return existing
    created = calls.call_allowing("RESOURCE_ALREADY_EXISTS", "POST", "experiments/create", json={"name": name})
    experiment_id = str(created["experiment_id"]) if created else find()
    if experiment_id is None:
        raise Unavailable(f"MLflow's experiment {name} is created and deleted repeatedly.")
    return experiment_id


def _log(calls: MlflowCalls, package: AdapterPackage, run_id: str) -> None:
    params = [{"key": key, "value": value[:_MAX_VALUE_LENGTH]} for key, value in package.parameters.items()]
    metrics: list[dict[str, object]] = [
        {"key": key, "value": value, "timestamp": package.created_ms, "step": 0}
        for key, value in metrics_of(package).items()
    ]
    for batch in _batches(params):
        calls.post("runs/log-batch", run_id=run_id, params=batch)
    for metrics_batch in _batches(metrics):
        calls.post("runs/log-batch", run_id=run_id, metrics=metrics_batch)


def metrics_of(package: AdapterPackage) -> dict[str, float]:
    """Return the report's metrics of this adapter by `set/metric`, with the ends of their intervals.

    Undefined metrics are left out.
    """
    values: dict[str, float] = {}
    for name, evaluated in package.evaluation.sets.items():
        values |= {f"{name}/{metric}": value for metric, value in _values(evaluated.candidate).items()}
        values |= {
            f"{name}/initial_basic/{metric}": value for metric, value in _values(evaluated.initial_basic).items()
        }
    return values


def _values(metrics: ModelMetrics) -> dict[str, float]:
    values: dict[str, float] = {}
    for metric in type(metrics.micro).model_fields:
        estimate = getattr(metrics.micro, metric)
        ends = {metric: estimate.value, f"{metric}_low": estimate.low, f"{metric}_high": estimate.high}
        values.update({key: value for key, value in ends.items() if value is not None})
    return values


def _upload(calls: MlflowCalls, package: AdapterPackage, root: str) -> None:
    uri = urlsplit(root)
    if uri.scheme != "mlflow-artifacts":
        raise PublishingRefused(
            f"MLflow keeps this experiment's files at {uri.scheme or 'a path'}:, where only its own clients can write.",
            hint="Start `mlflow server` with --serve-artifacts (its default), and use an experiment made since.",
        )
    for path, file in package.files.items():
        with file.open("rb") as content:
            _put(calls, uri.path, path, _blocks(content), size=file.stat().st_size)
    card = package.card.encode()
    _put(calls, uri.path, "README.md", iter([card]), size=len(card))


def _put(calls: MlflowCalls, root: str, path: str, content: Iterator[bytes], *, size: int) -> None:
    location = quote(f"{root.strip('/')}/{_ADAPTER}/{path}")
    calls.send(
        "PUT",
        f"api/2.0/mlflow-artifacts/artifacts/{location}",
        content=content,
        # With a known length, no client or proxy on the way needs to buffer the whole file.
        headers={"Content-Length": str(size)},
    )


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(1 << 20):
        yield block


def _version(calls: MlflowCalls, package: AdapterPackage, name: str, run_id: str, *, source: str) -> str:
    calls.call_allowing("RESOURCE_ALREADY_EXISTS", "POST", "registered-models/create", json={"name": name})
    # Each publication has one run, so the search goes by the run; a version that was deleted is created again.
    page = calls.get("model-versions/search", filter=f"run_id = '{run_id}'")
    versions = [version["version"] for version in page.get("model_versions", ()) if version["name"] == name]
    if versions:
        return str(versions[0])
    created = calls.post(
        "model-versions/create",
        name=name,
        source=source,
        run_id=run_id,
        tags=_tags(package),
        description=f"LoRA adapter of {package.base_model} ({package.strategy.value}); adapter/README.md tells more.",
    )
    return str(created["model_version"]["version"])


def _tags(package: AdapterPackage) -> Sequence[Mapping[str, str]]:
    tags = {
        _RUN_TAG: package.publication_id,
        "craft.job": package.job_id,
        "craft.strategy": package.strategy.value,
        "craft.digest": package.digest,
        "craft.team": package.team,
        "craft.base_model": package.base_model,
    }
    return [{"key": key, "value": value} for key, value in tags.items()]


def _batches(items: Sequence[ItemT]) -> Iterator[list[ItemT]]:
    remaining = iter(items)
    while batch := list(islice(remaining, _MAX_AT_ONCE)):
        yield batch
