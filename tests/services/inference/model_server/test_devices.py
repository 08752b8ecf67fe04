"""vLLM's GPU is tested for the inference worker, which has none, while vLLM does not run."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from tests.services.inference.rigs.supervisor_rig import in_a_loop

import craft
from craft.errors import DeviceFailed
from craft.infra.device.report import DeviceReport
from craft.infra.http.app import create_app
from craft.infra.settings.inference import InferenceSettings
from craft_inference.model_server import devices
from craft_inference.model_server.devices import device_router, device_test

TOKEN = "sesame"
H200 = DeviceReport(name="NVIDIA H200", devices=1)


def sick() -> DeviceReport:
    raise DeviceFailed("The device failed: CUDA error: uncorrectable ECC error encountered")


@asynccontextmanager
async def client_of(
    test: Callable[[], DeviceReport], *, runs: bool = False, token: str = TOKEN
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        title="Model server",
        service="model-server",
        routers=[device_router(test, runs=lambda: runs, token=SecretStr(TOKEN))],
    )
    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server", headers=headers) as client:
        yield client


@in_a_loop
async def test_while_vllm_is_stopped_the_device_is_tested() -> None:
    async with client_of(lambda: H200) as client:
        assert DeviceReport.model_validate_json((await client.get("/v1/device")).content) == H200
    async with client_of(sick) as client:
        report = DeviceReport.model_validate_json((await client.get("/v1/device")).content)
        assert "uncorrectable ECC" in (report.failure or "")


@in_a_loop
async def test_a_server_that_runs_has_passed() -> None:
    async with client_of(sick, runs=True) as client:
        assert (await client.get("/v1/device")).json()["failure"] is None


@in_a_loop
async def test_nobody_tests_the_device_without_the_token() -> None:
    async with client_of(sick, token="wrong") as client:
        assert (await client.get("/v1/device")).status_code == 401


def settings(**changes: object) -> InferenceSettings:
    return InferenceSettings.model_validate({"engine": "vllm", "device": "cuda", **changes})


@pytest.mark.parametrize("changes", [{"device": "cpu"}, {"vllm": {"url": "http://theirs:8000"}}])
def test_a_vllm_on_the_cpu_or_elsewhere_has_no_device_to_test(changes: dict[str, object]) -> None:
    assert device_test(settings(**changes)) == DeviceReport()


def test_the_test_runs_in_vllms_environment_and_sees_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, str | None]] = []

    def record(environment: dict[str, str], *, setting: str, python: str) -> DeviceReport:
        seen.append((python, environment["CUDA_VISIBLE_DEVICES"], environment.get("PYTHONPATH")))
        return H200

    monkeypatch.setattr(devices, "self_test", record)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert device_test(settings(device_index=1)) == H200
    assert device_test(settings(vllm={"python": "/vllm/bin/python", "tensor_parallel_size": 2})) == H200
    source = str(Path(str(craft.__file__)).parents[1])
    assert seen == [(sys.executable, "5", None), ("/vllm/bin/python", "3,5", source)]


def test_where_our_packages_would_take_the_place_of_vllms_nothing_is_tested(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(craft, "__file__", str(tmp_path / "site-packages" / "craft" / "__init__.py"))
    monkeypatch.setattr(devices, "self_test", lambda *_, **__: sick())
    assert device_test(settings(vllm={"python": "/vllm/bin/python"})) == DeviceReport()


def test_a_gpu_that_is_not_there_fails_the_real_test() -> None:
    with pytest.raises(DeviceFailed, match="CRAFT_INFERENCE__DEVICE=cpu"):
        device_test(settings())
