"""Settings, code, images, Compose and Kubernetes name the same things."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel
from tests.deployment.files import (
    IMAGES,
    OVERLAYS,
    ROOT,
    SERVICES,
    Document,
    Process,
    compose,
    compose_processes,
    filled_in,
    kubernetes_processes,
    of_kind,
    rendered,
)

from craft.contracts.stages.kinds import Service
from craft.infra.settings.settings import Settings
from craft_cli.model_fetch import WHEELS

VARIABLE = re.compile(r"\bCRAFT_[A-Z0-9_]+")
PORTS = {
    "gateway": Settings().gateway.port,
    "coordinator": Settings().coordinator.port,
    "datasets-api": Settings().datasets.port,
    "inference-api": Settings().inference.port,
    "scoring-api": Settings().scoring.port,
    "training-api": Settings().training.port,
    "model-server": Settings().model_server.port,
}
DATABASE_OWNERS = {"gateway", "coordinator", "migrate"}
TOKENS = {
    "CRAFT_WORKER_TOKEN": "worker-token",
    "CRAFT_SERVICE_TOKEN": "service-token",
    "CRAFT_METRICS_TOKEN": "metrics-token",
    "CRAFT_MODEL_SERVER_TOKEN": "model-server-token",
    "CRAFT_GATEWAY__OPERATOR_KEY": "gateway-operator-key",
    "CRAFT_WEBHOOKS__KEY": "webhooks-key",
}
"""Variables, and their keys in the Secret."""


def variables(model: type[BaseModel], prefix: str = "CRAFT_") -> Iterator[str]:
    """The environment variables that the settings read."""
    for name, info in model.model_fields.items():
        yield prefix + name.upper()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from variables(info.annotation, f"{prefix}{name.upper()}__")


def deployment_files() -> list[Path]:
    k8s = [path for path in (ROOT / "k8s").rglob("*") if path.is_file()]
    return [ROOT / "docker-compose.yml", ROOT / ".env.example", *k8s, *ROOT.glob("services/Dockerfile*")]


def ours(processes: list[Process]) -> list[Process]:
    return [process for process in processes if process.module is not None]


def knowing(variable: str, processes: list[Process]) -> set[str]:
    """The containers, others' too, that are given the variable."""
    return {process.name for process in processes if variable in process.environment}


