"""Event patterns of webhooks."""

import pytest
from pydantic import ValidationError

from craft.contracts.events import EventType
from craft.contracts.public.webhooks import WebhookChange, WebhookRequest, about_accounts, wants

URL = "https://hooks.example.com/"
HIDDEN = {EventType.JOB_PROGRESS, EventType.KEY_CREATED, EventType.KEY_REVOKED, EventType.TEAM_CHANGED}


def test_everything_is_all_but_progress_keys_and_teams() -> None:
    assert {kind for kind in EventType if not wants(["*"], kind)} == HIDDEN


@pytest.mark.parametrize("kind", list(EventType))
def test_each_type_can_be_asked_for_by_its_name(kind: EventType) -> None:
    assert WebhookRequest(url=URL, types=[kind.value]).types == [kind.value]
    assert [other for other in EventType if wants([kind.value], other)] == [kind]


@pytest.mark.parametrize("group", sorted({kind.partition(".")[0] for kind in EventType}))
def test_each_group_can_be_asked_for(group: str) -> None:
    (pattern,) = WebhookRequest(url=URL, types=[f"{group}.*"]).types
    chosen = {kind for kind in EventType if wants([pattern], kind)}
    assert chosen == {kind for kind in EventType if kind.startswith(f"{group}.")} - {EventType.JOB_PROGRESS}


def test_what_is_asked_for_twice_counts_once_and_by_default_it_is_jobs() -> None:
    assert WebhookRequest(url=URL, types=["*", "job.*", "*"]).types == ["*", "job.*"]
    assert WebhookRequest(url=URL).types == ["job.*"]
    assert WebhookChange().types is None


@pytest.mark.parametrize("pattern", ["job", "job.", "jobs.*", "*.*", "job.*.*", "**", "jo*", ".*", "webhook.test", ""])
def test_a_pattern_that_no_event_can_have_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        WebhookRequest(url=URL, types=[pattern])


@pytest.mark.parametrize(
    ("types", "expected"), [(["*"], False), (["job.*"], False), (["job.*", "key.*"], True), (["team.changed"], True)]
)
def test_events_of_keys_and_teams_are_about_accounts(types: list[str], *, expected: bool) -> None:
    assert about_accounts(types) is expected
