"""What the routes call, and the parts that several of them share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query

from craft.infra.artifacts import ArtifactStore
from craft_gateway.sse import EventFeed
from craft_gateway.submission import Submission
from craft_gateway.submission_datasets import DatasetRegistry
from craft_gateway.transitions import Transitions
from craft_gateway.views_reading import Reader

MOST_ON_A_PAGE = 500
Limit = Annotated[int, Query(ge=1, le=MOST_ON_A_PAGE, description="Items on a page.")]
After = Annotated[int, Query(ge=0, le=2**53, description="The `last_id` of the page before.")]


@dataclass(frozen=True, slots=True)
class Gateway:
    """The objects behind the routes; `wiring.py` builds it, and tests with fakes."""

    submission: Submission
    datasets: DatasetRegistry
    transitions: Transitions
    reader: Reader
    feed: EventFeed
    store: ArtifactStore


def etag_of(digest: str) -> str:
    """A strong entity tag."""
    return f'"{digest}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller has this representation already (RFC 9110, 13.1.2: compared weakly)."""
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags


def cached(etag: str) -> Mapping[str, str]:
    """Headers of a representation that may be kept and must be asked about."""
    return {"ETag": etag, "Cache-Control": "private, no-cache"}
