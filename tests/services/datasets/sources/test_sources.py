"""Datasets that are fetched: whole and once, from public addresses, within limits of bytes and time."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError
from tests.services.datasets.sources.source_servers import (
    COMMIT,
    HOST,
    ROWS,
    Source,
    body,
    dripping,
    endless,
    hub,
    silent,
    source,
    status,
)

from craft.contracts.spec.dataset_sources import DatasetSource, FetchedSource, HttpsSource, HubSource
from craft.errors import CraftError, PayloadTooLarge, RequestInvalid, Unavailable
from craft.infra.http.outbound import OutboundPolicy
from craft.infra.settings.datasets import HubSettings, S3Settings
from craft_datasets.sources.fetching import Fetcher, Limits
from craft_datasets.sources.sources import Sources

MAX_BYTES = 100_000
LIMITS = Limits(max_bytes=MAX_BYTES, seconds=2.0, idle_seconds=0.5)


def sources(*, limits: Limits = LIMITS, hub: HubSettings | None = None, allowed: tuple[str, ...] = (HOST,)) -> Sources:
    fetcher = Fetcher(OutboundPolicy(allowed), limits)
    return Sources(fetcher, hub=hub or HubSettings(), s3=S3Settings(), sign=lambda _: {})


@pytest.fixture(scope="module")
def server() -> Iterator[Source]:
    answers = {
        "/good": body(ROWS, ETag='"1"'),
        "/moved": status(302, Location="/good"),
        "/circle": status(302, Location="/circle"),
        "/private": status(302, Location="https://10.0.0.8/secrets"),
        "/metadata": status(302, Location="http://169.254.169.254/latest/meta-data"),
        "/loopback": status(302, Location="https://[::1]/secrets"),
        "/file": status(302, Location="file:///etc/passwd"),
        "/refused": status(403),
        "/busy": status(503),
        "/partial": status(206, ROWS),
        "/more": body(ROWS + b"{not a row", said=len(ROWS)),
        "/less": body(ROWS, said=len(ROWS) + 1),
        "/large": body(b"", said=MAX_BYTES + 1),
        "/endless": endless,
        "/silent": silent,
        "/dripping": dripping,
        "/no-http": lambda handler: handler.wfile.write(b"SSH-2.0-server\r\n") and None,
    }
    with source(answers) as running:
        yield running


def fetched(server: Source, path: str, folder: Path) -> FetchedSource:
    return sources().fetch(HttpsSource(kind="https", url=f"{server.url}{path}"), folder / "target")


@pytest.mark.parametrize("path", ["/good", "/moved"])
def test_a_file_arrives_whole_and_is_described(server: Source, tmp_path: Path, path: str) -> None:
    found = fetched(server, path, tmp_path)
    assert (tmp_path / "target").read_bytes() == ROWS
    assert found == FetchedSource(
        kind="https",
        uri=f"{server.url}{path}",
        revision=None,
        etag='"1"',
        bytes=len(ROWS),
        sha256=hashlib.sha256(ROWS).hexdigest(),
    )


def test_what_goes_beyond_the_announced_length_is_not_part_of_the_file(server: Source, tmp_path: Path) -> None:
    assert fetched(server, "/more", tmp_path).bytes == len(ROWS)
    assert (tmp_path / "target").read_bytes() == ROWS


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [
        ("/circle", RequestInvalid, "more than 5 times"),
        ("/private", RequestInvalid, "no public address"),
        ("/metadata", RequestInvalid, "by https"),
        ("/loopback", RequestInvalid, "no public address"),
        ("/file", RequestInvalid, "no https URL"),
        ("/refused", RequestInvalid, "answers 403"),
        ("/unknown", RequestInvalid, "answers 404"),
        ("/partial", RequestInvalid, "answers 206"),
        ("/busy", Unavailable, "answers 503"),
        ("/less", Unavailable, "broke off"),
        ("/no-http", Unavailable, "speaks no HTTP"),
        ("/large", PayloadTooLarge, "100,000 bytes"),
        ("/endless", PayloadTooLarge, "100,000 bytes"),
        ("/silent", Unavailable, r"nothing for 0\.5 s"),
        ("/dripping", Unavailable, "after 2 s"),
    ],
)
def test_a_source_that_misbehaves_is_left_with_a_reason(
    server: Source, tmp_path: Path, path: str, kind: type[CraftError], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        fetched(server, path, tmp_path)
    assert caught.value.param == "source"
    assert caught.value.hint


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/x", "https://[::ffff:10.0.0.1]/x", "http://example.com/x", "https://"]
)
def test_an_address_that_is_not_public_is_not_called(tmp_path: Path, url: str) -> None:
    with pytest.raises(RequestInvalid):
        sources(allowed=()).fetch(HttpsSource(kind="https", url=url), tmp_path / "target")


def test_secrets_of_a_url_are_not_kept(server: Source, tmp_path: Path) -> None:
    server.answers["/good?id=1&X-Amz-Signature=abc&sig=x"] = body(ROWS)
    found = fetched(server, "/good?id=1&X-Amz-Signature=abc&sig=x#part", tmp_path)
    assert found.uri == f"{server.url}/good?id=1&X-Amz-Signature=…&sig=…"


def test_a_full_disk_is_no_fault_of_the_source(server: Source) -> None:
    with pytest.raises(OSError, match="No space left"):
        sources().fetch(HttpsSource(kind="https", url=f"{server.url}/good"), Path("/dev/full"))


# The hub.


@pytest.mark.parametrize("revision", ["main", COMMIT, "refs/pr/1"])
def test_a_hub_file_is_kept_with_the_commit_that_answered(tmp_path: Path, revision: str) -> None:
    wanted = HubSource(kind="hub", repo="team/facts", revision=revision, file="data/train.jsonl")
    with source(hub(ROWS)) as server:
        found = sources(hub=HubSettings(url=server.url)).fetch(wanted, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == ROWS
    assert (found.revision, found.uri) == (COMMIT, f"hf://datasets/team/facts@{revision}/data/train.jsonl")
    assert found.etag == f'"{found.sha256}"'


def test_the_services_token_goes_to_the_hub_and_no_further(tmp_path: Path) -> None:
    with source({"/blob": body(ROWS)}) as store:
        answers = {
            "/datasets/team/facts/resolve/main/f": status(
                302, Location=f"http://localhost:{store.server_port}/blob", X_Repo_Commit=COMMIT
            )
        }
        with source(answers) as server:
            own = HubSettings(url=server.url, token=SecretStr("hf_secret"))
            asking = sources(hub=own, allowed=(HOST, "localhost"))
            asking.fetch(HubSource(kind="hub", repo="team/facts", file="f"), tmp_path / "target")
            assert server.asked == [("/datasets/team/facts/resolve/main/f", "Bearer hf_secret")]
            assert store.asked == [("/blob", None)]


def test_a_file_that_is_not_what_the_hub_announced_is_refused(tmp_path: Path) -> None:
    answers = hub(ROWS) | {"/blob": body(ROWS[:-1] + b" ")}
    wanted = HubSource(kind="hub", repo="team/facts", file="data/train.jsonl")
    with source(answers) as server, pytest.raises(Unavailable, match="not the file"):
        sources(hub=HubSettings(url=server.url)).fetch(wanted, tmp_path / "target")


@pytest.mark.parametrize(("file", "said"), [("none", "no such file at that revision"), ("other", "answers 404")])
def test_what_the_hub_does_not_have_is_said_in_its_words(tmp_path: Path, file: str, said: str) -> None:
    wanted = HubSource(kind="hub", repo="team/facts", file=file)
    with source(hub(ROWS)) as server, pytest.raises(RequestInvalid, match=said):
        sources(hub=HubSettings(url=server.url)).fetch(wanted, tmp_path / "target")


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "hub", "repo": "team/facts", "file": "../../../api/whoami-v2"},
        {"kind": "hub", "repo": "../x", "file": "f"},
        {"kind": "hub", "repo": "team/facts", "revision": "..", "file": "f"},
        {"kind": "hub", "repo": "team/facts", "file": "f?download=true"},
        {"kind": "hub", "repo": "team/facts", "file": "f", "token": "mine"},
        {"kind": "s3", "uri": "https://bucket/key"},
        {"kind": "s3", "uri": "s3://bucket"},
        {"kind": "s3", "uri": "s3://bucket/key", "endpoint": "https://example.com"},
        {"kind": "ftp", "url": "ftp://example.com/x"},
        {"kind": "https"},
    ],
    ids=json.dumps,
)
def test_a_request_names_no_other_place_and_no_credentials(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(DatasetSource).validate_python(given)
