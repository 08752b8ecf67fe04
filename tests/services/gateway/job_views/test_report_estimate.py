"""The estimate in a report: what is served, and what is left as it was."""

import json

from craft.contracts.documents.estimate import EstimateOutcome, StageOutcome
from craft_gateway.job_views.report_sections import estimate_in_html, estimate_in_json

PAGE = "<main><p>é</p></main><footer>end</footer>".encode()


def stage(name: str, seconds: float | None, **known: float) -> StageOutcome:
    values = {"estimated_seconds": None, "low": None, "high": None, **known}
    return StageOutcome(stage=name, seconds=seconds, reused=seconds is None, inside=None, **values)


def outcome(*stages: StageOutcome, compared: int = 1, ratio: float | None = 1.5) -> EstimateOutcome:
    return EstimateOutcome(
        stages=list(stages),
        compared=compared,
        estimated_seconds=10.0,
        seconds=15.0,
        ratio=ratio,
        queue_estimated_seconds=None,
        queue_seconds=None,
    )


def test_the_json_gets_the_comparison_and_keeps_the_rest() -> None:
    found = outcome(stage("tune:craft", 15.0, estimated_seconds=10.0))
    shown = json.loads(estimate_in_json('{"notes":["é"]}'.encode(), found))
    assert shown == {"notes": ["é"], "estimate": found.model_dump(mode="json")}
    assert json.loads(estimate_in_json(b"{}", None)) == {"estimate": None}


def test_the_page_gets_a_section_at_the_end_of_its_main_part() -> None:
    stages = (
        stage("tune:craft", 15.0, estimated_seconds=10.0, low=5.0, high=20.0),
        stage("probe", 1.0),
        stage("x", None),
    )
    page = estimate_in_html(PAGE, outcome(*stages)).decode()
    assert page.endswith("</section></main><footer>end</footer>")
    assert "<tr><td>tune:craft</td><td>10.0</td><td>5.0 to 20.0</td><td>15.0</td></tr>" in page
    assert "<tr><td>probe</td><td>unknown</td><td></td><td>1.0</td></tr>" in page
    assert "<td>x</td>" not in page
    assert "1.50 times" in page
    assert "times" not in estimate_in_html(PAGE, outcome(*stages, ratio=None)).decode()


def test_a_page_is_left_alone_where_there_is_nothing_to_tell() -> None:
    assert estimate_in_html(PAGE, None) == PAGE
    assert estimate_in_html(PAGE, outcome(compared=0)) == PAGE
    assert estimate_in_html(b"<p>no main part</p>", outcome()) == b"<p>no main part</p>"
