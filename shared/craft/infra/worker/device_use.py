"""The device that the children of a service's workers compute on, and all that follows from it for a child."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from craft.contracts.stages.kinds import Service
from craft.infra.device.choice import expected_device
from craft.infra.device.pinning import pinned, without_devices
from craft.infra.settings.settings import Settings
from craft.infra.settings.worker import WorkerSettings

_MAX_HOST_LENGTH = 90
_MAX_GPU_LENGTH = 45
"""Both fit into an owner's name; a GPU's UUID has 40 characters."""


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """`index` counts the GPUs that the worker sees; None where the service computes on the CPU.

    `setting` names the variable that chooses the device, and with `_INDEX` the one that chooses among GPUs. `hides`:
    children that compute on the CPU see no GPU.
    """

    index: int | None
    setting: str = ""
    hides: bool = True

    @classmethod
    def of(cls, service: Service, settings: Settings, environment: Mapping[str, str]) -> Self:
        """The use of a service, by its settings and what the machine has.

        The inference service has none: its embedded engine computes on the CPU, and vLLM is the model server's. A
        child that sends requests to vLLM must see what `auto` means there, and loads no model.
        """
        if service is Service.TRAINING:
            device = expected_device(settings.training.device, environment)
            return cls(settings.training.device_index if device == "cuda" else None, "CRAFT_TRAINING__DEVICE")
        if service is Service.SCORING and settings.scoring.device == "cuda":
            return cls(settings.scoring.device_index, "CRAFT_SCORING__DEVICE")
        return cls(None, hides=not (service is Service.INFERENCE and settings.inference.engine == "vllm"))

    @property
    def on_gpu(self) -> bool:
        """True if the service computes on a GPU."""
        return self.index is not None

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """A child's environment: it sees its one GPU, or none. Raises DeviceFailed if the worker does not see it."""
        if self.index is None:
            return without_devices(inherited) if self.hides else dict(inherited)
        return pinned(inherited, index=self.index, setting=f"{self.setting}_INDEX")

    def place(self, host: str) -> str:
        """The name of the place at which the worker's children compute: the machine, with their GPU where it has one.

        Two workers of a machine with a GPU each are two places.
        """
        if self.index is None:
            return host[:_MAX_HOST_LENGTH]
        shown = self.environment(os.environ)["CUDA_VISIBLE_DEVICES"]
        return f"{host[:_MAX_HOST_LENGTH]}/gpu{shown[:_MAX_GPU_LENGTH]}"

    def settings(self, own: WorkerSettings) -> WorkerSettings:
        """A child that shares its GPU does not stay on it between stages, unless all models fit there together."""
        shared = self.on_gpu and own.device_lock is not None
        return own.model_copy(update={"warm_seconds": 0.0}) if shared and not own.warm_on_device else own
