"""Publishing to a real MLflow server: its state after complete and after interrupted publications."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.services.gateway.rigs.http_proxy import proxy
from tests.services.gateway.rigs.public_rig import Rig, open_rig

from craft.infra.settings.publishing import MlflowSettings, PublishingSettings
from craft_gateway.publishing.loop import PublicationLoop
from craft_gateway.publishing.mlflow import MlflowPublisher

URL = os.environ.get("CRAFT_TEST_MLFLOW_URL", "")
pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not URL, reason="CRAFT_TEST_MLFLOW_URL names no MLflow server (make test-servers)"),
]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path, publishing=settings(URL)) as opened:
        yield opened


def settings(url: str, **changes: Any) -> PublishingSettings:
    return PublishingSettings(
        mlflow=MlflowSettings(tracking_uri=url or "http://none", **changes), first_pause_seconds=0.001
    )


def requested(rig: Rig, model: str) -> str:
    job = rig.submit(name="support-qa")
    rig.finish(job)
    answer = rig.post(f"/craft/jobs/{job}/publish", json={"target": {"kind": "mlflow", "model_name": model}})
    assert answer.status_code == 202, answer.text
    return job


def loop(rig: Rig, url: str = URL, **changes: Any) -> PublicationLoop:
    chosen = settings(url, **changes)
    assert chosen.mlflow is not None
    publisher = MlflowPublisher(chosen.mlflow, timeout_seconds=60)
    return PublicationLoop(rig.database, rig.store, {"mlflow": publisher}, chosen)


def shown(rig: Rig, job: str) -> dict[str, Any]:
    (only,) = rig.get(f"/craft/jobs/{job}/publications").json()["data"]
    return dict(only)


def call(path: str, /, **params: str) -> dict[str, Any]:
    answer = httpx.get(f"{URL}/api/2.0/mlflow/{path}", params=params, trust_env=False)
    assert answer.is_success, answer.text
    return dict(answer.json())


def runs_of(publication: str) -> list[dict[str, Any]]:
    experiment = call("experiments/get-by-name", experiment_name="craft")["experiment"]["experiment_id"]
    body = {"experiment_ids": [experiment], "filter": f"tags.`craft.publication` = '{publication}'"}
    answer = httpx.post(f"{URL}/api/2.0/mlflow/runs/search", json=body, trust_env=False)
    return list(answer.json().get("runs", ()))


def new_model() -> str:
    return f"support qa {uuid4().hex[:8]}"


def test_a_version_with_run_parameters_metrics_and_files_is_there(rig: Rig) -> None:
    model = new_model()
    job = requested(rig, model)
    assert loop(rig).step()
    view = shown(rig, job)
    assert (view["status"], view["version"], view["error"]) == ("succeeded", "1", None)
    version = call("model-versions/get", name=model, version="1")["model_version"]
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert (tags["craft.job"], tags["craft.digest"]) == (job, view["digest"])
    (run,) = runs_of(view["id"])
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["run_id"] == version["run_id"]
    parameters = {item["key"]: item["value"] for item in run["data"]["params"]}
    assert (parameters["training.lora_r"], parameters["base_model.id"]) == ("64", "tiny/model")
    metrics = {item["key"]: item["value"] for item in run["data"]["metrics"]}
    assert metrics["held_out/ths_low"] <= metrics["held_out/ths"] <= metrics["held_out/ths_high"]
    files = call("artifacts/list", run_id=version["run_id"], path="adapter")["files"]
    sizes = {file["path"].rpartition("/")[2]: int(file["file_size"]) for file in files}
    assert set(sizes) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    source = version["source"].partition(":")[2].strip("/")
    weights = httpx.get(f"{URL}/api/2.0/mlflow-artifacts/artifacts/{source}/adapter_model.safetensors", trust_env=False)
    assert weights.content == b"package:cor-rait"


@pytest.mark.parametrize(
    "part",
    [
        "experiments/get-by-name",
        "runs/create",
        "runs/log-batch",
        "adapter_model",
        "README.md",
        "runs/update",
        "registered-models/create",
        "model-versions/create",
    ],
)
def test_a_server_that_breaks_half_way_has_one_run_and_one_version_in_the_end(rig: Rig, part: str) -> None:
    model = new_model()
    job = requested(rig, model)
    broken: list[str] = []

    def breaks(method: str, path: str) -> int | None:
        if part in path and not broken:
            broken.append(path)
            return 503
        return None

    with proxy(URL, breaks=breaks) as url:
        publishing = loop(rig, url)
        assert publishing.step()
        assert (shown(rig, job)["status"], shown(rig, job)["error"]["code"]) == ("queued", "unavailable")
        while shown(rig, job)["status"] != "succeeded":
            publishing.step()
    view = shown(rig, job)
    assert (view["attempts"], view["version"]) == (2, "1")
    assert len(runs_of(view["id"])) == 1


def test_what_the_page_says_of_mlflows_own_tools_is_so(rig: Rig, tmp_path: Path) -> None:
    model = new_model().replace(" ", "-")
    requested(rig, model)
    assert loop(rig).step()
    page = (Path(__file__).parents[4] / "shared/docs/publishing.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^mlflow (.*)$", page, re.MULTILINE)
    words = [word.replace("support-qa", model) for word in shlex.split(line)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": URL, "PYTHONPATH": "", "MLFLOW_DISABLE_TELEMETRY": "true"}
    program = os.environ["CRAFT_TEST_MLFLOW_PROGRAM"]
    subprocess.run([program, *words], cwd=tmp_path, env=environment, check=True, timeout=150)
    assert (tmp_path / "adapter/adapter_model.safetensors").read_bytes() == b"package:cor-rait"


def test_what_is_there_already_is_found_again(rig: Rig) -> None:
    model = new_model()
    job = requested(rig, model)
    publishing = loop(rig)
    claimed = publishing._claim()
    assert claimed is not None
    first = publishing._publish(claimed)  # and the process dies before it stores the result
    assert publishing._publish(claimed) == first
    assert len(runs_of(shown(rig, job)["id"])) == 1


def test_a_second_job_makes_the_second_version(rig: Rig) -> None:
    model = new_model()
    requested(rig, model)
    other = rig.submit(training={"lora_r": 8})
    rig.finish(other)
    rig.post(f"/craft/jobs/{other}/publish", json={"target": {"kind": "mlflow", "model_name": model}})
    publishing = loop(rig)
    assert publishing.step()
    assert publishing.step()
    assert shown(rig, other)["version"] == "2"


def test_the_password_of_the_settings_opens_the_server_and_a_wrong_one_is_an_operators_to_mend(rig: Rig) -> None:
    job = requested(rig, new_model())
    with proxy(URL, password="rïght") as url:
        assert loop(rig, url, username="craft", password="wrong").step()
        view = shown(rig, job)
        assert (view["status"], view["error"]["code"]) == ("failed", "publishing_refused")
        assert "CRAFT_PUBLISHING__MLFLOW__USERNAME" in view["error"]["hint"]
        assert "wrong" not in str(view)
        again = rig.post(f"/craft/jobs/{job}/publish", json={"target": view["target"]})
        assert again.status_code == 202
        assert loop(rig, url, username="craft", password="rïght").step()
    assert shown(rig, job)["status"] == "succeeded"


def test_what_is_no_mlflow_server_is_said_to_be_none(rig: Rig) -> None:
    job = requested(rig, new_model())
    # Below this path MLflow answers with its own page.
    assert loop(rig, f"{URL}/static-files").step()
    assert shown(rig, job)["error"]["code"] == "publishing_refused"
