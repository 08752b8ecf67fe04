"""What a job made: its artifacts, its report, its adapters."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from craft.contracts.report_estimate import estimate_in_html, estimate_in_json
from craft.contracts.report_reuse import reuse_in_html, reuse_in_json
from craft.contracts.rows import ADAPTER_ARCHIVE, REPORT_HTML, REPORT_JSON
from craft.contracts.views import ArtifactList
from craft.core.selection import Strategy
from craft.errors import Conflict, NotFound, RangeNotSatisfiable, RequestInvalid
from craft.infra.http import documented
from craft_gateway.authorisation import JOBS, guarded
from craft_gateway.conditional import UNCHANGED, cached, etag_of, matches
from craft_gateway.downloads import download
from craft_gateway.routes_gateway import Gateway, chosen_strategy
from craft_gateway.views import REPORT_STAGE, package_stage

_JSON, _HTML, _ARCHIVE = "application/json", "text/html", "application/gzip"
# The report carries its own style, script and pictures; it may fetch nothing and be framed nowhere.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_UNFINISHED = {**UNCHANGED, **documented(NotFound, Conflict)}
_RANGES = "`bytes=START-`: go on with a download that broke off. What is no single range is ignored."
_TAR = {_ARCHIVE: {"schema": {"type": "string"}}}
_IfNoneMatch = Annotated[str | None, Header(max_length=4000)]


def router(gateway: Gateway) -> APIRouter:
    """The routes over one gateway."""
    routes = APIRouter(tags=["results"], dependencies=guarded(gateway.owners, JOBS))

    @routes.get("/jobs/{job_id}/artifacts", operation_id="listArtifacts", responses=documented(NotFound))
    def list_artifacts(job_id: str) -> ArtifactList:
        """What the job's stages have written so far, file by file, with counts and costs."""
        return gateway.reader.artifacts(job_id)

    _reports(routes, gateway)

    @routes.get(
        "/jobs/{job_id}/adapter",
        operation_id="downloadAdapter",
        response_class=Response,
        responses={
            200: {"description": "tar.gz in PEFT layout.", "content": _TAR},
            206: {"description": "The part that `Range` asks for.", "content": _TAR},
            **UNCHANGED,
            **documented(NotFound, Conflict, RangeNotSatisfiable, RequestInvalid),
        },
    )
    def download_adapter(
        job_id: str,
        strategy: Annotated[Strategy | None, Query(description="Needed where the job has several.")] = None,
        if_none_match: _IfNoneMatch = None,
        asked: Annotated[str | None, Header(alias="Range", max_length=4000, description=_RANGES)] = None,
        if_range: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Response:
        """A finished adapter. It is there as soon as its strategy is packaged, before the whole job is done."""
        chosen = chosen_strategy(gateway, job_id, strategy)
        ref = gateway.reader.output(job_id, package_stage(chosen))
        name = f"{job_id}-{chosen.value}.tar.gz"
        # Artifacts never change, so their digest and the name are the entity tag.
        etag = etag_of(f"{ref.digest}-{ADAPTER_ARCHIVE}")
        headers = {**cached(etag), "X-Content-Type-Options": "nosniff"}
        if matches(if_none_match, etag):
            return Response(status_code=304, headers=headers)
        path = gateway.store.open(ref) / ADAPTER_ARCHIVE
        return download(path, name=name, media_type=_ARCHIVE, headers=headers, asked=asked, if_range=if_range)

    return routes


def _reports(routes: APIRouter, gateway: Gateway) -> None:
    def report(job_id: str, if_none_match: str | None, *, html: bool) -> Response:
        ref = gateway.reader.output(job_id, REPORT_STAGE)
        name, media_type = (REPORT_HTML, _HTML) if html else (REPORT_JSON, _JSON)
        etag = etag_of(f"{ref.digest}-{name}")
        headers = {**cached(etag), "X-Content-Type-Options": "nosniff", "Vary": "Accept"}
        if matches(if_none_match, etag):
            return Response(status_code=304, headers=headers)
        content = (gateway.store.open(ref) / name).read_bytes()
        reused, outcome = gateway.reader.reused(job_id), gateway.reader.job(job_id).estimate_outcome
        if not html:
            shown = estimate_in_json(reuse_in_json(content, reused), outcome)
            return Response(shown, media_type=media_type, headers=headers)
        headers["Content-Security-Policy"] = _REPORT_POLICY
        page = estimate_in_html(reuse_in_html(content, reused), outcome)
        return Response(page, media_type=media_type, headers=headers)

    @routes.get(
        "/jobs/{job_id}/report",
        operation_id="getReport",
        response_class=Response,
        responses={
            200: {
                "description": "As HTML where `Accept` asks for it, else as JSON.",
                "content": {_JSON: {"schema": {"type": "object"}}, _HTML: {"schema": {"type": "string"}}},
            },
            **_UNFINISHED,
        },
    )
    def get_report(
        job_id: str,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
        if_none_match: _IfNoneMatch = None,
    ) -> Response:
        """The finished report."""
        return report(job_id, if_none_match, html=_prefers_html(accept))

    @routes.get(
        "/jobs/{job_id}/report.json",
        operation_id="getReportJson",
        response_class=Response,
        responses={200: {"content": {_JSON: {"schema": {"type": "object"}}}, "description": "JSON."}, **_UNFINISHED},
    )
    def get_report_json(job_id: str, if_none_match: _IfNoneMatch = None) -> Response:
        """The finished report as JSON."""
        return report(job_id, if_none_match, html=False)

    @routes.get(
        "/jobs/{job_id}/report.html",
        operation_id="getReportHtml",
        response_class=Response,
        responses={200: {"content": {_HTML: {"schema": {"type": "string"}}}, "description": "HTML."}, **_UNFINISHED},
    )
    def get_report_html(job_id: str, if_none_match: _IfNoneMatch = None) -> Response:
        """The finished report as one page of HTML that needs no network."""
        return report(job_id, if_none_match, html=True)


def _prefers_html(accept: str) -> bool:
    """Whether HTML comes before JSON in Accept; browsers name it first, and everything else gets JSON."""
    html, json = accept.find(_HTML), accept.find(_JSON)
    return html >= 0 and (json < 0 or html < json)
