"""Asks torch about CUDA. Only processes that compute import it; no other file below `craft` imports torch."""

import os
import warnings

import torch

from craft.infra.device.choice import CudaState, Device, WantedDevice, chosen_device


def cuda_state() -> CudaState:
    """The state of CUDA in this process. torch tells the reason for a device that it cannot use as a warning."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            usable, words = torch.cuda.is_available(), ""
        except RuntimeError as error:
            usable, words = False, str(error)
    words = words or " ".join(str(warning.message) for warning in told)
    return CudaState(usable=usable, built_for=torch.version.cuda, detail=" ".join(words.split())[:500])


def torch_device(wanted: WantedDevice, *, setting: str) -> Device:
    """The device on which this process computes. Raises DeviceFailed: see `chosen_device`."""
    # A setting of "cpu" must not make CUDA start.
    state = CudaState(usable=False, built_for=None) if wanted == "cpu" else cuda_state()
    return chosen_device(wanted, state, os.environ, setting=setting)


def multiplies_bfloat16(device: Device) -> bool:
    """True if the device itself multiplies in bfloat16. An emulation is slower than float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
