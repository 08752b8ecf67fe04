"""Webhooks and their deliveries in the public API."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from craft.contracts.base import Contract, Moment
from craft.contracts.events import EventType
from craft.contracts.spec.jobs import PlainText

WEBHOOK_ID = r"^hook_[0-9a-hjkmnp-tv-z]{26}$"
DELIVERY_ID = r"^dlvr_[0-9a-hjkmnp-tv-z]{26}$"
MAX_WEBHOOKS = 20
"""Limit for one team, because each event checks all of its webhooks."""
SECRET_LASTS_HOURS = 24
"""Hours for which the old secret still signs after a rotation."""
TEST_TYPE = "webhook.test"
_BY_NAME_ONLY = ("key.", "team.")
_EXAMPLE = "hook_01jgywz3x4v5q6r7s8t9vawbxc"


def wants(types: Iterable[str], event: str) -> bool:
    """True if one of the patterns matches the event's type.

    Only its full name matches `job.progress`. `*` does not match events of keys and teams.
    """
    for wanted in types:
        if wanted == event:
            return True
        if wanted.endswith("*") and event != EventType.JOB_PROGRESS:
            start = wanted.removesuffix("*")
            if event.startswith(start) and (start or not event.startswith(_BY_NAME_ONLY)):
                return True
    return False


def about_accounts(types: Iterable[str]) -> bool:
    """True if the patterns include events of keys or teams, which only a team's admins may see."""
    return any(wanted.startswith(_BY_NAME_ONLY) for wanted in types)


def _known(wanted: str) -> str:
    if wanted == "*" or (wanted.endswith(".*") and wanted.count("*") == 1 and _any(wanted)):
        return wanted
    if wanted in set(EventType):
        return wanted
    groups = sorted({f"{kind.partition('.')[0]}.*" for kind in EventType})
    raise ValueError(f"is no type of event; name one such as job.succeeded, or * or one of {', '.join(groups)}")


def _any(wanted: str) -> bool:
    return any(kind.startswith(wanted.removesuffix("*")) for kind in EventType)


def _once(types: list[str]) -> list[str]:
    return list(dict.fromkeys(types))


EventPattern = Annotated[PlainText, Field(min_length=1, max_length=40, examples=["job.*"]), AfterValidator(_known)]
EventPatterns = Annotated[list[EventPattern], Field(min_length=1, max_length=40), AfterValidator(_once)]


class WebhookRequest(Contract):
    """A new webhook of the caller's team."""

    url: PlainText = Field(min_length=1, max_length=2000, examples=["https://hooks.example.com/craft"])
    types: EventPatterns = Field(
        default_factory=lambda: ["job.*"],
        description="Event types: names such as `job.succeeded`, groups such as `job.*`, or `*`. `job.progress` needs "
        "its full name; `*` does not include `key.*` and `team.*`, which need `team:read`.",
    )
    name: PlainText | None = Field(None, min_length=1, max_length=200, examples=["pager"])


class WebhookChange(Contract):
    """A change of a webhook; absent members stay. Another address needs another webhook."""

    active: bool | None = None
    types: EventPatterns | None = None
    name: PlainText | None = Field(None, min_length=1, max_length=200)


class WebhookView(Contract):
    """A webhook without its secret."""

    object: Literal["craft.webhook"] = "craft.webhook"
    id: str = Field(examples=[_EXAMPLE])
    team: str
    name: str | None
    url: str
    types: list[str]
    active: bool
    inactive_reason: str | None = Field(description="The reason why it is inactive; null while it is active.")
    failing_since: Moment | None = Field(
        description="Start of the current series of failures; null if the last attempt succeeded."
    )
    failures: int = Field(description="Failed attempts since the last success.")
    last_delivered_at: Moment | None
    old_secret_until: Moment | None = Field(description="Until then the old secret also signs.")
    created_by: str
    created_at: Moment


class SecretView(WebhookView):
    """A webhook with its secret. No other response contains the secret."""

    secret: str = Field(description="Shown only once: `whsec_…`, for a library of Standard Webhooks.")


class WebhookList(Contract):
    """Webhooks, newest first."""

    object: Literal["list"] = "list"
    data: list[WebhookView]
    has_more: bool
    last_id: str | None


class DeliveryStatus(StrEnum):
    """The status of a message to one webhook."""

    PENDING = "pending"
    """The message waits for its next attempt, or is being sent."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """All attempts failed; `redeliver` starts again."""


class DeliveryView(Contract):
    """One message to one webhook, with the result of the last attempt."""

    object: Literal["craft.webhook_delivery"] = "craft.webhook_delivery"
    id: str = Field(
        description="The `webhook-id` of every attempt, so that a receiver can detect repeated messages.",
        examples=["dlvr_01jgywz3x4v5q6r7s8t9vawbxc"],
    )
    webhook_id: str
    type: str = Field(examples=["job.succeeded"])
    status: DeliveryStatus
    attempts: int = Field(description="Started attempts, including those of redeliveries.")
    response_status: int | None = Field(description="Status of the last attempt's response; null if there was none.")
    response_body: str | None = Field(description="The first characters of the last response.")
    error: str | None = Field(description="The reason why the last attempt failed.")
    attempted_at: Moment | None
    next_attempt_at: Moment | None = Field(description="Null after the delivery or the last attempt.")
    created_at: Moment
    ended_at: Moment | None


class DeliveryDetail(DeliveryView):
    """A message with its body."""

    body: str = Field(description="The exact body of the message.")


class DeliveryList(Contract):
    """Deliveries, newest first."""

    object: Literal["list"] = "list"
    data: list[DeliveryView]
    has_more: bool
    last_id: str | None
