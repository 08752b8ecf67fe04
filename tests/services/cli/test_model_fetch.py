"""A model from the hub appears whole or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from tests.model_files import write_checkpoint, write_shards

from craft.errors import ModelNotFound, ModelRejected, Unavailable
from craft.infra.models.folders import ModelFolders
from craft_cli.model_fetch import fetch_hub

Download = Callable[[Path], object]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Download], list[dict[str, Any]]]:
    """Lets the library's one call write what it is told, and keeps the call's arguments."""
    calls: list[dict[str, Any]] = []

    def answer_with(download: Download) -> list[dict[str, Any]]:
        def snapshot_download(model_id: str, *, local_dir: Path, **arguments: Any) -> str:
            calls.append({"id": model_id, "local_dir": local_dir, **arguments})
            download(local_dir)
            return str(local_dir)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return calls

    return answer_with


Hub = Callable[[Download], list[dict[str, Any]]]


def breaks_off(folder: Path) -> None:
    write_shards(folder)
    next(folder.glob("*.safetensors")).unlink()
    raise OSError("the connection was lost")


def test_a_whole_model_is_put_in_place_under_its_name(tmp_path: Path, hub: Hub) -> None:
    calls = hub(write_shards)
    assert fetch_hub("owner/new", revision="v2", models=tmp_path) == tmp_path / "owner/new@v2"
    assert ModelFolders(tmp_path).find("owner/new", "v2").architecture.name == "LlamaForCausalLM"
    assert [path.name for path in (tmp_path / "owner").iterdir()] == ["new@v2"]
    assert calls[0]["ignore_patterns"] == ["consolidated*"]


def test_a_download_that_broke_off_is_no_model_and_goes_on_later(tmp_path: Path, hub: Hub) -> None:
    calls = hub(breaks_off)
    with pytest.raises(Unavailable, match="connection was lost"):
        fetch_hub("owner/new", revision="main", models=tmp_path)
    with pytest.raises(ModelNotFound) as caught:
        ModelFolders(tmp_path).find("owner/new")
    assert "partial" not in (caught.value.hint or "")
    hub(write_shards)
    fetch_hub("owner/new", revision="main", models=tmp_path)
    assert calls[0]["local_dir"] == calls[1]["local_dir"]
    assert ModelFolders(tmp_path).find("owner/new").weights.files


def test_a_model_that_is_fetched_again_stays_until_the_new_one_is_whole(tmp_path: Path, hub: Hub) -> None:
    write_checkpoint(tmp_path / "owner/new", note="old")
    before = ModelFolders(tmp_path).find("owner/new").ref
    hub(breaks_off)
    with pytest.raises(Unavailable):
        fetch_hub("owner/new", revision="main", models=tmp_path)
    assert ModelFolders(tmp_path).find("owner/new").ref == before
    hub(lambda folder: write_shards(folder, note="new"))
    fetch_hub("owner/new", revision="main", models=tmp_path)
    assert ModelFolders(tmp_path).find("owner/new").ref != before
    assert [path.name for path in (tmp_path / "owner").iterdir()] == ["new"]


def test_weights_that_are_not_whole_on_the_hub_are_not_put_in_place(tmp_path: Path, hub: Hub) -> None:
    def lacking(folder: Path) -> None:
        write_shards(folder)
        next(folder.glob("*.safetensors")).unlink()

    hub(lacking)
    with pytest.raises(ModelRejected, match="is incomplete"):
        fetch_hub("owner/new", revision="main", models=tmp_path)
    assert list((tmp_path / "owner").iterdir()) == []
