"""A token that a model never learned is told by its row of the embedding or of the head."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from craft.infra.models.chats.untrained import Untrained, untrained

ROWS, WIDTH, TOKEN = 1000, 16, 990


def model(
    folder: Path, *, dtype: torch.dtype = torch.bfloat16, name: str = "model.embed_tokens.weight", **rows: object
) -> Path:
    """A model whose table has random rows, but for those given: `own` of the token, `next` of the one after it."""
    torch.manual_seed(0)
    table = torch.randn(ROWS, WIDTH) * 0.02
    for row, values in rows.items():
        table[{"own": TOKEN, "next": TOKEN + 1}[row]] = torch.as_tensor(values, dtype=torch.float32)
    head = {} if name.startswith("lm_head") else {"lm_head.weight": torch.randn(ROWS, WIDTH).to(dtype)}
    first = {"model.embed_tokens.weight": torch.randn(ROWS, WIDTH).to(dtype), **head, name: table.to(dtype)}
    save_file(first, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_learned_token_has_a_row_of_its_own_and_of_the_usual_length(tmp_path: Path, dtype: torch.dtype) -> None:
    assert untrained(model(tmp_path, dtype=dtype), TOKEN) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 1e-6])
@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_a_row_of_nothing_was_never_trained(tmp_path: Path, dtype: torch.dtype, value: float, name: str) -> None:
    assert untrained(model(tmp_path, dtype=dtype, name=name, own=[value] * WIDTH), TOKEN) is Untrained.TINY


def test_a_row_that_comes_twice_was_never_trained(tmp_path: Path) -> None:
    same = [0.01 * number for number in range(WIDTH)]
    assert untrained(model(tmp_path, own=same, next=same), TOKEN) is Untrained.REPEATED


def test_a_token_behind_the_last_row_is_not_there(tmp_path: Path) -> None:
    assert untrained(model(tmp_path), ROWS) is Untrained.ABSENT


def test_of_a_table_in_another_type_nothing_is_known(tmp_path: Path) -> None:
    save_file({"model.embed_tokens.weight": torch.zeros(ROWS, WIDTH, dtype=torch.int8)}, tmp_path / "model.safetensors")
    assert untrained(tmp_path, TOKEN) is None


def test_of_a_table_without_any_training_nothing_is_known(tmp_path: Path) -> None:
    save_file({"model.embed_tokens.weight": torch.zeros(ROWS, WIDTH)}, tmp_path / "model.safetensors")
    assert untrained(tmp_path, TOKEN) is None


def test_the_table_is_found_in_whichever_file_it_lies(tmp_path: Path) -> None:
    save_file({"model.layers.0.x.weight": torch.ones(4, 4)}, tmp_path / "model-00001-of-00002.safetensors")
    table = torch.randn(ROWS, 4)
    table[TOKEN] = 0.0
    save_file({"model.embed_tokens.weight": table}, tmp_path / "model-00002-of-00002.safetensors")
    assert untrained(tmp_path, TOKEN) is Untrained.TINY
