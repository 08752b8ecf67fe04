"""What the other team sees meanwhile: how soon polls and submissions are answered, and how long a small job takes."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
from tests.security.two_teams.installation import Team

_POLL_SECONDS = 0.1
_SUBMIT_SECONDS = 2.0
_GIVE_UP_SECONDS = 300.0
_seeds: Iterator[int] = itertools.count(1000)


@dataclass(slots=True)
class Seen:
    """Seconds of each request, and of the small job from its submission to its end; `refused` counts other answers."""

    polls: list[float] = field(default_factory=list)
    submissions: list[float] = field(default_factory=list)
    job_seconds: float = 0.0
    refused: list[str] = field(default_factory=list)

    @property
    def poll_p99(self) -> float:
        """The 99th percentile of the polls."""
        ordered = sorted(self.polls)
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


def work(team: Team) -> Seen:
    """Run a small job to its end, poll it, and submit others beside it, which are cancelled."""
    seen, over = Seen(), threading.Event()
    with team.client(timeout_seconds=_GIVE_UP_SECONDS) as http:
        began = time.monotonic()
        job = _submitted(http, team, seen)
        beside = [
            threading.Thread(target=_poll, args=(team, job, over, seen)),
            threading.Thread(target=_submit, args=(team, over, seen)),
        ]
        for thread in beside:
            thread.start()
        try:
            seen.job_seconds = _ended(http, job, began)
        finally:
            over.set()
            for thread in beside:
                thread.join()
    return seen


def _submitted(http: httpx.Client, team: Team, seen: Seen) -> str:
    began = time.monotonic()
    answer = http.post("/craft/jobs", json=team.job(next(_seeds)))
    seen.submissions.append(time.monotonic() - began)
    if not answer.is_success:
        seen.refused.append(f"POST /craft/jobs {answer.status_code}")
        answer.raise_for_status()
    return str(answer.json()["id"])


def _poll(team: Team, job: str, over: threading.Event, seen: Seen) -> None:
    with team.client(timeout_seconds=_GIVE_UP_SECONDS) as http:
        while not over.wait(_POLL_SECONDS):
            began = time.monotonic()
            answer = http.get(f"/craft/jobs/{job}")
            seen.polls.append(time.monotonic() - began)
            if not answer.is_success:
                seen.refused.append(f"GET {answer.status_code}")


def _submit(team: Team, over: threading.Event, seen: Seen) -> None:
    with team.client(timeout_seconds=_GIVE_UP_SECONDS) as http:
        while not over.wait(_SUBMIT_SECONDS):
            http.post(f"/craft/jobs/{_submitted(http, team, seen)}/cancel")


def _ended(http: httpx.Client, job: str, began: float) -> float:
    while True:
        answer = http.get(f"/craft/jobs/{job}")
        seconds = time.monotonic() - began
        if answer.is_success and answer.json()["status"] in {"succeeded", "failed", "cancelled"}:
            if answer.json()["status"] != "succeeded":
                raise RuntimeError(f"The neighbour's job ended otherwise: {answer.json().get('error')}")
            return seconds
        if seconds > _GIVE_UP_SECONDS:
            raise TimeoutError(f"The neighbour's job had not ended after {_GIVE_UP_SECONDS:.0f} s.")
        time.sleep(_POLL_SECONDS)
