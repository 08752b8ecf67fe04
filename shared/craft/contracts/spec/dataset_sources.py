"""Datasets that are named instead of sent: where they lie, and what was found there."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from craft.contracts.base import Contract, Digest

_FILE = r"^[^/\x00-\x1f\\?#]+(/[^/\x00-\x1f\\?#]+)*$"


def _inside(file: str) -> str:
    # A URL with such parts would name another place of the hub, and the service's token goes with it.
    if {".", ".."}.intersection(file.split("/")):
        raise ValueError("a path in a repository has no part . or ..")
    return file


class HttpsSource(Contract):
    """A file at a public address. Redirects are followed, to public addresses."""

    kind: Literal["https"]
    url: str = Field(min_length=8, max_length=4000, examples=["https://example.com/questions.jsonl"])


class HubSource(Contract):
    """A file of a dataset repository on the model hub, at the commit that `revision` names when it is fetched."""

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
    """An object of a bucket that the operator has opened. Endpoint, region and credentials are the service's own."""

    kind: Literal["s3"]
    uri: str = Field(
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\x00-\x1f]+$",
        max_length=1200,
        examples=["s3://team-data/questions/2026-01.parquet"],
    )


DatasetSource = Annotated[HttpsSource | HubSource | S3Source, Field(discriminator="kind")]


class FetchedSource(Contract):
    """Where a dataset came from, and which version of it: enough to fetch the same again, or to see that it changed."""

    kind: Literal["https", "hub", "s3"]
    uri: str = Field(
        description="What was asked for, without secrets of its query.",
        examples=["hf://datasets/mandarjoshi/trivia_qa@main/data/train.parquet"],
    )
    revision: str | None = Field(description="The hub's commit, or the object's version where the bucket keeps them.")
    etag: str | None = Field(description="As the source gave it.")
    bytes: int = Field(ge=0)
    sha256: Digest = Field(description="Of the bytes that were fetched.")
