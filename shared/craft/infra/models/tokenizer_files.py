"""A model folder's tokenizer files, copied as they are, so that they load wherever the base model's own do.

Saving a loaded tokenizer would write the form of the installed library: transformers 5 names classes and settings that
transformers 4 does not know.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from craft.errors import ModelRejected

CHAT_TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    CHAT_TEMPLATE_FILE,
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
CHAT_TEMPLATES_FOLDER = "additional_chat_templates"
_CONFIG = "tokenizer_config.json"
_OF_TRANSFORMERS_5 = "TokenizersBackend"
_OF_ALL_VERSIONS = "PreTrainedTokenizerFast"
_PLACES_OF_SAVING = ("is_local", "local_files_only", "backend")
"""Members that transformers 5 writes about the machine that saved the tokenizer."""


def copy_tokenizer(model: Path, target: Path, *, template: str | None = None) -> None:
    """Copy the tokenizer's files and chat templates from a model folder into `target`, which exists.

    `template` takes the place of the default chat template. Only what transformers 5 alone can read is put in the form
    that both versions read. Raises ModelRejected if there is no tokenizer file.
    """
    found = [name for name in TOKENIZER_FILES if (model / name).is_file()]
    if not found:
        raise ModelRejected(
            "The base model's folder has no tokenizer file.",
            hint="Put its tokenizer.json (or tokenizer.model) into the folder.",
            param="base_model",
        )
    for name in found:
        shutil.copyfile(model / name, target / name)
    if (model / CHAT_TEMPLATES_FOLDER).is_dir():
        (target / CHAT_TEMPLATES_FOLDER).mkdir()
        for named in sorted((model / CHAT_TEMPLATES_FOLDER).glob("*.jinja")):
            shutil.copyfile(named, target / CHAT_TEMPLATES_FOLDER / named.name)
    if template is not None:
        # transformers takes this file before a template of tokenizer_config.json.
        (target / CHAT_TEMPLATE_FILE).write_text(template, encoding="utf-8")
    if _CONFIG in found:
        make_readable_everywhere(target / _CONFIG)


def make_readable_everywhere(config: Path) -> None:
    """Rewrite a `tokenizer_config.json` that transformers 5 saved; any other file stays byte for byte."""
    content: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
    amended = {name: value for name, value in content.items() if name not in _PLACES_OF_SAVING}
    if content.get("tokenizer_class") == _OF_TRANSFORMERS_5:
        amended["tokenizer_class"] = _OF_ALL_VERSIONS
        # By default version 4 gives this class `token_type_ids` too, which decoders refuse.
        amended.setdefault("model_input_names", ["input_ids", "attention_mask"])
    # Version 4 has a mapping under this name, and lists under the older one, which both read.
    if isinstance(content.get("extra_special_tokens"), list):
        extra = amended.pop("extra_special_tokens")
        amended["additional_special_tokens"] = [*content.get("additional_special_tokens", []), *extra]
    if amended != content:
        config.write_text(json.dumps(amended, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
