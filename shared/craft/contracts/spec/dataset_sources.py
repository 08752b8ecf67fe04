"""Sources of datasets that are fetched instead of uploaded, and records of what was fetched."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from craft.contracts.base import Contract, Digest
from craft.contracts.spec.jobs import PlainText

_FILE = r"^[^/\x00-\x1f\\?#]+(/[^/\x00-\x1f\\?#]+)*$"


def _inside(file: str) -> str:
    # Such parts would lead the URL, and the service's token with it, to another place of the hub.
    if {".", ".."}.intersection(file.split("/")):
        raise ValueError("a path in a repository has no part . or ..")
    return file


class HttpsSource(Contract):
    """A file at a public address. Redirects are followed, to public addresses."""

    kind: Literal["https"]
    url: PlainText = Field(min_length=8, max_length=4000, examples=["https://example.com/questions.jsonl"])


class HubSource(Contract):
    """A file of a dataset repository on the model hub, at the commit of `revision` at the time of the download."""

    kind: Literal["hub"]
    repo: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$",
        examples=["mandarjoshi/trivia_qa"],
    )
    revision: str = Field(
        "main", pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$", description="A branch, a tag or a commit."
    )
    file: Annotated[str, AfterValidator(_inside)] = Field(
        pattern=_FILE, max_length=1000, examples=["data/train-00000-of-00001.parquet"]
    )


class S3Source(Contract):
    """An object in a bucket that the operator allows. Endpoint, region and credentials are the service's own."""

    kind: Literal["s3"]
    uri: str = Field(
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\x00-\x1f]+$",
        max_length=1200,
        examples=["s3://team-data/questions/2026-01.parquet"],
    )


DatasetSource = Annotated[HttpsSource | HubSource | S3Source, Field(discriminator="kind")]


class FetchedSource(Contract):
    """The origin and version of a dataset, so that it can be fetched again, or a change can be noticed."""

    kind: Literal["https", "hub", "s3"]
    uri: str = Field(
        description="The requested address, without secrets of its query.",
        examples=["hf://datasets/mandarjoshi/trivia_qa@main/data/train.parquet"],
    )
    revision: str | None = Field(description="The hub's commit, or the object's version where the bucket keeps them.")
    etag: str | None = Field(description="The source's own ETag.")
    bytes: int = Field(ge=0)
    sha256: Digest = Field(description="SHA-256 of the fetched bytes.")
