"""Results of a job: its artifacts, its report, its adapters."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from craft.contracts.public.jobs import ArtifactList
from craft.contracts.stages.names import REPORT, package_stage
from craft.contracts.stages.rows import ADAPTER_ARCHIVE, REPORT_HTML, REPORT_JSON
from craft.core.strategies import Strategy
from craft.errors import ArtifactDamaged, Conflict, NotFound, RangeNotSatisfiable, RequestInvalid
from craft.infra.http.openapi import documented
from craft.infra.http.turns import Turns
from craft_gateway.access.authorisation import JOBS, CallerOf, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.http.responses import UNCHANGED, cached, download, etag_of, matches
from craft_gateway.job_views.reader import JobReader
from craft_gateway.job_views.report_sections import estimate_in_html, estimate_in_json, reuse_in_html, reuse_in_json
from craft_gateway.job_views.stored_results import StoredResults

_JSON, _HTML, _ARCHIVE = "application/json", "text/html", "application/gzip"
# The report carries its own style, script and pictures; it may fetch nothing and be framed nowhere.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_UNFINISHED = {**UNCHANGED, **documented(NotFound, Conflict, ArtifactDamaged)}
_RANGES = "`bytes=START-`: go on with a download that broke off. What is no single range is ignored."
_TAR = {_ARCHIVE: {"schema": {"type": "string"}}}
_IfNoneMatch = Annotated[str | None, Header(max_length=4000)]


def router(owners: OwnerLookup, reader: JobReader, stored: StoredResults, results: Turns) -> APIRouter:
    """The routes over these objects."""
    routes = APIRouter(tags=["results"], dependencies=authorised(owners, JOBS))

    @routes.get("/jobs/{job_id}/artifacts", operation_id="listArtifacts", responses=documented(NotFound))
    def list_artifacts(job_id: str) -> ArtifactList:
        """Artifacts that the job's stages have written so far, file by file, with counts and costs."""
        return reader.artifacts(job_id)

    _reports(routes, reader, stored, results)

    @routes.get(
        "/jobs/{job_id}/adapter",
        operation_id="downloadAdapter",
        response_class=Response,
        responses={
            200: {"description": "tar.gz in PEFT layout.", "content": _TAR},
            206: {"description": "The part that `Range` asks for.", "content": _TAR},
            **UNCHANGED,
            **documented(NotFound, Conflict, ArtifactDamaged, RangeNotSatisfiable, RequestInvalid),
        },
    )
    async def download_adapter(
        job_id: str,
        caller: CallerOf,
        strategy: Annotated[Strategy | None, Query(description="Needed where the job has several.")] = None,
        if_none_match: _IfNoneMatch = None,
        asked: Annotated[str | None, Header(alias="Range", max_length=4000, description=_RANGES)] = None,
        if_range: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Response:
        """A finished adapter. It is there as soon as its strategy is packaged, before the whole job is done."""

        def adapter() -> Response:
            chosen = reader.chosen_strategy(job_id, strategy)
            ref = reader.output(job_id, package_stage(chosen))
            name = f"{job_id}-{chosen.value}.tar.gz"
            # Artifacts never change, so their digest and the name are the entity tag.
            etag = etag_of(f"{ref.digest}-{ADAPTER_ARCHIVE}")
            headers = {**cached(etag), "X-Content-Type-Options": "nosniff"}
            if matches(if_none_match, etag):
                return Response(status_code=304, headers=headers)
            path = stored.folder(job_id, package_stage(chosen), ref) / ADAPTER_ARCHIVE
            return download(
                path, name=name, media_type=_ARCHIVE, headers=headers, range_header=asked, if_range=if_range
            )

        # Its bytes are verified before they are sent, which takes seconds for a large one.
        return await results.run(caller.team, adapter)

    return routes


def _reports(routes: APIRouter, reader: JobReader, stored: StoredResults, results: Turns) -> None:
    def report(job_id: str, if_none_match: str | None, *, html: bool) -> Response:
        ref = reader.output(job_id, REPORT)
        name, media_type = (REPORT_HTML, _HTML) if html else (REPORT_JSON, _JSON)
        etag = etag_of(f"{ref.digest}-{name}")
        headers = {**cached(etag), "X-Content-Type-Options": "nosniff", "Vary": "Accept"}
        if matches(if_none_match, etag):
            return Response(status_code=304, headers=headers)
        content = (stored.folder(job_id, REPORT, ref) / name).read_bytes()
        reused, outcome = reader.reused(job_id), reader.job(job_id).estimate_outcome
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
    async def get_report(
        job_id: str,
        caller: CallerOf,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
        if_none_match: _IfNoneMatch = None,
    ) -> Response:
        """The finished report."""
        return await results.run(caller.team, report, job_id, if_none_match, html=_prefers_html(accept))

    @routes.get(
        "/jobs/{job_id}/report.json",
        operation_id="getReportJson",
        response_class=Response,
        responses={200: {"content": {_JSON: {"schema": {"type": "object"}}}, "description": "JSON."}, **_UNFINISHED},
    )
    async def get_report_json(job_id: str, caller: CallerOf, if_none_match: _IfNoneMatch = None) -> Response:
        """The finished report as JSON."""
        return await results.run(caller.team, report, job_id, if_none_match, html=False)

    @routes.get(
        "/jobs/{job_id}/report.html",
        operation_id="getReportHtml",
        response_class=Response,
        responses={200: {"content": {_HTML: {"schema": {"type": "string"}}}, "description": "HTML."}, **_UNFINISHED},
    )
    async def get_report_html(job_id: str, caller: CallerOf, if_none_match: _IfNoneMatch = None) -> Response:
        """The finished report as one page of HTML that needs no network."""
        return await results.run(caller.team, report, job_id, if_none_match, html=True)


def _prefers_html(accept: str) -> bool:
    """True if HTML comes before JSON in Accept: browsers name it first, and every other client gets JSON."""
    html, json = accept.find(_HTML), accept.find(_JSON)
    return html >= 0 and (json < 0 or html < json)
