"""One team's long requests leave the threads to the other teams, and are bounded themselves."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import pytest
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import MODEL, Rig, body, open_rig, rows

from craft.contracts.public.accounts import DEFAULT_TEAM, Role, TeamSettings
from craft.contracts.services.datasets import DatasetStored, FetchRequest, Reading
from craft.errors import Unavailable
from craft_gateway.access.long_work import LARGE_BODY_BYTES
from craft_gateway.datasets.client_fake import FakeDatasetsClient

ATTACKS = 60
"""More than the threads that all requests share."""
SOURCE = {"source": {"kind": "https", "url": "https://example.com/slow"}}


class SlowClient(FakeDatasetsClient):
    """A datasets service that keeps the attacker waiting until it is let go, and answers the others."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.began = Counter[str]()

    def store_file(
        self, file: BinaryIO, reading: Reading, *, team: str = DEFAULT_TEAM, chat_lines: bool = False
    ) -> DatasetStored:
        self._wait(team)
        return super().store_file(file, reading, team=team, chat_lines=chat_lines)

    def store_source(self, request: FetchRequest, *, team: str = DEFAULT_TEAM) -> DatasetStored:
        self._wait(team)
        raise Unavailable(f"The source {request.source.kind} is slow.", param="source")

    def _wait(self, team: str) -> None:
        self.began[team] += 1
        if team == "alpha":
            self.go.wait(20)


@dataclass
class Two:
    """A served gateway, the attacker's answers, and a client of the other team."""

    url: str
    slow: SlowClient
    beta: httpx.Client
    alpha_key: str
    pool: ThreadPoolExecutor
    answers: list[httpx.Response] = field(default_factory=list)

    def attack(self, method: str, path: str, count: int = ATTACKS, **options: Any) -> None:
        """Send the same request so many times at once, and wait until the gateway has them."""
        refused = threading.Semaphore(0)

        def one() -> None:
            headers = {"Authorization": f"Bearer {self.alpha_key}"}
            answer = httpx.request(method, f"{self.url}{path}", headers=headers, timeout=40, **options)
            self.answers.append(answer)
            refused.release()

        for _ in range(count):
            self.pool.submit(one)
        # All but the few that run and wait are answered at once.
        for _ in range(count - 20):
            assert refused.acquire(timeout=20)


@contextmanager
def two(folder: Path, workers: int = ATTACKS) -> Iterator[Two]:
    slow = SlowClient()
    with open_rig(folder, datasets=slow, operator_key="o" * 32) as rig, served(rig.app) as url:
        keys = {}
        for team in ("alpha", "beta"):
            rig.teams.put(team, TeamSettings())
            keys[team] = key_of(rig, team)
        headers = {"Authorization": f"Bearer {keys['beta']}"}
        with (
            httpx.Client(base_url=url, headers=headers, timeout=20) as beta,
            ThreadPoolExecutor(workers) as pool,
        ):
            try:
                yield Two(url, slow, beta, keys["alpha"], pool)
            finally:
                slow.go.set()


def key_of(rig: Rig, team: str) -> str:
    headers = {"Authorization": f"Bearer {'o' * 32}", "Craft-Team": team}
    made = rig.post("/craft/api-keys", headers=headers, json={"name": "of a test", "role": Role.EDITOR.value})
    return str(made.json()["key"])


ATTACK_REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sources": ("POST", "/craft/datasets", {"json": SOURCE}),
    "rows": ("POST", "/craft/datasets", {"json": {"rows": rows(3)}}),
    "files": ("POST", "/craft/datasets", {"files": {"file": ("f", b"{}")}}),
    "files of OpenAI": ("POST", "/v1/files", {"files": {"file": ("f", b"{}")}, "data": {"purpose": "fine-tune"}}),
    "validations": ("POST", "/craft/jobs/validate", {"json": body()}),
    "jobs with rows": ("POST", "/craft/jobs", {"json": body()}),
}


@pytest.mark.parametrize("kind", ATTACK_REQUESTS)
def test_what_one_team_waits_for_holds_up_no_other_team(tmp_path: Path, kind: str) -> None:
    method, path, options = ATTACK_REQUESTS[kind]
    with two(tmp_path) as both:
        both.attack(method, path, **options)
        # Threads, look-ups of keys and writes are free for the other team.
        for asked in ("/craft/jobs", "/craft/datasets", "/craft/me", "/readyz", "/craft/jobs"):
            answer = both.beta.get(asked, timeout=5)
            assert (answer.status_code, answer.elapsed.total_seconds() < 2) == (200, True)
        made = both.beta.post("/craft/datasets", json={"rows": rows(5)}, timeout=5)
        assert made.status_code == 201
        job = body(dataset={"id": made.json()["id"]}, base_model={"id": MODEL})
        assert both.beta.post("/craft/jobs", json=job, timeout=5).status_code == 202
        refused = [answer for answer in both.answers if answer.status_code == 429]
        assert len(refused) >= ATTACKS - 20
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)


def test_a_team_that_waits_is_served_once_its_turn_comes(tmp_path: Path) -> None:
    with two(tmp_path) as both:
        both.slow.go.set()
        both.attack("POST", "/craft/datasets", count=4, json={"rows": rows(3)})
        both.pool.shutdown(wait=True)
        assert [answer.status_code for answer in both.answers] == [201] * 4


@pytest.mark.parametrize(("kind", "refused_at_once"), [("application/json", 3), ("multipart/form-data; boundary=x", 2)])
def test_a_team_sends_few_large_bodies_at_once_and_another_team_sends_its_own(
    tmp_path: Path, kind: str, refused_at_once: int
) -> None:
    head = (
        "POST /craft/datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {LARGE_BODY_BYTES + 1}\r\n\r\n"
    )
    with two(tmp_path) as both:
        url = httpx.URL(both.url)
        connections = [socket.create_connection((url.host, url.port or 0), timeout=10) for _ in range(8)]
        for connection in connections:
            connection.sendall(head.format(both.alpha_key).encode())
        refused = []
        for connection in connections:
            connection.settimeout(1)
            try:
                refused.append(connection.recv(2000))
            except TimeoutError:
                continue
        assert len(refused) == refused_at_once
        assert all(answer.startswith(b"HTTP/1.1 429") for answer in refused)
        large = both.beta.post("/craft/datasets", json={"rows": [*rows(3), {"question": "x" * LARGE_BODY_BYTES}]})
        assert large.status_code == 201
        for connection in connections:
            connection.close()
