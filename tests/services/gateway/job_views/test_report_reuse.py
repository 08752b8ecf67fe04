import json

from craft.contracts.documents.report import reuse_mark
from craft_gateway.job_views.report_sections import reuse_in_html, reuse_in_json

REUSED = ["ingest", "tune:cor-rait"]


def test_marks_become_words_and_nothing_else_changes() -> None:
    page = f"<td>{reuse_mark('ingest')}</td><td>{reuse_mark('tune:craft')}</td><td>{reuse_mark('tune:cor-rait')}</td>é"
    shown = reuse_in_html(page.encode(), REUSED).decode()
    assert shown == "<td>reused</td><td>computed</td><td>reused</td>é"
    assert reuse_in_html(shown.encode(), []) == shown.encode()


def test_what_a_user_wrote_is_no_mark() -> None:
    page = b"<p>&lt;!--reuse ingest--&gt; <!--reuse <b>--></p>"
    assert reuse_in_html(page, REUSED) == page


def test_the_document_says_it_for_each_stage() -> None:
    document = {"name": "ü", "cost": [{"stage": "ingest", "reused": None}, {"stage": "report", "seconds": 0.1}]}
    shown = json.loads(reuse_in_json(json.dumps(document).encode(), REUSED))
    assert [row["reused"] for row in shown["cost"]] == [True, False]
    assert shown["name"] == "ü"
