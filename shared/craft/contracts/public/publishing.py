"""Publishing a finished adapter to an MLflow registry or a repository of a model hub."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from craft.contracts.base import Contract, Moment
from craft.contracts.problems import StageError
from craft.contracts.spec.jobs import PlainText
from craft.core.strategies import Strategy

_REPO_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"


def _no_double(name: str) -> str:
    # The hub's own rule.
    if "--" in name or ".." in name or name.endswith(".git"):
        raise ValueError("a repository's name has no -- and no .. in it and does not end with .git")
    return name


class MlflowTarget(Contract):
    """A registered model of the installation's MLflow server; the adapter becomes its next version."""

    kind: Literal["mlflow"]
    model_name: str = Field(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,198}[A-Za-z0-9])?$", examples=["support-qa"])


class HubTarget(Contract):
    """A repository of the installation's model hub. It is created if missing; a commit adds to its content."""

    kind: Literal["hub"]
    repo: Annotated[str, AfterValidator(_no_double)] = Field(
        pattern=rf"^{_REPO_PART}/{_REPO_PART}$", max_length=97, examples=["acme/support-qa"]
    )
    private: bool = Field(default=True, description="If true, an existing public repository is refused.")
    commit_message: PlainText | None = Field(None, min_length=1, max_length=200)


PublishTarget = Annotated[MlflowTarget | HubTarget, Field(discriminator="kind")]


class PublishRequest(Contract):
    """The target, and the adapter to publish."""

    target: PublishTarget
    strategy: Strategy | None = Field(None, description="Required if the job has several.")


class PublicationStatus(StrEnum):
    """The status of a publication. A failed one is retried when it is requested again."""

    QUEUED = "queued"
    """The publication waits for its first attempt or, with an `error`, for the next one."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class PublicationView(Contract):
    """One publication of an adapter to one target."""

    object: Literal["craft.publication"] = "craft.publication"
    id: str = Field(examples=["publ_01jgywz3x4v5q6r7s8t9vawbxc"])
    job_id: str
    strategy: Strategy
    target: PublishTarget
    status: PublicationStatus
    url: str | None = Field(description="The page of the published adapter; null before.")
    version: str | None = Field(description="MLflow's version of the model, or the hub's commit.")
    digest: str = Field(description="Digest of the packaged adapter's artifact.")
    error: StageError | None = Field(description="Error of the last failed attempt.")
    attempts: int
    next_attempt_at: Moment | None = Field(description="Only while it waits.")
    created_at: Moment
    finished_at: Moment | None


class PublicationList(Contract):
    """All publications of a job, oldest first."""

    object: Literal["list"] = "list"
    data: list[PublicationView]
    has_more: bool = False
    last_id: str | None = None
