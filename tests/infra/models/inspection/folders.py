"""Small folders of models and datasets, with a real tokenizer of bytes and rows as the service writes them."""

import json
from array import array
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from craft.contracts.spec.chats import ChatFormat
from craft.contracts.spec.jobs import JobSpec
from craft.contracts.stages.rows import QUESTION_HASHES_FILE, QUESTIONS_FILE, QuestionRow
from craft.core.rows.question_hashes import question_hash
from craft.infra.models.chats.templates import TriedTemplate, default_template
from craft.infra.storage.artifacts import write_rows

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IM_END = "<|im_end|>"
OWN_TOKEN = "~~stop~~"
"""A special token in a form that no other model has."""


def model(folder: Path, *, template: str | None = CHAT_TEMPLATE, merges: Sequence[tuple[str, str]] = ()) -> Path:
    """A model's folder without weights: each byte is a token, and so is each merge of two."""
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: at for at, text in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|im_start|>", IM_END, OWN_TOKEN)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": IM_END}))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def tried(folder: Path) -> TriedTemplate | None:
    """The template of a model's folder, for jobs without arguments."""
    return default_template(folder, ChatFormat())


def dataset(folder: Path, rows: Sequence[QuestionRow]) -> Path:
    folder.mkdir()
    write_rows(folder / QUESTIONS_FILE, rows)
    (folder / QUESTION_HASHES_FILE).write_bytes(array("Q", [question_hash(row.question) for row in rows]).tobytes())
    return folder


def row(number: int, question: str | None = None, answer: str = "yes") -> QuestionRow:
    return QuestionRow(id=f"q{number}", question=question or f"Is {number} even?", answers=[answer])


def spec(**changes: object) -> JobSpec:
    return JobSpec.model_validate(
        {
            "base_model": {"id": "tiny/model"},
            "dataset": {"id": "dset_01jgywz3x4v5q6r7s8t9vawbxc"},
            "strategies": ["cor-rait"],
            **changes,
        }
    )
