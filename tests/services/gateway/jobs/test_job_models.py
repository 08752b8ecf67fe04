"""What is wrong with a job's model, or particular about it, is told when the job is submitted."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.infra.models.inspection.folders import model as write_tokenizer
from tests.model_files import safetensors, write_shards
from tests.services.gateway.rigs.dataset_rig import row_checking_rig
from tests.services.gateway.rigs.public_rig import Rig, body, model_folder, open_rig

from craft.errors import Severity
from craft.infra.models import layouts
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.inference import VllmSettings
from craft_gateway.jobs.model_findings import model_findings

NAME = "some/model"
MIXTURE: dict[str, Any] = {
    "architectures": ["MixtralForCausalLM"],
    "num_local_experts": 2,
    "layout": layouts.mixtral,
    "tie_word_embeddings": False,
}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as opened:
        yield opened


def asked(**changes: Any) -> dict[str, Any]:
    return body(base_model={"id": NAME}, **changes)


def refusal(rig: Rig, **changes: Any) -> dict[str, Any]:
    """The problem, which is the same in both calls and has a hint."""
    problems = [rig.post(path, json=asked(**changes)) for path in ("/craft/jobs/validate", "/craft/jobs")]
    assert [problem.status_code for problem in problems] == [422, 422], problems[0].text
    problem: dict[str, Any] = problems[1].json()
    assert problem["detail"] == problems[0].json()["detail"]
    assert problem["hint"]
    return problem


def without_a_layer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))


def without_a_shard(folder: Path) -> None:
    write_shards(folder)
    next(iter(sorted(folder.glob("*.safetensors")))).unlink()


def quantised(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))


def with_an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def for_images(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": dict(config)}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without_a_layer, "is incomplete"),
        (without_a_shard, "is incomplete"),
        (quantised, "is quantised (gptq)"),
        (with_an_adapter, "holds an adapter"),
        (for_images, "has a vision part"),
    ],
)
def test_a_folder_that_is_not_one_whole_plain_model_is_refused(
    rig: Rig, damage: Callable[[Path], None], words: str
) -> None:
    damage(model_folder(rig.models, NAME))
    problem = refusal(rig)
    assert (problem["code"], problem["param"], problem["fault"]) == ("model_unsupported", "base_model", "user")
    assert words in problem["detail"]


def test_a_mixtures_job_carries_the_warning_that_its_experts_are_not_adapted(rig: Rig) -> None:
    model_folder(rig.models, NAME, **MIXTURE)
    answer = rig.post("/craft/jobs", json=asked())
    assert answer.status_code == 202, answer.text
    assert "experts_not_adapted" in [finding["code"] for finding in answer.json()["findings"]]


@pytest.mark.parametrize("name", ["w1", "gate", "experts.0.w2"])
def test_an_expert_cannot_be_named_as_a_layer_to_adapt(rig: Rig, name: str) -> None:
    model_folder(rig.models, NAME, **MIXTURE)
    problem = refusal(rig, training={"target_modules": ["q_proj", name]})
    assert problem["detail"] == f"The model has no layer called {name}."
    assert "It has k_proj, o_proj, q_proj, v_proj" in problem["hint"]


def test_a_job_on_an_experiment_that_the_operator_allowed_carries_the_warning(rig: Rig) -> None:
    folder = model_folder(rig.models, NAME, architectures=["NewForCausalLM"])
    assert "is not among the architectures that are tested here" in refusal(rig)["detail"]
    allowed = ModelFolders(rig.models, experimental=True).find(NAME)
    [finding] = model_findings(allowed)
    assert (finding.code, finding.severity) == ("experimental_model", Severity.WARNING)
    assert "NewForCausalLM" in finding.message
    assert allowed.path == folder


def test_a_plain_models_job_carries_no_finding_about_it(rig: Rig) -> None:
    model_folder(rig.models, NAME)
    assert rig.post("/craft/jobs", json=asked()).json()["findings"] == []


@pytest.mark.parametrize("embedding", [258, 259])
def test_a_tokenizer_with_an_id_that_the_embedding_lacks_is_refused(tmp_path: Path, embedding: int) -> None:
    """The tokenizer's highest id is 258."""
    made = write_tokenizer(tmp_path / "tokenizer")
    short = {"max_new_tokens": 10, "shots": [{"question": "Who?", "answers": ["She"]}]}
    with row_checking_rig(tmp_path / "rig") as rig:
        folder = model_folder(rig.models, NAME, vocab_size=embedding)
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(made / name, folder / name)
        if embedding > 258:
            assert rig.post("/craft/jobs", json=asked(probe=short)).status_code == 202
        else:
            assert "ids up to 258, but the model's embedding has 258 rows" in refusal(rig, probe=short)["detail"]


@pytest.mark.parametrize("vllm", [None, VllmSettings()])
def test_vllm_is_not_given_a_folder_from_which_it_would_load_more(tmp_path: Path, vllm: VllmSettings | None) -> None:
    with open_rig(tmp_path, vllm=vllm) as rig:
        folder = model_folder(rig.models, NAME)
        (folder / "consolidated.safetensors").write_bytes(safetensors({"layers.0.wq.weight": (8, 8)}))
        if vllm is None:
            assert rig.post("/craft/jobs", json=asked()).status_code == 202
            return
        assert "vLLM would load both" in refusal(rig)["detail"]
        (folder / "model.safetensors").unlink()
        write_shards(folder)
        assert rig.post("/craft/jobs", json=asked()).status_code == 202


def test_a_model_that_vllm_serves_with_other_numbers_is_refused_there(tmp_path: Path) -> None:
    with open_rig(tmp_path, vllm=VllmSettings()) as rig:
        model_folder(rig.models, NAME, architectures=["Cohere2ForCausalLM"], layout=layouts.cohere)
        assert "vLLM gives other numbers than training" in refusal(rig)["detail"]
