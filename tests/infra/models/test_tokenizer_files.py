"""Tests of tokenizer files as the deliverable carries them."""

import json
from pathlib import Path
from typing import Any

import pytest

from craft.errors import ModelRejected
from craft.infra.models.tokenizer_files import copy_tokenizer


def _folder(path: Path, config: dict[str, Any]) -> Path:
    path.mkdir()
    (path / "tokenizer.json").write_bytes(b'{"version": "1.0"}\n')
    (path / "tokenizer_config.json").write_text(json.dumps(config, indent=7))
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def _copied(model: Path, tmp_path: Path) -> Path:
    (tmp_path / "copy").mkdir()
    copy_tokenizer(model, tmp_path / "copy")
    return tmp_path / "copy"


def test_files_that_every_version_reads_stay_byte_for_byte(tmp_path: Path) -> None:
    model = _folder(
        tmp_path / "model", {"tokenizer_class": "LlamaTokenizerFast", "extra_special_tokens": {"image": "<i>"}}
    )
    (model / "chat_template.jinja").write_text("{{ messages }}")
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tool.jinja").write_text("{{ tools }}")
    copied = _copied(model, tmp_path)
    names = {str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file()}
    assert names == {
        "additional_chat_templates/tool.jinja",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert all((copied / name).read_bytes() == (model / name).read_bytes() for name in names)


def test_what_only_transformers_5_reads_is_put_in_the_older_form(tmp_path: Path) -> None:
    config = {
        "tokenizer_class": "TokenizersBackend",
        "backend": "tokenizers",
        "is_local": True,
        "local_files_only": True,
        "eos_token": "«e»",
        "extra_special_tokens": ["<|x|>"],
    }
    copied = _copied(_folder(tmp_path / "model", config), tmp_path)
    assert json.loads((copied / "tokenizer_config.json").read_text(encoding="utf-8")) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "«e»",
        "additional_special_tokens": ["<|x|>"],
        "model_input_names": ["input_ids", "attention_mask"],
    }


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelRejected, match="no tokenizer file"):
        _copied(tmp_path / "model", tmp_path)
