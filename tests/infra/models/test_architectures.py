"""Every architecture is in the table, refused with a reason, or allowed by the operator as an experiment."""

from pathlib import Path
from typing import Any

import pytest
from tests.model_files import LLAMA, safetensors, write_checkpoint

from craft.errors import ModelRejected
from craft.infra.models.architectures import REFUSED, TABLE, Architecture, EnginePath, TrainingPath, architecture_of
from craft.infra.models.checkpoint import check_checkpoint
from craft.infra.models.model_config import ModelConfig


def row(*, experimental: bool = False, **entries: object) -> Architecture:
    return architecture_of(ModelConfig("owner/tiny", {**LLAMA, **entries}), experimental=experimental)


def refused(*, experimental: bool = False, **entries: object) -> ModelRejected:
    with pytest.raises(ModelRejected) as caught:
        row(experimental=experimental, **entries)
    assert (caught.value.param, bool(caught.value.hint)) == ("base_model", True)
    return caught.value


def test_every_architecture_stands_once() -> None:
    names = [each.name for each in TABLE]
    assert len(set(names)) == len(names)
    assert len({each.model_type for each in TABLE}) == len(names)
    assert not set(names) & set(REFUSED)


@pytest.mark.parametrize("each", TABLE, ids=lambda each: each.name)
def test_a_listed_architecture_is_taken(each: Architecture) -> None:
    assert row(architectures=[each.name], model_type=each.model_type) is each


def test_an_unlisted_architecture_is_refused_with_those_that_there_are() -> None:
    error = refused(architectures=["NewForCausalLM"])
    assert "is a NewForCausalLM, which is not among the architectures" in error.message
    assert "Llama, Mistral, Qwen2, Qwen3" in (error.hint or "")
    assert "CRAFT_EXPERIMENTAL_MODELS" in (error.hint or "")


def test_an_operator_can_allow_an_unlisted_architecture() -> None:
    allowed = row(experimental=True, architectures=["NewForCausalLM"])
    assert (allowed.experimental, allowed.engine, allowed.training) == (True, EnginePath.PLAIN, TrainingPath.PADDED)


@pytest.mark.parametrize("name", sorted(REFUSED))
@pytest.mark.parametrize("experimental", [False, True])
def test_a_refused_architecture_has_a_reason_and_no_setting_allows_it(name: str, *, experimental: bool) -> None:
    assert REFUSED[name][0] in refused(experimental=experimental, architectures=[name]).message


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"architectures": ["BertModel"]}, "not a causal language model"),
        ({"architectures": []}, "not a causal language model"),
        ({"architectures": None}, "not a causal language model"),
        ({"architectures": ["LlavaForConditionalGeneration"], "text_config": {}}, "part of a larger one"),
        ({"text_config": {"hidden_size": 8}}, "part of a larger one"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "its own code"),
        ({"model_type": "gemma2"}, "do not belong together"),
    ],
)
def test_a_model_that_is_no_text_model_of_transformers_own_is_refused(entries: dict[str, Any], words: str) -> None:
    assert words in refused(**entries).message
    assert words in refused(experimental=True, **entries).message


def test_code_that_transformers_took_in_is_left_unread() -> None:
    assert row(architectures=["Phi3ForCausalLM"], auto_map={"AutoModelForCausalLM": "modeling.Phi3"}).code_taken_in


def test_an_experiment_with_a_layer_missing_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, architectures=["NewForCausalLM"], num_hidden_layers=3)
    layers = {f"h.{layer}.attn.weight": (8, 8) for layer in (0, 2)}
    (tmp_path / "model.safetensors").write_bytes(safetensors(layers))
    with pytest.raises(ModelRejected, match="belongs to layer 1 of 3"):
        check_checkpoint(tmp_path, "owner/tiny", experimental=True)
