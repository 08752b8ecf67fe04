"""Settings that cannot succeed are refused before anything runs, in words."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.services.gateway.rigs.public_rig import shaped_model

from craft.contracts.spec.jobs import JobSpec
from craft.errors import CraftError, DatasetInvalid, RequestInvalid
from craft.infra.models.shape import ModelShape, read_shape
from craft_gateway.jobs.checks import check_quantization, checked_shots
from craft_gateway.jobs.feasibility import check_counts, check_rank, check_split, check_tied_head

LAYERS = {"model.layers.0.self_attn.q_proj.weight": (32, 16), "model.layers.0.mlp.up_proj.weight": (64, 32)}
HEAD = {"lm_head.weight": (100, 32)}


def spec(**changes: Any) -> JobSpec:
    return JobSpec.model_validate({"base_model": {"id": "m"}, "dataset": {"rows": []}, **changes})


def shape(folder: Path, layers: dict[str, tuple[int, int]], **config: Any) -> ModelShape:
    return read_shape(shaped_model(folder, "m", layers, **config))


@pytest.mark.parametrize("name", ["lm_head", "model.embed_tokens"])
@pytest.mark.parametrize("path", ["training", "rehearsal"])
def test_an_adapter_on_a_tied_head_is_refused(tmp_path: Path, name: str, path: str) -> None:
    settings = {"target_modules": ["q_proj", name]}
    asked = spec(**({"training": settings} if path == "training" else {"rehearsal": {"training": settings}}))
    tied = [shape(tmp_path / "absent", LAYERS), shape(tmp_path / "said", LAYERS | HEAD, tie_word_embeddings=True)]
    for one in tied:
        with pytest.raises(RequestInvalid, match="are one matrix") as caught:
            check_tied_head(asked, one)
        assert (caught.value.param or "").endswith("training.target_modules")
    check_tied_head(asked, shape(tmp_path / "own", LAYERS | HEAD, tie_word_embeddings=False))
    check_tied_head(spec(), tied[0])


def test_a_rank_that_no_matrix_has_is_refused_where_it_was_asked_for(tmp_path: Path) -> None:
    model = shape(tmp_path, LAYERS)
    with pytest.raises(RequestInvalid, match="Rank 33 is above 32") as caught:
        check_rank(spec(training={"lora_r": 33}), model)
    assert caught.value.param == "training.lora_r"
    with pytest.raises(RequestInvalid, match="Rank 17 is above 16"):
        check_rank(spec(training={"lora_r": 17, "target_modules": ["self_attn.q_proj"]}), model)
    for fine in ({}, {"lora_r": 32}, {"lora_r": 16, "target_modules": ["q_proj"]}):
        check_rank(spec(training=fine, rehearsal={"training": fine}), model)
    rehearsed = {"rehearsal": {"training": {"lora_r": 64}}}
    check_rank(spec(strategies=["cor-rait"], **rehearsed), model)
    with pytest.raises(RequestInvalid, match="Rank 64"):
        check_rank(spec(**rehearsed), model)


@pytest.mark.parametrize(("fraction", "side"), [(1e-9, "held out"), (0.9999999, "left for training")])
def test_a_split_with_an_empty_side_is_refused(fraction: float, side: str) -> None:
    with pytest.raises(DatasetInvalid, match=f"none would be {side}") as caught:
        check_split(spec(split={"held_out_fraction": fraction}), 200)
    assert caught.value.param == "split.held_out_fraction"
    check_split(spec(split={"held_out_fraction": 0.01}), 200)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"training": {"min_steps": 1000}}, "training.min_steps"),
        ({"selection": {"n_van": 201, "shortage": "error"}}, "selection.n_van"),
        ({"selection": {"n_idk": 201, "shortage": "error"}}, "selection.n_idk"),
        ({"selection": {"n_van": 150, "n_idk": 150, "shortage": "error"}}, "selection.n_van"),
        ({"rehearsal": {"size": 201, "shortage": "error"}}, "rehearsal.size"),
    ],
)
def test_more_than_the_training_split_can_give_is_refused(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(CraftError) as caught:
        check_counts(spec(**changes), 200)
    assert caught.value.param == param
    assert caught.value.hint


def test_what_may_shrink_may_be_asked_for() -> None:
    check_counts(spec(selection={"n_van": 201}, rehearsal={"size": 201}), 200)
    check_counts(spec(selection={"n_van": 120, "n_idk": 30, "shortage": "error"}), 200)
    check_counts(spec(strategies=["cor-rait"], rehearsal={"size": 201, "shortage": "error"}), 200)


def test_shots_of_more_than_100_kilobytes_are_refused() -> None:
    shots = [{"question": f"{number}? " + "x" * 20_000, "answer": "y"} for number in range(6)]
    with pytest.raises(RequestInvalid, match="100,000 are the most") as caught:
        checked_shots(spec(probe={"shots": shots}))
    assert caught.value.param == "probe.shots"
    assert len(json.dumps(checked_shots(spec(probe={"shots": shots[:4]})))) > 80_000


def test_training_in_4_bits_needs_workers_that_can() -> None:
    asked = spec(training={"quantization": "nf4"})
    check_quantization(asked, nf4=True)
    with pytest.raises(RequestInvalid, match="have no bitsandbytes") as raised:
        check_quantization(asked, nf4=False)
    assert raised.value.param == "training.quantization"
    assert "CRAFT_TRAINING__NF4" in str(raised.value.hint)
    check_quantization(spec(), nf4=False)
