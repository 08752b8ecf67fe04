"""Downloads the file that a `source` names: at a public address, in the hub at a commit, or in S3."""

import re
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from craft.contracts.spec.dataset_sources import DatasetSource, FetchedSource, HttpsSource, HubSource, S3Source
from craft.errors import CraftError, RequestInvalid, Unavailable
from craft.infra.settings.datasets import HubSettings, S3Settings
from craft_datasets.sources.fetching import Fetched, Fetcher, RemoteFile
from craft_datasets.sources.s3 import Sign

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_S3_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,60})</Code>")
_SECRET = re.compile(r"(?i)([^&=]*(?:sig|token|key|secret|credential|password|auth)[^&=]*)=[^&]*")


class Sources:
    """Downloads from the three kinds of source."""

    def __init__(self, fetcher: Fetcher, *, hub: HubSettings, s3: S3Settings, sign: Sign) -> None:
        self._fetcher = fetcher
        self._hub = hub
        self._s3 = s3
        self._sign = sign

    def fetch(self, source: DatasetSource, target: Path) -> FetchedSource:
        """Write the file to `target`. Raises RequestInvalid, PayloadTooLarge, Unavailable, OSError."""
        match source:
            case HttpsSource():
                return self._https(source, target)
            case HubSource():
                return self._from_hub(source, target)
            case S3Source():
                return self._from_s3(source, target)

    def _https(self, source: HttpsSource, target: Path) -> FetchedSource:
        found = self._fetcher.fetch(RemoteFile(source.url), target)
        return _described("https", _without_secrets(source.url), found)

    def _from_hub(self, source: HubSource, target: Path) -> FetchedSource:
        at = f"datasets/{source.repo}/resolve/{quote(source.revision, safe='')}/{quote(source.file)}"
        token = self._hub.token
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        found = self._fetcher.fetch(
            RemoteFile(f"{self._hub.url.rstrip('/')}/{at}", headers, explain=_explain_hub), target
        )
        commit = found.first("x-repo-commit")
        if commit is None or not _COMMIT.fullmatch(commit):
            raise Unavailable("The hub did not say which commit it answered with.", hint="Try again.", param="source")
        _check_content(found)
        uri = f"hf://datasets/{source.repo}@{source.revision}/{source.file}"
        return _described("hub", uri, found, revision=commit)

    def _from_s3(self, source: S3Source, target: Path) -> FetchedSource:
        bucket, _, key = source.uri.removeprefix("s3://").partition("/")
        if bucket not in self._s3.buckets:
            raise RequestInvalid(
                f"The bucket {bucket} is not open for datasets.",
                hint="The operator adds it to CRAFT_DATASETS__S3__BUCKETS; or upload the file.",
                param="source",
            )
        base = self._s3.endpoint or f"https://s3.{self._s3.region}.amazonaws.com"
        url = f"{base.rstrip('/')}/{bucket}/{quote(key)}"
        found = self._fetcher.fetch(RemoteFile(url, self._sign(url), redirects=False, explain=_explain_s3), target)
        return _described("s3", source.uri, found, revision=found.first("x-amz-version-id"))


def _described(kind: str, uri: str, found: Fetched, *, revision: str | None = None) -> FetchedSource:
    # The hub redirects to its large files; its own tag names them.
    etag = found.first("x-linked-etag") or found.headers[-1].get("etag")
    return FetchedSource.model_validate(
        {
            "kind": kind,
            "uri": uri,
            "revision": revision,
            "etag": etag[:200] if etag else None,
            "bytes": found.bytes,
            "sha256": found.sha256,
        }
    )


def _check_content(found: Fetched) -> None:
    """Raise Unavailable where the hub announced another SHA-256 or another number of bytes."""
    announced = (found.first("x-linked-etag") or "").strip('"')
    size = found.first("x-linked-size")
    other_bytes = _SHA256.fullmatch(announced) and announced != found.sha256
    if other_bytes or (size and size.isdecimal() and int(size) != found.bytes):
        raise Unavailable("What arrived is not the file that the hub announced.", hint="Try again.", param="source")


def _explain_hub(response: httpx.Response, body: bytes) -> CraftError | None:  # noqa: ARG001 - all kinds have one signature
    message = {
        "RepoNotFound": "The hub has no such dataset repository, or it is private or gated.",
        "GatedRepo": "The dataset's owners ask for a click on their licence first.",
        "RevisionNotFound": "The repository has no such revision.",
        "EntryNotFound": "The repository has no such file at that revision.",
    }.get(response.headers.get("x-error-code", ""))
    if message is None:
        return None
    return RequestInvalid(
        message, hint="Check the name; for a private one the operator sets CRAFT_DATASETS__HUB__TOKEN."
    )


def _explain_s3(response: httpx.Response, body: bytes) -> CraftError | None:
    code = _S3_CODE.search(body)
    if response.status_code >= 500 or code is None:
        return None
    region = response.headers.get("x-amz-bucket-region")
    where = f" The bucket is in {region[:40]}." if region else ""
    return RequestInvalid(
        f"S3 answers {response.status_code} {code[1].decode()}.{where}",
        hint="Check bucket and key; the operator sets region, endpoint and credentials of the datasets service.",
    )


def _without_secrets(url: str) -> str:
    """The URL without its fragment, and without the values of signatures, keys and tokens in its query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=_SECRET.sub(r"\1=…", parts.query), fragment=""))
