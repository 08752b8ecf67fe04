"""A whole installation with keys of its own, two teams, a tiny model and a dataset of each team."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.e2e.conftest import running
from tests.fetched_models import MODELS
from tests.tiny_model import made_up_facts, make_tiny_model

OPERATOR_KEY = "an-operator-key-of-the-attacks-0123456789"
ATTACKER, NEIGHBOUR = "alpha", "beta"
_OPERATOR = {"Authorization": f"Bearer {OPERATOR_KEY}"}
_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
_FACTS = 40
_TRAINING = {"lora_r": 8, "lora_alpha": 16, "epochs": 2, "batch_size": 8, "learning_rate": 5e-3}


@dataclass(frozen=True, slots=True)
class Team:
    """A team's access to the gateway."""

    url: str
    headers: dict[str, str]
    dataset: str

    def client(self, timeout_seconds: float = 60.0) -> httpx.Client:
        """A client with the team's key."""
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=timeout_seconds)

    def operator(self) -> httpx.Client:
        """A client with the operator's key."""
        return httpx.Client(base_url=self.url, headers=_OPERATOR, timeout=60)

    def job(self, seed: int, **changes: Any) -> dict[str, Any]:
        """The body of a small job, whose stages are computed anew for each seed."""
        return {
            "name": f"job {seed}",
            "base_model": {"id": "tiny"},
            "dataset": {"id": self.dataset},
            "strategies": ["cor-rait"],
            "split": {"held_out_fraction": 0.4},
            "probe": {"samples": 2, "temperature": 0.7, "max_new_tokens": 6},
            "selection": {"n_van": 4, "n_idk": 4},
            "training": _TRAINING,
            "evaluation_settings": {"max_new_tokens": 6, "resamples": 100},
            "seed": seed,
            **changes,
        }


@dataclass(frozen=True, slots=True)
class Installation:
    """The two teams of a running installation."""

    attacker: Team
    neighbour: Team


@contextmanager
def installed() -> Iterator[Installation]:
    """Run an installation; its sources may be on this machine."""
    with tempfile.TemporaryDirectory(prefix="craft-attacks-") as name:
        state = Path(name)
        facts = made_up_facts(_FACTS, seed=1)
        make_tiny_model(state / "models" / "tiny", facts, seed=1)
        shutil.copytree(MODELS / _EMBEDDER, state / "models" / _EMBEDDER)
        settings = {
            "CRAFT_GATEWAY__OPERATOR_KEY": OPERATOR_KEY,
            "CRAFT_OUTBOUND__ALLOWED_HOSTS": '["127.0.0.1"]',
            "OMP_NUM_THREADS": "1",
        }
        with running(state, **settings) as up:
            rows = [{"question": fact[0], "answers": [fact[1]]} for fact in facts]
            yield Installation(_team(up.url, ATTACKER, rows), _team(up.url, NEIGHBOUR, rows))


def _team(url: str, name: str, rows: list[dict[str, Any]]) -> Team:
    with httpx.Client(base_url=url, headers=_OPERATOR, timeout=60) as http:
        http.put(f"/craft/teams/{name}", json={}).raise_for_status()
        made = http.post("/craft/api-keys", headers={"Craft-Team": name}, json={"name": "attacks", "role": "editor"})
        headers = {"Authorization": f"Bearer {made.raise_for_status().json()['key']}"}
        # Rows of its own, so that no team takes over the other one's work.
        own = [*rows, {"question": f"Which team is this, {name}?", "answers": [name]}]
        stored = http.post("/craft/datasets", headers=headers, json={"task": "open_ended", "rows": own})
        return Team(url, headers, stored.raise_for_status().json()["id"])
