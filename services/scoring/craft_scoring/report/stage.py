"""The stage report: `report.json` and `report.html` from every artifact of a job."""

from time import monotonic

from craft.contracts.stages.artifacts import Cost, StageResult
from craft.contracts.stages.parameters import ReportParameters
from craft.contracts.stages.rows import REPORT_HTML, REPORT_JSON
from craft.infra.stage.context import StageContext
from craft_scoring.report.document import report_document
from craft_scoring.report.inputs import read_results
from craft_scoring.report.page import render


def report(parameters: ReportParameters, context: StageContext) -> StageResult:
    """Write both forms of the report. They do not depend on the time or place of their making."""
    started = monotonic()
    results = read_results(parameters, context)
    document = report_document(results)
    (context.output / REPORT_JSON).write_text(document.model_dump_json(indent=1), encoding="utf-8")
    (context.output / REPORT_HTML).write_text(render(results, document), encoding="utf-8")
    return StageResult(
        counts={"sets": len(document.sets), "strategies": len(document.strategies)},
        cost=Cost(seconds=monotonic() - started),
    )