@pytest.mark.parametrize("path", deployment_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_variable_is_a_setting(path: Path) -> None:
    unknown = set(VARIABLE.findall(path.read_text())) - set(variables(Settings))
    assert not unknown


def test_compose_and_kubernetes_run_the_same_processes() -> None:
    in_compose = {process.name for process in compose_processes()} - {"model-server", "training-worker-gpu"}
    assert in_compose == {process.name for process in kubernetes_processes(rendered("local"))}


def test_a_team_brings_its_own_stores_and_models() -> None:
    local = {process.name for process in kubernetes_processes(rendered("local"))}
    team = {process.name for process in kubernetes_processes(rendered("gpu"))}
    assert local - team == {"postgres", "valkey", "models"}
    assert team - local == {"model-server"}


def test_a_node_with_a_gpu_has_everything_and_the_model_server() -> None:
    local = {process.name for process in kubernetes_processes(rendered("local"))}
    assert {process.name for process in kubernetes_processes(rendered("one-gpu"))} == local | {"model-server"}


def test_every_command_is_a_module_that_can_be_run(processes: list[Process]) -> None:
    for process in ours(processes):
        assert process.module is not None
        package, module = process.module.split(".")
        image = re.sub(r":.*", "", process.image).removeprefix("craft-")
        folder = ROOT / f"services/{image}/{package}"
        file = next(filter(Path.is_file, (folder / f"{module}.py", folder / module / "__main__.py")), None)
        assert file is not None, f"{process.name} runs {process.module} from the image {process.image}"
        assert 'if __name__ == "__main__":' in file.read_text()


def test_every_service_has_an_api_and_a_worker(processes: list[Process]) -> None:
    modules = {process.name: process.module for process in ours(processes)}
    for service in SERVICES:
        assert modules[f"{service}-api"] == f"craft_{service}.api"
        assert modules[f"{service}-worker"] == f"craft_{service}.worker"


def test_every_queue_has_workers(processes: list[Process]) -> None:
    read = set()
    for process in ours(processes):
        assert process.module is not None
        if process.module.endswith(".worker"):
            service = process.module.removeprefix("craft_").removesuffix(".worker")
            source = (ROOT / f"services/{service}/craft_{service}/worker.py").read_text()
            queue = re.search(r"run\(Service\.([A-Z]+),", source)
            assert queue is not None
            assert queue[1] == service.upper(), f"{process.name} reads another service's queue"
            read.add(Service[queue[1]])
    assert read == set(Service)


def test_ports_are_the_settings_ports(processes: list[Process]) -> None:
    for process in processes:
        if process.name in PORTS and process.name != "gateway" and process.ports:
            assert process.ports == {PORTS[process.name]}


def test_services_offer_the_settings_ports(manifest_set: tuple[Document, ...]) -> None:
    offered = {s["metadata"]["name"]: s["spec"]["ports"][0]["port"] for s in of_kind(manifest_set, "Service")}
    running = {process.name for process in kubernetes_processes(manifest_set)}
    assert {name: port for name, port in offered.items() if name in PORTS} == {
        name: port for name, port in PORTS.items() if name in running
    }


def test_the_environment_is_what_the_settings_accept(processes: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    names = {process.name for process in processes}
    for process in ours(processes):
        with monkeypatch.context() as patched:
            for name, value in process.environment.items():
                plain = re.sub(r"\$\{\w+:-(\w*)\}", r"\1", value)
                patched.setenv(name, filled_in(plain))
            settings = Settings()
        coordinator, datasets = urlsplit(settings.resolved_coordinator_url), urlsplit(settings.resolved_datasets_url)
        assert (coordinator.hostname, coordinator.port) == ("coordinator", settings.coordinator.port)
        assert (datasets.hostname, datasets.port) == ("datasets-api", settings.datasets.port)
        assert {"coordinator", "datasets-api"} <= names
        if process.name == "gateway":
            assert not settings.gateway.keyless
        services = (getattr(settings, service) for service in SERVICES)
        for listen in (settings.gateway, settings.coordinator, settings.model_server, *services):
            assert listen.host == "0.0.0.0"


def test_only_the_gateway_knows_the_database(processes: list[Process]) -> None:
    assert knowing("CRAFT_DATABASE_URL", processes) == DATABASE_OWNERS


def test_only_coordinator_and_workers_know_the_broker(processes: list[Process]) -> None:
    for process in ours(processes):
        assert process.module is not None
        may = process.name == "coordinator" or process.module.endswith(".worker")
        assert ("CRAFT_BROKER_URL" in process.environment) == may, process.name


def test_only_coordinator_and_workers_know_the_workers_token(processes: list[Process]) -> None:
    workers = {p.name for p in ours(processes) if p.module is not None and p.module.endswith(".worker")}
    assert knowing("CRAFT_WORKER_TOKEN", processes) == {"coordinator", *workers}


def apis(processes: list[Process]) -> set[str]:
    return {p.name for p in ours(processes) if p.name.endswith("-api")}


def test_only_the_services_and_the_gateway_know_the_services_token(processes: list[Process]) -> None:
    assert len(apis(processes)) == len(Service)
    assert knowing("CRAFT_SERVICE_TOKEN", processes) == {"gateway", *apis(processes)}


def test_who_has_metrics_knows_their_token(processes: list[Process]) -> None:
    assert knowing("CRAFT_METRICS_TOKEN", processes) == {"gateway", "coordinator", *apis(processes)}


def test_only_the_gateway_knows_the_operators_key(processes: list[Process]) -> None:
    assert knowing("CRAFT_GATEWAY__OPERATOR_KEY", processes) == {"gateway"}


def test_only_who_keeps_webhooks_and_who_sends_them_know_their_key(processes: list[Process]) -> None:
    assert knowing("CRAFT_WEBHOOKS__KEY", processes) == {"gateway", "coordinator"}


def test_only_who_offers_and_who_publishes_may_be_told_of_registries(processes: list[Process]) -> None:
    told = {process.name for process in processes if process.optional & {"publishing.env", "craft-publishing"}}
    assert told == {"gateway", "coordinator"}


def test_only_the_model_server_and_its_callers_know_its_token(processes: list[Process]) -> None:
    names = {process.name for process in processes}
    trainer = "training-worker-gpu" if "training-worker-gpu" in names else "training-worker"
    callers = {"gateway", "inference-worker", trainer}
    expected = {"model-server", *callers} if "model-server" in names else set()
    assert knowing("CRAFT_MODEL_SERVER_TOKEN", processes) == expected


def test_each_token_has_one_source_of_its_own(processes: list[Process]) -> None:
    for variable, key in TOKENS.items():
        values = {process.environment[variable] for process in processes if variable in process.environment}
        assert values <= {f"secret:{key}", f"${{{variable}:?set it in .env}}"}
        assert len(values) <= 1


def test_secrets_come_from_the_secret_or_from_the_environment_file(processes: list[Process]) -> None:
    for process in processes:
        for name, value in process.environment.items():
            if re.search(r"PASSWORD|TOKEN|OPERATOR_KEY|WEBHOOKS__KEY|DATABASE_URL|BROKER_URL", name):
                assert value.startswith("secret:") or "${" in value, f"{process.name}: {name} is written down"


def test_compose_and_kubernetes_share_their_settings() -> None:
    lines = (ROOT / "k8s/base/settings.env").read_text().splitlines()
    kubernetes = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    shared = {key: re.sub(r"\$\{\w+:-(\w*)\}", r"\1", str(v)) for key, v in compose()["x-settings"].items()}
    assert shared == kubernetes


def test_images_carry_the_version_of_the_project(processes: list[Process]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {process.image for process in processes if process.image.startswith("craft-")}
    assert {f"craft-{name}:{version}" for name in IMAGES} <= images
    assert all(image.split(":")[1] in {version, f"{version}-cuda", f"{version}-vllm"} for image in images)


def test_the_same_images_of_others_are_used_everywhere() -> None:
    def foreign(processes: list[Process]) -> set[str]:
        return {process.image for process in processes if not process.image.startswith("craft-")}

    assert foreign(compose_processes()) == foreign(kubernetes_processes(rendered("local")))


def test_the_grace_period_is_longer_than_the_workers_own() -> None:
    (own_seconds,) = re.findall(r"CRAFT_WORKER__GRACE_SECONDS=(\d+)", (ROOT / "k8s/base/settings.env").read_text())
    for service in compose_processes():
        if service.module is not None:
            period = compose()["services"][service.name]["stop_grace_period"]
            assert float(own_seconds) + 10 <= float(period.removesuffix("s")), service.name
    for overlay in OVERLAYS:
        for workload in of_kind(rendered(overlay), "Deployment"):
            period = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            assert float(own_seconds) + 10 <= period, workload["metadata"]["name"]


def test_the_bundled_models_are_the_ones_that_the_command_fetches(processes: list[Process]) -> None:
    for process in processes:
        if process.name == "models":
            script = process.command[-1]
            assert set(WHEELS.values()) <= set(script.split())
            for name in WHEELS:
                assert f"craft_inference.model_import {name} " in script


def test_the_tag_in_the_instructions_is_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for path in [ROOT / "k8s/README.md", *ROOT.glob("services/Dockerfile*")]:
        tags = set(re.findall(r"craft-[a-z$]+:([\d.]+)", path.read_text()))
        assert tags == {version}, path
