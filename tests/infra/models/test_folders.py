"""Only safetensors of a supported architecture in the models folder are accepted."""

import json
import pickle
from pathlib import Path

import pytest
from tests.model_files import LLAMA, safetensors, tensors_of, write_checkpoint

from craft.errors import ModelNotFound, ModelRejected
from craft.infra.models.folders import ModelFolders, served_path

CONFIG = dict(LLAMA)


def header(entries: object = None, *, data: bytes = b"\0" * 8, length: int | None = None) -> bytes:
    """A file with any header, true or not."""
    tensor = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps(tensor if entries is None else entries).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def model(root: Path, name: str = "owner/tiny", *, weights: bytes | None = None) -> Path:
    folder = write_checkpoint(root / name)
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_good_folder_is_found(tmp_path: Path) -> None:
    folder = model(tmp_path)
    found = ModelFolders(tmp_path).find("owner/tiny")
    assert (found.path, found.architecture.name, found.context_length) == (folder, "LlamaForCausalLM", 512)
    assert (found.ref.id, found.ref.revision) == ("owner/tiny", "main")
    assert ModelFolders(tmp_path).locate(found.ref) == folder


def test_a_revision_is_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = model(tmp_path, "owner/tiny@v2")
    assert ModelFolders(tmp_path).find("owner/tiny", "v2").path == folder


@pytest.mark.parametrize(("revision", "shown"), [("main", "owner/tiny"), ("v2", "owner/tiny@v2")])
def test_a_server_loads_a_model_by_its_path_below_the_models_folder(tmp_path: Path, revision: str, shown: str) -> None:
    folder = model(tmp_path, shown)
    assert served_path(ModelFolders(tmp_path).find("owner/tiny", revision).ref) == shown
    assert tmp_path / shown == folder


def test_the_digest_changes_with_the_weights_and_the_model_is_then_another(tmp_path: Path) -> None:
    folder = model(tmp_path)
    folders = ModelFolders(tmp_path)
    before = folders.find("owner/tiny").ref
    (folder / "model.safetensors").write_bytes(safetensors(tensors_of(CONFIG), fill=b"\1"))
    assert folders.find("owner/tiny").ref.digest != before.digest
    with pytest.raises(ModelNotFound):
        folders.locate(before)


def test_weights_in_a_folder_that_cannot_be_written_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model(tmp_path)
    (tmp_path / ".digests").write_text("a file where the folder would be")
    folders = ModelFolders(tmp_path)
    assert not folders.is_known("owner/tiny")
    before = folders.find("owner/tiny").ref
    assert folders.is_known("owner/tiny")
    monkeypatch.setattr("craft.infra.models.folders._digest", lambda path, _: pytest.fail(f"{path} was read again"))
    assert folders.find("owner/tiny").ref == before


def test_a_missing_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        ModelFolders(tmp_path).find("owner/none")
    assert "craft models fetch" in (caught.value.hint or "")


TRAVERSALS = [
    "..", "../x", "../outside/x", "a/../../outside/x", "a/../../x", "/etc", "//etc", ".", "./x", "a/b/c",
    "a\\..\\b", "a/..", "", " ", "a b", "a\0b",
    "%2e%2e", "~", "$HOME", "a/.", "-x", ".hidden", "a//b", "a/", "é", "a\n", "x" * 300, "C:\\x", "file:///etc",
    "https://x/y", "a;b", "a|b", "`a`", "*", "?", "a@b",
]  # fmt: skip


@pytest.mark.parametrize("name", TRAVERSALS)
def test_a_name_never_leaves_the_models_folder(tmp_path: Path, name: str) -> None:
    model(tmp_path, "outside/x")
    (tmp_path / "root").mkdir()
    with pytest.raises(ModelNotFound):
        ModelFolders(tmp_path / "root").find(name)
    with pytest.raises(ModelNotFound):
        ModelFolders(tmp_path / "root").find("a", name)


def test_a_link_out_of_the_models_folder_is_not_followed(tmp_path: Path) -> None:
    outside = model(tmp_path, "outside")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "tiny").symlink_to(outside)
    with pytest.raises(ModelNotFound):
        ModelFolders(tmp_path / "root").find("tiny")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.canary,))


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl", "ckpt"])
def test_pickled_weights_alone_are_refused_unread(tmp_path: Path, suffix: str) -> None:
    folder = model(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / f"pytorch_model.{suffix}").write_bytes(pickle.dumps(Trap(tmp_path / "canary")))
    with pytest.raises(ModelRejected, match="pickled weights only"):
        ModelFolders(tmp_path).find("owner/tiny")
    assert not (tmp_path / "canary").exists()


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (model(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(ModelRejected, match="no weights"):
        ModelFolders(tmp_path).find("owner/tiny")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**CONFIG, "auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"architectures": ["BertModel"]}, "causal"),
        ({"architectures": []}, "causal"),
        ({}, "causal"),
        ([], "object"),
    ],
)
def test_a_config_that_is_not_a_plain_causal_model_is_refused(tmp_path: Path, config: object, words: str) -> None:
    folder = model(tmp_path)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelRejected, match=words):
        ModelFolders(tmp_path).find("owner/tiny")


@pytest.mark.parametrize("text", [None, b"{", b"\xff\xfe"])
def test_an_unreadable_config_is_refused(tmp_path: Path, text: bytes | None) -> None:
    folder = model(tmp_path)
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_bytes(text)
    with pytest.raises(ModelRejected, match=r"config\.json"):
        ModelFolders(tmp_path).find("owner/tiny")


def offsets(*ends: object) -> dict[str, object]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": list(ends)}}


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"\0" * 7,
        b"\0" * 8,
        header(length=2**63),
        header(length=101 * 2**20),
        header(length=10_000),
        header(length=3),
        header(offsets(0, 9)),
        header(offsets(0, -1)),
        header(offsets(0, "8")),
        header(offsets(0)),
        header(offsets(0, 2**70)),
        header([1, 2]),
        header({"w": 3}),
        header({"w": {}}),
        header(3),
        pickle.dumps({"w": 1}),
    ],
)
def test_a_lying_safetensors_header_is_refused(tmp_path: Path, weights: bytes) -> None:
    model(tmp_path, weights=weights)
    with pytest.raises(ModelRejected, match="not a valid safetensors"):
        ModelFolders(tmp_path).find("owner/tiny")


def test_metadata_in_the_header_is_no_tensor(tmp_path: Path) -> None:
    text = safetensors(tensors_of(CONFIG))
    size = int.from_bytes(text[:8], "little")
    entries = {"__metadata__": {"format": "pt"}, **json.loads(text[8 : 8 + size])}
    model(tmp_path, weights=header(entries, data=text[8 + size :]))
    assert ModelFolders(tmp_path).find("owner/tiny").context_length == 512
