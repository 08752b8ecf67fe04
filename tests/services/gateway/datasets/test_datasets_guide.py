"""The guide to datasets: its commands run in order, as a reader would run them, and its bodies are accepted."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.services.datasets.sources.source_servers import ROWS, body, hub, source
from tests.services.gateway.rigs.dataset_rig import dataset_rig
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import model_folder
from tests.tiny_model import CHAT_TEMPLATE

from craft.infra.settings.settings import Settings
from craft_gateway.datasets.routes import SourceUpload

GUIDE = (Path(__file__).parents[4] / "shared/docs/datasets.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
BODIES = re.findall(r"^```json\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def test_every_command_of_the_guide_works(tmp_path: Path) -> None:
    assert len(COMMANDS) + len(BODIES) == GUIDE.count("\n```") // 2 >= 11
    (tmp_path / "state").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    answers = {"/questions.jsonl": body(ROWS), **hub(ROWS[: ROWS.index(b"\n") + 1])}
    with source(answers) as server, dataset_rig(tmp_path / "state") as both, served(both.rig.app) as url:
        both.hub.url = server.url
        model = model_folder(both.rig.models, "HuggingFaceTB/SmolLM2-135M-Instruct")
        (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
        script = "\n".join(COMMANDS).replace("https://data.example.com", server.url)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=work,
            env=os.environ | {"CRAFT_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "0123456789abcdef" in done.stdout
    assert "'p95'" in done.stdout


@pytest.mark.parametrize("text", BODIES)
def test_every_body_of_the_guide_is_accepted(text: str) -> None:
    assert SourceUpload.model_validate_json(text).source.kind == "s3"


def test_the_limits_of_the_guide_are_the_defaults() -> None:
    own = Settings().datasets
    assert f"{own.max_upload_bytes // 2**20} MiB and a million rows" in GUIDE
    assert own.max_rows == 1_000_000
    assert f"silent for {own.fetch_idle_seconds:g} s or not done after {own.fetch_seconds:g} s" in GUIDE
