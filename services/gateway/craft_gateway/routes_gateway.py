"""What the routes call, and the parts that several of them share."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Query, Response

from craft.contracts.views import JobView
from craft.core.selection import Strategy
from craft.errors import NotFound, RequestInvalid
from craft.infra.artifacts import ArtifactStore
from craft_gateway.api_keys import ApiKeys
from craft_gateway.authentication import Authenticator
from craft_gateway.authorisation import Owners
from craft_gateway.comparing import Comparing
from craft_gateway.conditional import RETRY_AFTER_SECONDS
from craft_gateway.database import Database
from craft_gateway.dataset_contents import DatasetContents
from craft_gateway.deployments import Deployments
from craft_gateway.job_bodies import JobBodies
from craft_gateway.model_server_client import ModelServer
from craft_gateway.publications import Publications
from craft_gateway.retention import Retention
from craft_gateway.retention_pins import Pins
from craft_gateway.sse import EventFeed
from craft_gateway.submission import Submission
from craft_gateway.submission_datasets import DatasetRegistry
from craft_gateway.submission_line import SubmissionLine
from craft_gateway.team_registry import TeamRegistry
from craft_gateway.transitions import Transitions
from craft_gateway.views_reading import Reader
from craft_gateway.webhook_log import DeliveryLog
from craft_gateway.webhooks import Webhooks

MOST_ON_A_PAGE = 500
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Repeat a request safely: the same key and body give the same job, another body a 422.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=MOST_ON_A_PAGE, description="Items on a page.")]
After = Annotated[int, Query(ge=0, le=2**53, description="The `last_id` of the page before.")]


@dataclass(frozen=True, slots=True)
class Gateway:
    """The objects behind the routes; `wiring.py` builds it, and tests with fakes."""

    database: Database
    authenticator: Authenticator
    owners: Owners
    keys: ApiKeys
    teams: TeamRegistry
    webhooks: Webhooks
    deliveries: DeliveryLog
    submission: Submission
    line: SubmissionLine
    datasets: DatasetRegistry
    contents: DatasetContents
    transitions: Transitions
    reader: Reader
    bodies: JobBodies
    feed: EventFeed
    store: ArtifactStore
    deployments: Deployments
    publications: Publications
    comparing: Comparing
    retention: Retention
    pins: Pins
    model_server: ModelServer
    seeds_requests: bool
    """Whether the model server takes a seed."""


def point_to(job: JobView, response: Response) -> None:
    """Say in the answer to a request that made a job where to ask about it, and how soon."""
    response.headers["Location"] = job.links.self
    response.headers["Retry-After"] = RETRY_AFTER_SECONDS


def chosen_strategy(gateway: Gateway, job_id: str, asked: Strategy | None) -> Strategy:
    """The strategy asked for, or the only one. Raises NotFound where the job has no such, and as `only_strategy`."""
    if asked is None:
        return only_strategy(gateway, job_id)
    strategies = gateway.reader.resolved(job_id).spec.strategies
    if asked not in strategies:
        names = ", ".join(strategy.value for strategy in strategies)
        raise NotFound(f"The job has no adapter of {asked.value}.", hint=f"It has {names}.", param="strategy")
    return asked


def only_strategy(gateway: Gateway, job_id: str) -> Strategy:
    """The strategy of a job that has one. Raises NotFound, RequestInvalid where the caller must say which."""
    strategies = gateway.reader.resolved(job_id).spec.strategies
    if len(strategies) > 1:
        names = ", ".join(strategy.value for strategy in strategies)
        raise RequestInvalid(
            f"The job has {len(strategies)} adapters.", hint=f"Say with `strategy` one of {names}.", param="strategy"
        )
    return strategies[0]
