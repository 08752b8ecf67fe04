"""Base models in 4 bits, by bitsandbytes, which a deployment may lack."""

from importlib.util import find_spec
from typing import Any

from craft.contracts.spec.jobs import Quantization
from craft.errors import DeploymentChanged

MISSING = "bitsandbytes is not installed here, and training.quantization nf4 needs it."
HOW = "Install the extra `nf4`, or unset CRAFT_TRAINING__NF4, so that no job asks for it."


def has_bitsandbytes() -> bool:
    """True if it is installed. It is not imported, which takes seconds."""
    return find_spec("bitsandbytes") is not None


def loading_arguments(quantization: Quantization, dtype: Any, device: str) -> dict[str, Any]:
    """The further arguments with which transformers loads a model so. `dtype` is torch's, for multiplications.

    The layers' linear maps are quantized, not embeddings and head. Raises DeploymentChanged without bitsandbytes.
    """
    if quantization is Quantization.NONE:
        return {}
    if not has_bitsandbytes():
        raise DeploymentChanged(MISSING, hint=HOW)
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    # It is quantized where it goes to, and cannot be moved afterwards.
    return {"quantization_config": config, "device_map": {"": device}}
