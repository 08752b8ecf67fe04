"""The inference service's settings, and what of them a stage's key must know."""

import pytest
from pydantic import ValidationError

from craft.infra.device.deployment import engine_ref
from craft.infra.settings.inference import InferenceSettings, VllmSettings, result_options


def settings(**changes: object) -> InferenceSettings:
    return InferenceSettings.model_validate({"engine": "vllm", **changes})


@pytest.mark.parametrize(
    ("changes", "questions"),
    [
        ({"device": "cuda"}, 2048),
        ({"device": "cpu"}, 256),
        ({"engine": "transformers", "device": "cpu"}, 256),
        ({"device": "cuda", "questions_per_shard": 7}, 7),
    ],
)
def test_a_gpu_gets_long_shards(changes: dict[str, object], questions: int) -> None:
    assert engine_ref(settings(**changes), {}).questions_per_shard == questions


@pytest.mark.parametrize(
    "change",
    [
        {"head_dtype": "model"},
        {"seed_requests": False},
        {"url": "http://theirs:8000"},
        {"extra_arguments": ["--kv-cache-dtype", "fp8"]},
        {"extra_arguments": ["--quantization", "fp8"]},
    ],
)
def test_what_changes_numbers_is_among_the_options_of_results(change: dict[str, object]) -> None:
    assert result_options(settings(vllm=change)) != result_options(settings())


@pytest.mark.parametrize("change", [{"idle_seconds": 1}, {"max_num_seqs": 8}, {"api_key": "hunter2"}])
def test_what_changes_no_number_is_not(change: dict[str, object]) -> None:
    assert result_options(settings(vllm=change)) == result_options(settings())


def test_another_engine_has_no_such_options() -> None:
    assert result_options(settings(engine="transformers", vllm={"head_dtype": "model"})) == ()


def test_a_context_is_a_number_or_auto() -> None:
    assert VllmSettings(max_model_len="auto").max_model_len == "auto"
    assert VllmSettings.model_validate({"max_model_len": "2048"}).max_model_len == 2048
    for wrong in ("0", "all", 1.5):
        with pytest.raises(ValidationError):
            VllmSettings.model_validate({"max_model_len": wrong})
