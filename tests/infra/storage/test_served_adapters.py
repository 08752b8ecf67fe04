"""Served adapters are whole or absent, have safe names, and are laid out for vLLM's resolver."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from craft.errors import Internal, ModelRejected
from craft.infra.storage.served_adapters import STAGE_ADAPTER, ServedAdapters

NAME = "adpt_0123456789abcdefghjkmnpqrs"
DYING = """
import os, shutil, signal, sys
from pathlib import Path
from craft.infra.storage.served_adapters import ServedAdapters
copyfile = shutil.copyfile
def dies(source, target):
    target.write_bytes(source.read_bytes()[:3])
    os.kill(os.getpid(), signal.SIGKILL)
shutil.copyfile = dies
ServedAdapters(Path(sys.argv[1])).publish(sys.argv[2], Path(sys.argv[3]), base_model="team/a")
"""


@pytest.fixture
def served(tmp_path: Path) -> ServedAdapters:
    served = ServedAdapters(tmp_path / "served")
    served.ensure_root()
    return served


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 8, "base_model_name_or_path": "/trained/here"}')
    (folder / "adapter_model.safetensors").write_bytes(b"the weights")
    (folder / "README.md").write_text("not served")
    return folder


def test_a_published_adapter_names_the_model_that_the_server_runs(
    served: ServedAdapters, adapter: Path, tmp_path: Path
) -> None:
    served.publish(NAME, adapter, base_model="team/a@v2")
    folder = tmp_path / "served" / NAME
    assert json.loads((folder / "adapter_config.json").read_text()) == {"r": 8, "base_model_name_or_path": "team/a@v2"}
    assert (folder / "adapter_model.safetensors").read_bytes() == b"the weights"
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "/trained/here"


def test_the_form_of_chats_is_served_with_the_adapter_and_made_again_if_it_was_lost(
    served: ServedAdapters, adapter: Path, tmp_path: Path
) -> None:
    (adapter / "chat_format.json").write_text('{"arguments": {"enable_thinking": false}}')
    copy = tmp_path / "served" / NAME / "chat_format.json"
    served.publish(NAME, adapter, base_model="team/a")
    copy.unlink()
    served.publish(NAME, adapter, base_model="team/a")
    assert copy.read_text() == '{"arguments": {"enable_thinking": false}}'


def test_publishing_again_keeps_a_copy_that_is_the_same(served: ServedAdapters, adapter: Path, tmp_path: Path) -> None:
    served.publish(NAME, adapter, base_model="team/a")
    first = (tmp_path / "served" / NAME).stat().st_ino
    served.publish(NAME, adapter, base_model="team/a")
    assert (tmp_path / "served" / NAME).stat().st_ino == first


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_served_copy_that_was_damaged_is_made_again(
    served: ServedAdapters, adapter: Path, tmp_path: Path, file: str, damage: str
) -> None:
    served.publish(NAME, adapter, base_model="team/a")
    copy = tmp_path / "served" / NAME / file
    good = copy.read_bytes()
    if damage == "missing":
        copy.unlink()
    else:
        copy.write_bytes(bytes([good[0] ^ 1]) + good[1:] if damage == "flipped" else good[:-1])
    served.publish(NAME, adapter, base_model="team/a")
    assert copy.read_bytes() == good


def test_many_may_publish_one_name_at_once(served: ServedAdapters, adapter: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: served.publish(NAME, adapter, base_model="team/a"), range(40)))
    assert [path.name for path in (tmp_path / "served").iterdir()] == [NAME]


def test_a_crash_leaves_no_half_folder_in_sight(served: ServedAdapters, adapter: Path, tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", DYING, str(tmp_path / "served"), NAME, str(adapter)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert served.names() == []
    assert not (tmp_path / "served" / NAME).exists()
    served.publish(NAME, adapter, base_model="team/a")
    assert served.names() == [NAME]


def test_a_copy_that_breaks_off_leaves_nothing(served: ServedAdapters, adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.safetensors").symlink_to("/proc/self/mem")  # reading it fails
    with pytest.raises(OSError, match=r".+"):
        served.publish(NAME, adapter, base_model="team/a")
    assert list((tmp_path / "served").iterdir()) == []


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_half_an_adapter_is_no_adapter(served: ServedAdapters, adapter: Path, tmp_path: Path, missing: str) -> None:
    (adapter / missing).unlink()
    with pytest.raises(ModelRejected, match="adapter is not a LoRA adapter") as caught:
        served.publish(NAME, adapter, base_model="team/a")
    assert caught.value.param == "adapter"
    assert list((tmp_path / "served").iterdir()) == []


@pytest.mark.parametrize("config", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_a_broken_config_is_no_adapter(served: ServedAdapters, adapter: Path, config: bytes) -> None:
    (adapter / "adapter_config.json").write_bytes(config)
    with pytest.raises(ModelRejected):
        served.publish(NAME, adapter, base_model="team/a")
    assert served.names() == []


def test_a_folder_that_is_not_there_is_no_adapter(served: ServedAdapters, tmp_path: Path) -> None:
    with pytest.raises(ModelRejected):
        served.publish(NAME, tmp_path / "gone", base_model="team/a")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "-x", "a\0b", "a\n", "\na", "A", "a b", "ä", "a" * 101]
)
def test_a_name_that_could_lead_elsewhere_is_refused(
    served: ServedAdapters, adapter: Path, tmp_path: Path, name: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Internal):
        served.publish(name, adapter, base_model="team/a")
    with pytest.raises(Internal):
        served.withdraw(name)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_longest_name_works(served: ServedAdapters, adapter: Path) -> None:
    served.publish("a" * 100, adapter, base_model="team/a")
    assert served.names() == ["a" * 100]
    served.withdraw("a" * 100)
    assert served.names() == []


def test_withdrawing_takes_it_out_and_twice_is_the_same(served: ServedAdapters, adapter: Path, tmp_path: Path) -> None:
    served.publish(NAME, adapter, base_model="team/a")
    served.publish("other", adapter, base_model="team/a")
    served.withdraw(NAME)
    served.withdraw(NAME)
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["other"]


def test_what_is_no_adapters_folder_is_not_listed(served: ServedAdapters, adapter: Path, tmp_path: Path) -> None:
    served.publish("b", adapter, base_model="team/a")
    served.publish("a", adapter, base_model="team/a")
    (tmp_path / "served" / ".b.half").mkdir()
    (tmp_path / "served" / "c\n").mkdir()
    (tmp_path / "served" / "file").write_text("")
    assert served.names() == ["a", "b"]


def test_the_root_is_made_at_need(tmp_path: Path, adapter: Path) -> None:
    served = ServedAdapters(tmp_path / "deep" / "served")
    served.publish(NAME, adapter, base_model="team/a")
    assert served.names() == [NAME]
    assert served.ensure_root() == tmp_path / "deep" / "served"


def test_only_what_killed_processes_left_long_ago_is_swept(
    served: ServedAdapters, adapter: Path, tmp_path: Path
) -> None:
    old, new = f"{STAGE_ADAPTER}old", f"{STAGE_ADAPTER}new"
    for name in (NAME, old, new):
        served.publish(name, adapter, base_model="team/a")
    half = tmp_path / "served" / ".half.0123"
    half.mkdir()
    for folder in (half, tmp_path / "served" / old, tmp_path / "served" / NAME):
        os.utime(folder, (1.0, 1.0))
    served.remove_leftovers(older_than_seconds=3600)
    assert served.names() == [NAME, new]
    assert not half.exists()
