"""Base models in memory: loaded once per process, adapted, and restored exactly."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from craft.contracts.spec.jobs import Quantization
from craft.contracts.stages.parameters import ModelRef, TrainerRef
from craft.errors import RequestInvalid
from craft.infra.device.choice import Device
from craft.infra.device.cuda import multiplies_bfloat16, torch_device
from craft.infra.device.deployment import check_trainer
from craft.infra.models.chats.renderer import ChatRenderer
from craft.infra.models.folders import ModelFolders
from craft.infra.models.loading import architecture_in, load_causal_lm, load_tokenizer
from craft.infra.models.model_config import context_length
from craft.infra.settings.training import TrainingServiceSettings
from craft_training.quantized import loading_arguments

_log = logging.getLogger("craft.training")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A loaded model with its tokenizer. Only `adapted` and `with_adapter` may change `model`."""

    ref: ModelRef
    model: Any
    tokenizer: Any
    trainer: TrainerRef
    folder: Path
    quantization: Quantization = Quantization.NONE

    @property
    def chat(self) -> ChatRenderer:
        """The form of chats of the job that uses the model. Raises ModelRejected for a model without a template."""
        return ChatRenderer(self.tokenizer, self.ref.chat, model=self.ref.id)

    @property
    def context_length(self) -> int:
        """The largest number of tokens that the model takes."""
        return context_length(self.model.config.to_dict()) or 2048


class BaseModels:
    """Loads models from the operator's folder and keeps the last one, so that the next stage finds it loaded."""

    def __init__(self, folders: ModelFolders, settings: TrainingServiceSettings) -> None:
        self._folders = folders
        self._device = torch_device(settings.device, setting="CRAFT_TRAINING__DEVICE")
        self._loaded: BaseModel | None = None
        if settings.threads:
            torch.set_num_threads(settings.threads)

    @property
    def device(self) -> Device:
        """The device of every model."""
        return self._device

    def get(self, ref: ModelRef, trainer: TrainerRef, quantization: Quantization = Quantization.NONE) -> BaseModel:
        """The kept model, or the model loaded now. Raises ModelNotFound, ModelRejected, DeploymentChanged.

        Base weights are stored, or quantized, and multiplied in `trainer.dtype`; LoRA weights are float32.
        """
        check_trainer(trainer, device=self._device)
        kept, wanted = self._loaded, (ref.weights, trainer, quantization)
        if kept is None or (kept.ref.weights, kept.trainer, kept.quantization) != wanted:
            path = self._folders.locate(ref)
            del kept  # Two models together may not fit into memory.
            self._loaded = None
            transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            dtype = _dtype(trainer.dtype, self._device)
            model = load_causal_lm(
                AutoModelForCausalLM,
                path,
                name=ref.id,
                dtype=dtype,
                attention=architecture_in(path).attention.value,
                **loading_arguments(quantization, dtype, self._device),
            )
            tokenizer = load_tokenizer(AutoTokenizer, path, model, name=ref.id)
            kept = self._loaded = BaseModel(ref, model.to(self._device).eval(), tokenizer, trainer, path, quantization)
            _log.info("model_loaded", extra={"model": ref.id, "device": self._device, "dtype": str(dtype)})
        # Jobs with other forms of chats share the weights.
        return kept if kept.ref == ref else replace(kept, ref=ref)

    def forget(self) -> None:
        """Drop the kept model, because a failure inside `adapted` may have left it changed."""
        self._loaded = None


@contextmanager
def adapted(base: BaseModel, config: LoraConfig) -> Iterator[PeftModel]:
    """The model with new, trainable LoRA layers. At the block's end it is exactly the base model again.

    Raises RequestInvalid if the model has no layers with the names in `config`.
    """
    with _restored(base.model):
        try:
            with _quiet():
                model = get_peft_model(base.model, config)
        except ValueError as error:
            raise RequestInvalid(
                f"{base.ref.id} cannot be tuned like this: {str(error)[:300]}",
                hint="Name linear layers of the model in target_modules, or leave it at all-linear.",
                param="training.target_modules",
            ) from error
        try:
            yield model
        finally:
            model.unload()


@contextmanager
def with_adapter(base: BaseModel, folder: str) -> Iterator[PeftModel]:
    """The model with a stored adapter, for inference. At the block's end it is exactly the base model again."""
    with _restored(base.model):
        with _quiet():
            model = PeftModel.from_pretrained(base.model, folder)
        try:
            yield model.eval()
        finally:
            model.unload()


@contextmanager
def _restored(model: Any) -> Iterator[None]:
    """Restore what PEFT and the Trainer change besides layers: modes, gradient flags, cache use, PEFT's attributes."""
    use_cache, generation = model.config.use_cache, model.generation_config
    needs_gradient = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        yield
    finally:
        model.config.use_cache, model.generation_config = use_cache, generation
        for attribute in ("peft_config", "_hf_peft_config_loaded"):
            if attribute in vars(model):
                delattr(model, attribute)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(needs_gradient.get(name, True))
            parameter.grad = None
        model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Ignore a warning that we cannot remove: PEFT 0.21 reads a name that transformers 5 has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def _dtype(wanted: Literal["bfloat16", "float32"], device: Device) -> torch.dtype:
    """Bfloat16 only where the device multiplies in it. Elsewhere it is emulated and slower than float32."""
    return torch.bfloat16 if wanted == "bfloat16" and multiplies_bfloat16(device) else torch.float32
