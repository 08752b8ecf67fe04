"""The GPUs that a vLLM server computes on, by its options."""

import math
from collections.abc import Iterator, Mapping, Sequence

from craft.infra.device.pinning import pinned
from craft.infra.settings.inference import InferenceSettings, VllmSettings

_PARALLEL = {
    **dict.fromkeys(("--tensor-parallel-size", "-tp"), "tensor"),
    **dict.fromkeys(("--pipeline-parallel-size", "-pp"), "pipeline"),
    **dict.fromkeys(("--data-parallel-size", "-dp"), "data"),
    **dict.fromkeys(("--prefill-context-parallel-size", "-pcp"), "prefill"),
}
"""Options by which a server computes on more than one GPU; their numbers multiply."""


def shown_devices(settings: InferenceSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which the server sees its GPUs and no others. Raises DeviceFailed where it shows fewer."""
    count = devices_wanted(settings.vllm)
    return pinned(environment, index=settings.device_index, count=count, setting="CRAFT_INFERENCE__DEVICE_INDEX")


def devices_wanted(vllm: VllmSettings) -> int:
    """The number of GPUs that the server computes on."""
    counts = {"tensor": vllm.tensor_parallel_size}
    for option, value in _options(vllm.extra_arguments):
        if (kind := _PARALLEL.get(option)) is not None and value.isdecimal():
            counts[kind] = int(value)
    return math.prod(counts.values())


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option with its value, written as one word with `=` or as two."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word.startswith("-"):
            option, given, value = word.partition("=")
            yield option, value if given else following
