"""Embedders embed each text once, load only safetensors, and read only the models folder."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from craft.errors import DeviceFailed, ModelNotFound, ModelRejected
from craft_scoring.embedding.embedder import embed_once
from craft_scoring.embedding.fake import HashingEmbedder

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def _models_dir() -> Path:
    return Path(os.environ.get("CRAFT_MODELS_DIR", Path(__file__).parents[4] / ".craft" / "models"))


def test_identical_texts_are_embedded_once() -> None:
    embedder = HashingEmbedder()
    rows = embed_once(embedder, ["Paris", "Lyon", "Paris", "Paris"])
    assert embedder.embedded == ["Paris", "Lyon"]
    assert np.array_equal(rows[0], rows[2])
    assert np.array_equal(rows, HashingEmbedder().embed(["Paris", "Lyon", "Paris", "Paris"]))


def test_fake_gives_the_same_vector_in_every_process() -> None:
    assert (
        HashingEmbedder(3).embed(["Paris"])[0].round(3).tolist()
        == HashingEmbedder(3).embed(["paris"])[0].round(3).tolist()
    )
    assert HashingEmbedder(3).embed([""]).any()


@pytest.mark.parametrize("name", ["../secrets", "a/b/c", "", "absent/model", "..", "/etc", "a\x00b"])
def test_names_outside_the_models_folder_are_not_found(tmp_path: Path, name: str) -> None:
    from craft_scoring.embedding.sentence_embedder import SentenceEmbedders

    (tmp_path / "secrets").mkdir()
    (tmp_path / "models").mkdir()
    with pytest.raises(ModelNotFound, match="no sentence embedder"):
        SentenceEmbedders(tmp_path / "models", batch=8)(name)


@pytest.mark.parametrize(
    ("modules", "weights", "reason"),
    [
        (None, "model.safetensors", "no readable modules.json"),
        ({"not": "a list"}, "model.safetensors", "no readable modules.json"),
        ([{"type": "os.system"}], "model.safetensors", "not the library's own"),
        ([{"type": "sentence_transformers.models.Transformer"}], "pytorch_model.bin", "no safetensors"),
    ],
)
def test_folders_that_could_run_code_are_refused(tmp_path: Path, modules: object, weights: str, reason: str) -> None:
    from craft_scoring.embedding.sentence_embedder import SentenceEmbedders

    folder = tmp_path / "embedder"
    folder.mkdir()
    (folder / weights).write_bytes(b"")
    if modules is not None:
        (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelRejected, match=reason):
        SentenceEmbedders(tmp_path, batch=8)("embedder")


@pytest.mark.model
def test_the_embedder_stays_on_the_cpu_where_the_library_would_take_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from craft_scoring.embedding.sentence_embedder import SentenceEmbedders

    # The library asks this where it is told no device.
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert SentenceEmbedders(_models_dir(), batch=2)(MINILM).embed(["Paris"]).shape == (1, 384)


def test_a_gpu_that_cannot_be_used_is_refused_at_once(tmp_path: Path) -> None:
    from craft_scoring.embedding.sentence_embedder import SentenceEmbedders

    with pytest.raises(DeviceFailed) as raised:
        SentenceEmbedders(tmp_path, batch=2, device="cuda")
    assert "CRAFT_SCORING__DEVICE=cpu" in (raised.value.hint or "")


@pytest.mark.model
def test_minilm_knows_which_answers_mean_the_same() -> None:
    from craft_scoring.embedding.sentence_embedder import SentenceEmbedders

    source = SentenceEmbedders(_models_dir(), batch=2)
    embedder = source(MINILM)
    assert source(MINILM) is embedder
    assert MINILM in embedder.version
    texts = ["Paris", "It is Paris.", "The mitochondrion", ""]
    rows = embedder.embed(texts)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert rows.shape == (4, 384)
    assert units[0] @ units[1] > 0.7 > 0.4 > units[0] @ units[2]
    assert np.allclose(embed_once(embedder, ["Paris", "", "Paris"])[2], rows[0], atol=1e-5)
