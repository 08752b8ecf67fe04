"""Loads a checked model folder with transformers: what is loaded is what the files hold, or an error says why not.

Only services that compute import transformers, so they hand its classes in.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from craft.errors import CraftError, Internal, ModelRejected
from craft.infra.models.architectures import Architecture, architecture_of
from craft.infra.models.checkpoint import check_ids, is_computed
from craft.infra.models.model_config import read_config
from craft.infra.process.error_mapping import error_of
from craft.infra.process.server_paths import without_paths

_MAX_REASON_LENGTH = 500
_WHOLE = "Put a whole checkpoint of a model that transformers knows into the model's folder: `craft models fetch` does."


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Inside the block a library loads the model called `name`, whose files decide what it raises.

    Raises ModelRejected with the library's words; a lack of memory or of space stays what it is.
    """
    try:
        yield
    except CraftError:
        raise
    except Exception as error:  # libraries raise exceptions of any kind for files that they do not understand
        if type(error_of(error)) is not Internal:
            raise
        reason = " ".join(without_paths(str(error)).split())[:_MAX_REASON_LENGTH]
        raise ModelRejected(
            f"{name} cannot be loaded: {reason or type(error).__name__}", hint=_WHOLE, param="base_model"
        ) from error


def architecture_in(folder: Path) -> Architecture:
    """The table's row for a checked folder, or the row of an untested architecture that the operator allowed."""
    return architecture_of(read_config(folder / "config.json", folder.name), experimental=True)


def load_causal_lm(models: Any, folder: Path, *, name: str, dtype: Any, attention: str, **further: Any) -> Any:
    """The model in `folder` on the host, in torch's `dtype`, with the named implementation of attention.

    `models`: transformers' AutoModelForCausalLM. `further`: its arguments of a quantisation while loading.

    Raises ModelRejected if the files lack a tensor, which transformers would set at random, or hold another one.
    """
    with loading(name):
        model, report = models.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **further,
        )
    _check_report(report, name)
    return model


def load_tokenizer(tokenizers: Any, folder: Path, model: Any, *, name: str) -> Any:
    """The tokenizer in `folder`. Raises ModelRejected if it has ids that the model's embedding has no row for.

    `tokenizers`: transformers' AutoTokenizer.
    """
    with loading(name):
        tokenizer = tokenizers.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    check_ids(max(tokenizer.get_vocab().values(), default=0), model.get_input_embeddings().num_embeddings, name)
    return tokenizer


def _check_report(report: Mapping[str, Collection[Any]], name: str) -> None:
    faults = {
        "lacks": report["missing_keys"],
        "holds in another shape": report["mismatched_keys"],
        "has no place for": [key for key in report["unexpected_keys"] if not is_computed(str(key))],
    }
    for words, keys in faults.items():
        if keys:
            first = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)[0]
            whose = "the model" if words == "has no place for" else "the checkpoint"
            raise ModelRejected(
                f"{name} cannot be used: {whose} {words} {len(keys):,} tensors, first {first[:100]}.",
                hint=_WHOLE,
                param="base_model",
            )
