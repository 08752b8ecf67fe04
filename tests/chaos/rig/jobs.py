"""The work: small real jobs, and a client that keeps some of them under way and never gives up on one."""

import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from tests.tiny_model import Fact

from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft_client import Client

_TRAINING = {"lora_r": 8, "lora_alpha": 16, "epochs": 6, "batch_size": 4, "learning_rate": 5e-3}
_LOOK_SECONDS = 0.3
_MAX_WRONG = 1000
_REQUEST_ID = re.compile(r"req_\w+")
_PAIRS = ((Strategy.COR_RAIT, Strategy.VAN_TUNING), (Strategy.COR_RAIT, Strategy.CRAFT_NO_FLOW))
"""Every second job shares the seed, and so most stages, of the one before it: the two meet at the same keys."""


def specification(number: int, dataset: str) -> dict[str, Any]:
    """The job of that number: a seed for every two, so that each pair's stages have keys of their own."""
    pair, which = divmod(number, 2)
    return {
        "name": f"chaos {number}",
        "base_model": {"id": "tiny"},
        "dataset": {"id": dataset},
        "strategies": [_PAIRS[pair % len(_PAIRS)][which]],
        "split": {"held_out_fraction": 0.4},
        "probe": {"samples": 4, "temperature": 0.7, "max_new_tokens": 6},
        "selection": {"n_van": 6, "n_idk": 6},
        "training": _TRAINING,
        "evaluation_settings": {"max_new_tokens": 6, "resamples": 100},
        "seed": pair,
    }


def store_facts(gateway: str, facts: Sequence[Fact], folder: Path) -> str:
    """Upload the facts; returns the dataset's id."""
    path = folder / "facts.jsonl"
    path.write_text("".join(json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in facts))
    with Client(gateway) as client:
        return client.datasets.upload(path, task=Task.OPEN_ENDED).id


class Submitter:
    """Submits a new job whenever fewer than `under_way` are open, each under one Idempotency-Key until it is accepted.

    `wrong` collects answers that no fault excuses: a 503 must say when to come back, and nothing else may go wrong.
    """

    def __init__(self, gateway: str, dataset: str, *, under_way: int) -> None:
        self._http = httpx.Client(base_url=gateway, timeout=httpx.Timeout(20.0, connect=2.0))
        self._dataset = dataset
        self._under_way = under_way
        self._enough = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="submitter", daemon=True)
        self.accepted: list[str] = []
        self.unfinished: set[str] = set()
        self.wrong: Counter[str] = Counter()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def enough(self) -> None:
        """Submit no more, but go on looking after what is open."""
        self._enough.set()

    def close(self) -> None:
        """End."""
        self._enough.set()
        self._over.set()
        self._thread.join()
        self._http.close()

    def _run(self) -> None:
        numbers = itertools.count()
        while not self._over.wait(_LOOK_SECONDS):
            for job_id in sorted(self.unfinished):
                view = self._asked("GET", f"/craft/jobs/{job_id}", 200)
                if view is not None and view["status"] in {"succeeded", "failed", "cancelled"}:
                    self.unfinished.discard(job_id)
            if len(self.unfinished) < self._under_way and not self._enough.is_set():
                self._submit(next(numbers))

    def _submit(self, number: int) -> None:
        key = {"Idempotency-Key": f"chaos-{number}"}
        body = specification(number, self._dataset)
        while not self._over.is_set() and self.wrong.total() < _MAX_WRONG:
            view = self._asked("POST", "/craft/jobs", 202, json=body, headers=key)
            if view is not None:
                self.accepted.append(str(view["id"]))
                self.unfinished.add(str(view["id"]))
                return
            self._over.wait(_LOOK_SECONDS)

    def _asked(self, method: str, path: str, status: int, **words: Any) -> Mapping[str, Any] | None:
        """The answer's JSON, or None while the gateway is down or says that it cannot just now."""
        try:
            answer = self._http.request(method, path, **words)
        except httpx.TransportError:
            return None
        if answer.status_code == status:
            view: Mapping[str, Any] = answer.json()
            return view
        if answer.status_code != 503 or "Retry-After" not in answer.headers:
            words_of_it = _REQUEST_ID.sub("…", answer.text[:300])
            self.wrong[f"{method} {path.partition('cjob_')[0]}: {answer.status_code} {words_of_it}"] += 1
        return None
