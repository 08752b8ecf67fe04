"""Runs each attack beside the neighbour's work, and holds what the neighbour saw against the bounds."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.security.two_teams.attacks import ATTACKS
from tests.security.two_teams.installation import Installation, installed
from tests.security.two_teams.neighbour import Seen, work

MAX_POLL_SECONDS = 1.0
MAX_SUBMISSION_SECONDS = 3.0
MAX_DELAY_SECONDS = 60.0
_LEAD_SECONDS = 3.0
"""The attack is under way for so long before the neighbour's work begins."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the neighbour saw during one attack, and what the attacker was answered."""

    attack: str
    poll_p99: float
    submission: float
    job_seconds: float
    delay: float
    refused: tuple[str, ...]
    answers: tuple[tuple[str, int], ...]

    @property
    def beyond(self) -> list[str]:
        """The bounds that do not hold."""
        bounds = {
            f"polls p99 {self.poll_p99:.2f} s": self.poll_p99 < MAX_POLL_SECONDS,
            f"a submission took {self.submission:.2f} s": self.submission < MAX_SUBMISSION_SECONDS,
            f"the job was delayed by {self.delay:.0f} s": self.delay <= MAX_DELAY_SECONDS,
            f"the neighbour was refused: {', '.join(self.refused[:3])}": not self.refused,
        }
        return [words for words, holds in bounds.items() if not holds]

    def __str__(self) -> str:
        answers = " ".join(f"{name}×{count}" for name, count in self.answers)
        return (
            f"{self.attack:16} polls p99 {self.poll_p99:6.3f} s   submissions {self.submission:6.2f} s   "
            f"job {self.job_seconds:6.1f} s   delay {self.delay:6.1f} s   {answers or '-'}"
        )


def run(names: Sequence[str], say: Callable[[str], None]) -> Iterator[Outcome]:
    """Run the attacks of these names, one after another, in one installation."""
    with installed() as installation:
        # The first job also loads the model.
        work(installation.neighbour)
        calm = work(installation.neighbour)
        say(str(_outcome("no attack", calm, calm.job_seconds, Counter())))
        for name in names:
            seen, answers = _attacked(installation, name)
            outcome = _outcome(name, seen, calm.job_seconds, answers)
            say(str(outcome))
            yield outcome


def _attacked(installation: Installation, name: str) -> tuple[Seen, Counter[str]]:
    over, answers = threading.Event(), Counter[str]()
    attack = threading.Thread(target=ATTACKS[name], args=(installation.attacker, over, answers))
    attack.start()
    try:
        time.sleep(_LEAD_SECONDS)
        return work(installation.neighbour), answers
    finally:
        over.set()
        attack.join()


def _outcome(name: str, seen: Seen, calm_seconds: float, answers: "Counter[str]") -> Outcome:
    return Outcome(
        attack=name,
        poll_p99=seen.poll_p99,
        submission=max(seen.submissions),
        job_seconds=seen.job_seconds,
        delay=max(0.0, seen.job_seconds - calm_seconds),
        refused=tuple(seen.refused),
        answers=tuple(sorted(answers.items())),
    )
