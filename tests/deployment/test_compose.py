"""docker-compose.yml: closed by default, started in order, and complete with `.env.example`."""

import re
from typing import Any

import pytest
from tests.deployment.files import ROOT, compose

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
TEXT = "\n".join(
    line for line in (ROOT / "docker-compose.yml").read_text().splitlines() if not line.lstrip().startswith("#")
)
EXAMPLE = (ROOT / ".env.example").read_text()
ENV = dict(line.split("=", 1) for line in EXAMPLE.splitlines() if line and not line.startswith("#"))


@pytest.fixture(params=sorted(SERVICES))
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = SERVICES[request.param]
    return found


def test_a_container_can_do_nothing_special(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "ipc", "devices", "userns_mode"} & set(service)


def test_a_container_is_not_root(service: dict[str, Any]) -> None:
    # Our images name their user themselves; others do not all.
    assert service["image"].startswith("craft-") or re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])


def test_nothing_of_the_host_is_mounted(service: dict[str, Any]) -> None:
    for mount in service.get("volumes", ()):
        assert mount.split(":")[0] in compose()["volumes"]


def test_images_are_pinned(service: dict[str, Any]) -> None:
    assert re.fullmatch(r"[a-z0-9./-]+:[a-z0-9.-]*\d[a-z0-9.-]*", service["image"])


def test_only_the_gateway_is_published_and_only_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["gateway"]
    assert published["gateway"] == ["127.0.0.1:${GATEWAY_PORT:-8080}:8080"]
    assert "network_mode: host" not in TEXT


def test_only_the_gateway_and_the_download_reach_the_world() -> None:
    networks = compose()["networks"]
    assert networks["default"]["internal"] is True
    outside = {name for name, service in SERVICES.items() if "outside" in service.get("networks", ())}
    assert outside == {"gateway", "models", "coordinator", "datasets-api"}


def test_the_model_server_is_reached_by_its_callers_only() -> None:
    networks = compose()["networks"]
    assert networks["serving"]["internal"] is True
    assert SERVICES["model-server"]["networks"] == ["serving"], "it needs nobody else"
    joined = {name for name, service in SERVICES.items() if "serving" in service.get("networks", ())}
    assert joined == {"model-server", "gateway", "inference-worker", "training-worker-gpu"}
    for name in joined - {"model-server"}:
        assert "default" in SERVICES[name]["networks"]


def test_a_service_waits_for_what_can_tell_that_it_is_ready(service: dict[str, Any]) -> None:
    for name, how in service.get("depends_on", {}).items():
        needed = SERVICES[name]
        match how["condition"]:
            case "service_healthy":
                assert not needed.get("healthcheck", {}).get("disable"), f"{name} never becomes healthy"
                assert needed["image"].startswith("craft-") or "test" in needed["healthcheck"]
            case "service_completed_successfully":
                assert needed["restart"] != "unless-stopped", f"{name} never ends"
            case condition:
                assert condition == "service_started"


def test_needs_exist_in_every_profile_of_who_needs_them() -> None:
    for name, service in SERVICES.items():
        for needed in service.get("depends_on", {}):
            assert not SERVICES[needed].get("profiles"), f"{name} waits for {needed}, which may not run"


def test_everything_that_listens_has_a_health_check() -> None:
    for name, service in SERVICES.items():
        unwatched = service.get("healthcheck", {}).get("disable", False)
        assert unwatched == bool(re.fullmatch(r"migrate|models|.*-worker(-gpu)?", name)), name


def test_the_database_is_migrated_before_anything_uses_it() -> None:
    for name in ("gateway", "coordinator"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_training_runs_on_the_processor_or_on_the_gpu_but_not_on_both() -> None:
    plain, gpu = SERVICES["training-worker"], SERVICES["training-worker-gpu"]
    assert plain["profiles"] == ["cpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["command"] == plain["command"]
    assert gpu["environment"]["CRAFT_TRAINING__DEVICE"] == "cuda"
    assert gpu["image"] != plain["image"], "two builds of torch under one name"


def test_vllm_and_training_have_the_same_gpu_and_nobody_else_has_one() -> None:
    reserved = {name: service["deploy"]["resources"] for name, service in SERVICES.items() if "deploy" in service}
    gpu = {"reservations": {"devices": [{"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}]}}
    assert reserved == {"model-server": gpu, "training-worker-gpu": gpu}
    for name in reserved:
        assert SERVICES[name]["profiles"] == ["gpu"]
        assert SERVICES[name]["shm_size"] == "8gb"


def test_the_inference_worker_runs_in_every_profile() -> None:
    assert "profiles" not in SERVICES["inference-worker"], "it needs no GPU, whatever its engine is"


def test_a_profile_is_chosen_in_the_example_and_everything_fits_it() -> None:
    assert ENV["COMPOSE_PROFILES"] == "cpu"
    assert ENV["CRAFT_INFERENCE__ENGINE"] == "transformers"
    assert ENV["CRAFT_INFERENCE__DEVICE"] == ENV["CRAFT_TRAINING__DEVICE"] == "cpu"


def test_every_variable_is_explained_in_the_example_and_the_reverse() -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
    assert used == set(ENV) - {"COMPOSE_PROFILES"}


def test_a_missing_password_stops_the_start() -> None:
    optional = {"CRAFT_OTLP_ENDPOINT", "TORCH_CPU_INDEX_URL", "TORCH_GPU_INDEX_URL"}
    secrets = {name for name, value in ENV.items() if not value} - optional
    passwords = {"POSTGRES_PASSWORD", "VALKEY_PASSWORD", "CRAFT_GATEWAY__OPERATOR_KEY", "CRAFT_WEBHOOKS__KEY"}
    assert secrets == {
        *passwords,
        *(f"CRAFT_{name}_TOKEN" for name in ("WORKER", "SERVICE", "METRICS", "MODEL_SERVER")),
    }
    for name in secrets:
        uses = re.findall(r"\$\{" + name + r"([^}]*)\}", TEXT)
        assert uses
        assert all(use.startswith(":?") for use in uses), f"{name} may be empty somewhere"


def test_configs_and_build_files_exist() -> None:
    for config in compose()["configs"].values():
        assert "content" in config or (ROOT / config["file"]).is_file()
    for service in SERVICES.values():
        for config in service.get("configs", ()):
            assert config["source"] in compose()["configs"]
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
            # vLLM's Dockerfile builds one service and takes no SERVICE.
            name = service["build"].get("args", {}).get("SERVICE", "inference")
            assert re.fullmatch(rf"craft-{name}:.+", service["image"])
