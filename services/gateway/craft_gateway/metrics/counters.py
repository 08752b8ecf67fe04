"""Counters of workers' attempts. The coordinator counts each call after its commit.

It counts for the workers, which have no HTTP server to be scraped. A failure to count must not fail the call: it is
logged, and the call is not counted.
"""

import threading
from collections import OrderedDict

from prometheus_client import CollectorRegistry, Counter, Histogram

from craft.contracts.stages.artifacts import Cost
from craft.contracts.stages.attempts import AttemptOutcome
from craft.contracts.stages.kinds import Service
from craft.errors import CraftError
from craft_gateway.store.tables import Attempt
from craft_gateway.webhooks.http_post import DeliveryOutcome

_SECONDS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400)
_TOKENS_PER_SECOND = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000)
_REMEMBERED = 10_000


class StageMetrics:
    """Counters and histograms of attempts. A repeated report of the same end counts once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._wait = Histogram(
            "craft_stage_wait_seconds",
            "From ready to claimed.",
            ("queue", "team"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._seconds = Histogram(
            "craft_stage_seconds",
            "From claimed to the attempt's end.",
            ("kind", "outcome"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._attempts = Counter(
            "craft_stage_attempts",
            "Attempts that ended; code is the error's code.",
            ("kind", "outcome", "code"),
            registry=registry,
        )
        self._lost = Counter("craft_leases_lost", "Leases that ran out without renewal.", ("kind",), registry=registry)
        self._tokens = Counter("craft_generated_tokens", "Tokens that models generated.", registry=registry)
        self._speed = Histogram(
            "craft_generated_tokens_per_second",
            "Generated tokens a second of each stage that generated any.",
            ("kind",),
            buckets=_TOKENS_PER_SECOND,
            registry=registry,
        )
        self._known_codes = _codes()
        self._counted: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._lock = threading.Lock()

    def claimed(self, queue: Service, team: str, waited_seconds: float) -> None:
        """Count a claim by a worker."""
        self._wait.labels(queue.value, team).observe(waited_seconds)

    def ended(self, attempt: Attempt, cost: Cost | None = None) -> None:
        """Count the end of an attempt; `cost` is the cost of its artifact."""
        if attempt.outcome is AttemptOutcome.RUNNING or not self._first(attempt):
            return
        kind, outcome = attempt.kind.value, attempt.outcome.value
        code = str(attempt.error["code"]) if attempt.error else ""
        self._attempts.labels(kind, outcome, code if code in self._known_codes else "other").inc()
        self._seconds.labels(kind, outcome).observe(attempt.seconds or 0.0)
        if cost is not None and cost.generated_tokens > 0:
            self._tokens.inc(cost.generated_tokens)
            if cost.seconds > 0.0:
                self._speed.labels(kind).observe(cost.generated_tokens / cost.seconds)

    def lost(self, attempt: Attempt) -> None:
        """Count an attempt whose lease ran out, so that the reaper took its stage back."""
        self._lost.labels(attempt.kind.value).inc()
        self.ended(attempt)

    def _first(self, attempt: Attempt) -> bool:
        ended = (attempt.stage_id, attempt.fence)
        with self._lock:
            first = ended not in self._counted
            self._counted[ended] = None
            while len(self._counted) > _REMEMBERED:
                self._counted.popitem(last=False)
        return first


class WebhookMetrics:
    """Counters of attempts to deliver webhook messages."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "craft_webhook_attempts",
            "Attempts to deliver webhook messages that ended.",
            ("outcome",),
            registry=registry,
        )
        for outcome in DeliveryOutcome:
            self._attempts.labels(outcome.value)

    def attempted(self, outcome: DeliveryOutcome) -> None:
        """Count the end of an attempt."""
        self._attempts.labels(outcome.value).inc()


class RetentionMetrics:
    """Counter of what garbage collection had to leave."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._skipped = Counter(
            "craft_retention_skipped",
            "Items that garbage collection could not read or remove; the log names them.",
            registry=registry,
        )

    def skipped(self) -> None:
        """Count an item."""
        self._skipped.inc()


def _codes() -> frozenset[str]:
    """Return the codes of the error tree: only they become labels, because a worker may send any code."""
    codes = {""}
    pending: list[type[CraftError]] = [CraftError]
    while pending:
        kind = pending.pop()
        codes.add(kind.code)
        pending.extend(kind.__subclasses__())
    return frozenset(codes)
