"""Objects of S3, from a real server of its protocol that checks signatures and permissions."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.credentials import Credentials
from tests.ports import free_ports
from tests.services.datasets.sources.source_servers import HOST, ROWS

from craft.contracts.spec.dataset_sources import FetchedSource, S3Source
from craft.errors import RequestInvalid
from craft.infra.http.outbound import OutboundPolicy
from craft.infra.settings.datasets import HubSettings, S3Settings
from craft_datasets.sources.fetching import Fetcher, Limits
from craft_datasets.sources.s3 import own_credentials, signer
from craft_datasets.sources.sources import Sources

BUCKET = "team-data"
KEY = "fragen/東京 +100% & ~äöü.jsonl"
_CALLS_BEFORE_KEYS_ARE_ASKED_FOR = 3
_POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


@dataclass(frozen=True, slots=True)
class Store:
    """A running server, and whoever may read it."""

    url: str
    key_id: str
    secret: str
    version: str
    etag: str

    def fetch(self, folder: Path, *, key: str = KEY, secret: str | None = None, **changes: Any) -> FetchedSource:
        credentials = Credentials(self.key_id, secret or self.secret) if secret != "" else None
        own = S3Settings(endpoint=self.url, buckets=[BUCKET, "other"]).model_copy(update=changes)
        fetcher = Fetcher(OutboundPolicy((HOST,)), Limits(max_bytes=10_000, seconds=20, idle_seconds=20))
        sources = Sources(fetcher, hub=HubSettings(), s3=own, sign=signer(own.region, lambda: credentials))
        return sources.fetch(S3Source(kind="s3", uri=f"s3://{BUCKET}/{key}"), folder / "target")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    (port,) = free_ports(1)
    log = tmp_path_factory.mktemp("s3") / "log"
    changed = {"INITIAL_NO_AUTH_ACTION_COUNT": str(_CALLS_BEFORE_KEYS_ARE_ASKED_FOR)}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)],
            env=os.environ | changed,
            stdout=output,
            stderr=output,
        )
        try:
            yield filled(f"http://{HOST}:{port}")
        finally:
            server.terminate()
            server.wait(20)


def filled(url: str) -> Store:
    """With a user, and one object in two versions."""
    until = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{url}/moto-api/").raise_for_status()
            break
        except httpx.HTTPError:
            assert time.monotonic() < until, "the server did not start"
            time.sleep(0.05)
    iam = boto3.client(
        "iam", endpoint_url=url, region_name="us-east-1", aws_access_key_id="first", aws_secret_access_key="first"
    )
    iam.create_user(UserName="datasets")
    iam.put_user_policy(UserName="datasets", PolicyName="all", PolicyDocument=json.dumps(_POLICY))
    key = iam.create_access_key(UserName="datasets")["AccessKey"]
    s3 = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"old")
    newest = s3.put_object(Bucket=BUCKET, Key=KEY, Body=ROWS)
    return Store(url, key["AccessKeyId"], key["SecretAccessKey"], newest["VersionId"], newest["ETag"])


def test_an_object_arrives_with_its_version_and_etag(store: Store, tmp_path: Path) -> None:
    found = store.fetch(tmp_path)
    assert (tmp_path / "target").read_bytes() == ROWS
    assert (found.revision, found.etag, found.uri) == (store.version, store.etag, f"s3://{BUCKET}/{KEY}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"secret": "another"}, "403 SignatureDoesNotMatch"),
        ({"secret": ""}, "403"),
        ({"key": "nothing"}, "404 NoSuchKey"),
        ({"buckets": ["other"]}, f"bucket {BUCKET} is not open"),
        ({"buckets": []}, f"bucket {BUCKET} is not open"),
    ],
    ids=["wrong secret", "no credentials", "no such object", "another bucket", "no bucket"],
)
def test_what_s3_or_the_operator_refuses_is_said(
    store: Store, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(RequestInvalid, match=said) as caught:
        store.fetch(tmp_path, **changes)
    assert caught.value.hint


def test_an_endpoint_that_is_not_public_has_to_be_allowed(tmp_path: Path) -> None:
    own = S3Settings(endpoint="https://10.0.0.8:9000", buckets=[BUCKET])
    fetcher = Fetcher(OutboundPolicy(), Limits(max_bytes=10_000, seconds=5, idle_seconds=5))
    sources = Sources(fetcher, hub=HubSettings(), s3=own, sign=lambda _: {})
    with pytest.raises(RequestInvalid, match="no public address"):
        sources.fetch(S3Source(kind="s3", uri=f"s3://{BUCKET}/x"), tmp_path / "target")


def test_credentials_are_those_of_the_services_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = own_credentials()
    assert (found.access_key, found.secret_key) == ("mine", "secret")
    headers = signer("eu-central-1")("https://s3.eu-central-1.amazonaws.com/bucket/key")
    assert "Credential=mine/" in headers["Authorization"]
    assert "/eu-central-1/s3/aws4_request" in headers["Authorization"]
