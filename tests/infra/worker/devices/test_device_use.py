"""A service's children see the GPU that they compute on, or none; nothing stays warm on a shared one."""

from pathlib import Path

import pytest

from craft.contracts.stages.kinds import Service
from craft.errors import DeviceFailed
from craft.infra.settings.settings import Settings
from craft.infra.settings.training import TrainingServiceSettings
from craft.infra.settings.worker import WorkerSettings
from craft.infra.worker.device_use import DeviceUse

BOTH = {"CUDA_VISIBLE_DEVICES": "4,6"}
LOCK = Path("device0.lock")


def use(service: Service = Service.TRAINING, **settings: object) -> DeviceUse:
    return DeviceUse.of(service, Settings.model_validate(settings), BOTH)


def test_training_sees_one_gpu_the_first_visible_one_by_default() -> None:
    assert use(training={"device": "cuda"}).environment(BOTH)["CUDA_VISIBLE_DEVICES"] == "4"
    second = use(training={"device": "cuda", "device_index": 1})
    assert second.environment(BOTH)["CUDA_VISIBLE_DEVICES"] == "6"


def test_a_gpu_that_is_not_visible_is_refused() -> None:
    with pytest.raises(DeviceFailed, match="CRAFT_TRAINING__DEVICE_INDEX"):
        use(training={"device": "cuda", "device_index": 2}).environment(BOTH)


@pytest.mark.parametrize("service", [Service.DATASETS, Service.INFERENCE, Service.SCORING])
def test_services_that_compute_on_the_cpu_see_no_gpu(service: Service) -> None:
    assert not use(service).on_gpu
    assert use(service).environment(BOTH)["CUDA_VISIBLE_DEVICES"] == ""


def test_training_on_the_cpu_by_setting_sees_no_gpu() -> None:
    assert use(training={"device": "cpu"}).environment(BOTH)["CUDA_VISIBLE_DEVICES"] == ""


def test_scoring_takes_a_gpu_by_its_setting_only() -> None:
    assert use(Service.SCORING, scoring={"device": "cuda"}).environment(BOTH)["CUDA_VISIBLE_DEVICES"] == "4"


def test_no_child_stays_warm_on_a_gpu_that_workers_share() -> None:
    on_gpu = use(training={"device": "cuda"})
    assert on_gpu.settings(WorkerSettings(device_lock=LOCK)).warm_seconds == 0.0


@pytest.mark.parametrize(
    ("on", "own"),
    [
        ("cuda", WorkerSettings()),
        ("cuda", WorkerSettings(device_lock=LOCK, warm_on_device=True)),
        ("cpu", WorkerSettings(device_lock=LOCK)),
    ],
)
def test_a_child_stays_warm_on_its_own_gpu_on_the_cpu_and_where_the_operator_says_that_all_fit(
    on: str, own: WorkerSettings
) -> None:
    assert use(training={"device": on}).settings(own) == own


def test_two_gpus_of_a_machine_are_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    settings = [TrainingServiceSettings(device="cuda", device_index=index) for index in (0, 1)]
    places = {use(training=each.model_dump()).place("host-3") for each in settings}
    assert places == {"host-3/gpu4", "host-3/gpu6"}
    assert use(training={"device": "cpu"}).place("host-3") == "host-3"
