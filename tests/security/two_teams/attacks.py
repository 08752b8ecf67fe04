"""What one team, or a stranger, can send to hold up all others. Each attack lasts until it is told to end."""

import io
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from tests.security.two_teams.installation import ATTACKER, Team
from tests.tiny_model import made_up_facts

from craft.core.replies.guards import GUARD_CODES

Over = threading.Event
Attack = Callable[[Team, Over, "Counter[str]"], None]
"""Attacks with a team's key until the event is set; counts what comes back."""
_SOURCES = 60
_HALF_HEADS = 300
_BOMBS = 8
_PAUSE_SECONDS = 0.2
_GUARDS = sorted(GUARD_CODES)


def slow_sources(team: Team, over: Over, seen: "Counter[str]") -> None:
    """Sixty sources at once that send a byte every two seconds."""
    with _slow_server(over) as url:
        body = {"task": "open_ended", "source": {"kind": "https", "url": url}}
        _at_once(team, over, seen, _SOURCES, lambda http: http.post("/craft/datasets", json=body))


def long_refusals(team: Team, over: Over, seen: "Counter[str]") -> None:
    """Bodies of 2.4 MB: a hundred phrases of four thousand words, each to be looked for in replies."""
    phrases = [f"{number} " + "word " * 4000 for number in range(100)]
    body = team.job(1, prompts={"extra_refusals": phrases})
    _at_once(team, over, seen, 4, lambda http: http.post("/craft/jobs", json=body))


def large_templates(team: Team, over: Over, seen: "Counter[str]") -> None:
    """A template that repeats the question two thousand times, over questions of a hundred kilobytes."""
    rows = [{"question": f"{number} " + "why " * 25_000, "answers": ["so"]} for number in range(10)]
    prompts = {"templates": {"open_probe": "{question}" * 2000}}
    body = team.job(1, dataset={"rows": rows}, prompts=prompts)
    _at_once(team, over, seen, 2, lambda http: http.post("/craft/jobs", json=body))


def large_bodies(team: Team, over: Over, seen: "Counter[str]") -> None:
    """Twenty jobs at once of thirty megabytes of rows each, which differ."""
    rows = [{"question": f"{number} " + "why " * 750, "answers": ["so"]} for number in range(9_900)]
    body = json.dumps(team.job(1, dataset={"rows": rows})).encode()
    headers = {"Content-Type": "application/json"}
    _at_once(team, over, seen, 20, lambda http: http.post("/craft/jobs/validate", content=body, headers=headers))


def long_job(team: Team, over: Over, seen: "Counter[str]") -> None:
    """A job that probes for hours, of a team that has ten GPU seconds left.

    A hundred long samples at a high temperature for each of 2,000 questions; the guards are accepted, so that nothing
    but the team's limit can end it.
    """
    probe = {"samples": 100, "temperature": 5.0, "max_new_tokens": 1000}
    rows = [{"question": question, "answers": [answer]} for question, answer in made_up_facts(2000, seed=7)]
    with team.client() as http, team.operator() as operator:
        used = operator.get(f"/craft/teams/{ATTACKER}").raise_for_status().json()["gpu_seconds_last_day"]
        operator.put(f"/craft/teams/{ATTACKER}", json={"gpu_seconds_per_day": used + 10}).raise_for_status()
        answer = http.post("/craft/jobs", json=team.job(1, dataset={"rows": rows}, probe=probe, accept=_GUARDS))
        seen[str(answer.status_code)] += 1
        over.wait()
        if answer.is_success:
            job = http.get(f"/craft/jobs/{answer.json()['id']}").raise_for_status().json()
            seen[job["error"]["code"] if job["error"] else job["status"]] += 1
            http.post(f"/craft/jobs/{job['id']}/cancel")
        operator.put(f"/craft/teams/{ATTACKER}", json={}).raise_for_status()


def half_heads(team: Team, over: Over, seen: "Counter[str]") -> None:
    """Three hundred connections with half a head, opened again as they are closed; no key is needed."""
    url = httpx.URL(team.url)
    opened: list[socket.socket] = []
    while not over.is_set():
        while len(opened) < _HALF_HEADS and not over.is_set():
            with suppress(OSError):
                opened.append(socket.create_connection((url.host, url.port or 0), timeout=5))
                opened[-1].sendall(b"GET /craft/jobs HTTP/1.1\r\nHost: x\r\n")
        over.wait(_PAUSE_SECONDS)
        opened = [each for each in opened if _is_open(each, seen)]
    for each in opened:
        each.close()


def parquet_bombs(team: Team, over: Over, seen: "Counter[str]") -> None:
    """Eight uploads at once of a few kilobytes that become 200,000 rows each."""

    def upload(http: httpx.Client) -> httpx.Response:
        return http.post("/craft/datasets", files={"file": ("f", _BOMB)}, data={"task": "open_ended"})

    _at_once(team, over, seen, _BOMBS, upload)


ATTACKS: dict[str, Attack] = {
    each.__name__: each
    for each in (slow_sources, long_refusals, large_templates, large_bodies, long_job, half_heads, parquet_bombs)
}


def _bomb() -> bytes:
    rows = 200_000
    written = io.BytesIO()
    table = pa.table({"question": ["x" * 500] * rows, "answer": ["y"] * rows})
    pq.write_table(table, written, compression="zstd")
    return written.getvalue()


_BOMB = _bomb()


def _at_once(
    team: Team, over: Over, seen: "Counter[str]", count: int, send: Callable[[httpx.Client], httpx.Response]
) -> None:
    """Keep so many of these requests under way."""

    def again() -> None:
        with team.client(300.0) as http:
            while not over.is_set():
                try:
                    answer = send(http)
                    seen[str(answer.status_code)] += 1
                    if answer.is_success and "/craft/jobs" in str(answer.url):
                        http.post(f"/craft/jobs/{answer.json()['id']}/cancel")
                except httpx.HTTPError as error:
                    seen[type(error).__name__] += 1
                over.wait(_PAUSE_SECONDS)

    with ThreadPoolExecutor(count) as pool:
        for _ in range(count):
            pool.submit(again)


def _is_open(connection: socket.socket, seen: "Counter[str]") -> bool:
    connection.setblocking(False)
    try:
        head = connection.recv(100)
    except BlockingIOError:
        return True
    except OSError:
        head = b""
    seen[head[9:12].decode() or "closed"] += 1
    connection.close()
    return False


@contextmanager
def _slow_server(over: Over) -> Iterator[str]:
    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while not over.wait(2.0):
                    self.wfile.write(b"{")
                    self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/rows.jsonl"
    finally:
        server.shutdown()
        server.server_close()
