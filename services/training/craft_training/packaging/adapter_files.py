"""Writes adapters in PEFT's layout, with only the fields that the adapter needs."""

import gzip
import json
import tarfile
from pathlib import Path

import safetensors.torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import nn

from craft.contracts.stages.rows import ADAPTER_CONFIG, ADAPTER_WEIGHTS


def write_adapter(model: PeftModel, folder: Path, *, base_model_id: str) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`; the base model's own weights are not saved.

    The configuration names the base model by its id: a path of this machine would mean nothing elsewhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config[model.active_adapter]
    assert isinstance(config, LoraConfig)  # noqa: S101 - for the type checker: we make no other kind
    minimal = {
        "base_model_name_or_path": base_model_id,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "peft_type": "LORA",
        "r": config.r,
        "target_modules": _target_modules(model),
        "task_type": "CAUSAL_LM",
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(minimal, indent=1) + "\n")
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    safetensors.torch.save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
        folder / ADAPTER_WEIGHTS,
        metadata={"format": "pt"},
    )


def _target_modules(model: PeftModel) -> list[str]:
    """The adapted modules' last names, as serving engines expect; whole names where a last name is ambiguous."""
    modules = dict(model.get_base_model().named_modules())
    adapted = {name for name, module in modules.items() if isinstance(module, LoraLayer)}
    last_names = {name.rpartition(".")[2] for name in adapted}
    reached = {name for name, module in modules.items() if name.rpartition(".")[2] in last_names and _is_linear(module)}
    return sorted(last_names if reached == adapted else adapted)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | LoraLayer)


def write_archive(folder: Path, archive: Path) -> None:
    """Write `folder` as `archive` (tar.gz). The same files always give the same bytes."""
    # Weights hardly compress: the lowest level is nearly as small as the highest and many times faster.
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}")
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)
