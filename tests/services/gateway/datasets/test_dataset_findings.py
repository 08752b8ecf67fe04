"""What was noticed in rows is told by each way to make a dataset, kept with it, and written into its artifact."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.services.gateway.rigs.dataset_rig import DatasetRig, dataset_rig, row_checking_rig
from tests.services.gateway.rigs.public_rig import Rig, body

from craft.infra.storage.artifacts import FolderStore

ENDED = {"question": "Who wrote Faust?", "answer": "Goethe</s>", "context": "A play."}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with row_checking_rig(tmp_path) as rig:
        yield rig


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def codes(view: dict[str, Any]) -> list[tuple[str, str, bool]]:
    return [(each["code"], each["severity"], each["accepted"]) for each in view["findings"]]


def test_an_error_finding_is_refused_in_each_way_and_accepted_in_each(tmp_path: Path) -> None:
    with dataset_rig(tmp_path) as both:

        def as_rows(*accept: str) -> httpx.Response:
            return both.send(rows=[ENDED], accept=list(accept))

        def as_file(*accept: str) -> httpx.Response:
            return both.upload(lines(ENDED), accept=",".join(accept))

        for send in (as_rows, as_file):
            answer = send()
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (422, "dataset_invalid")
            assert codes(problem) == [("control_tokens", "error", False), ("unread_context", "warning", False)]
            assert problem["findings"][0]["lines"] == [1]
            assert problem["findings"][0]["examples"] == ["Goethe</s>"]
            assert '"accept": ["control_tokens"]' in problem["hint"]
            made = send("control_tokens", "answer_base")
            assert made.status_code == 201, made.text
            assert codes(made.json()) == [("control_tokens", "warning", True), ("unread_context", "warning", False)]


def test_findings_stay_with_the_dataset_and_its_artifact(rig: Rig, tmp_path: Path) -> None:
    made = rig.post("/craft/datasets", json={"rows": [ENDED], "accept": ["control_tokens"]}).json()
    shown = rig.get(made["links"]["self"]).json()
    listed = rig.get("/craft/datasets").json()["data"][0]
    assert shown["findings"] == listed["findings"] == made["findings"]
    manifest = FolderStore(tmp_path / "artifacts").manifest(rig.registry.row(made["id"]).ref)
    assert [each.code.value for each in manifest.result.findings] == ["control_tokens", "unread_context"]


def test_the_same_rows_from_another_file_add_what_that_file_shows(rig: Rig) -> None:
    plain = {"question": "Who wrote Faust?", "answer": "Goethe"}
    first = rig.post("/craft/datasets", json={"rows": [plain]}).json()
    assert first["findings"] == []
    for _ in range(2):
        again = rig.post("/craft/datasets", json={"rows": [{**plain, "context": "A play."}]}).json()
        assert again["id"] == first["id"]
        assert codes(again) == [("unread_context", "warning", False)]
    assert codes(rig.get(first["links"]["self"]).json()) == [("unread_context", "warning", False)]


@pytest.mark.parametrize("accept", [["nonsense"], "control_tokens"])
def test_a_code_that_is_none_is_refused(rig: Rig, accept: object) -> None:
    answer = rig.post("/craft/datasets", json={"rows": [ENDED], "accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert answer.json()["param"].startswith("accept")


def test_a_form_says_the_base_of_the_keys_and_accepts_by_commas_or_repeatedly(tmp_path: Path) -> None:
    row = {"question": "Which?", "choices": ["x</s>", "&amp;"], "answer": 2}
    with dataset_rig(tmp_path) as both:
        wrong = both.upload(lines(row), task="multiple_choice", answer_base="2")
        assert (wrong.status_code, wrong.json()["param"]) == (422, "answer_base")
        form = {"task": "multiple_choice", "answer_base": "1", "accept": ["control_tokens", "number_lists,bars_split"]}
        made = both.rig.post("/craft/datasets", files={"file": ("f", lines(row))}, data=form)
        assert made.status_code == 201, made.text
        preview = both.rig.get(made.json()["links"]["preview"]).json()
        assert preview["rows"][0]["answer"] == 1


def test_several_columns_are_mapped_in_a_form_and_shown(tmp_path: Path) -> None:
    content = b"prompt,A,B,C,D,answer\nWhich gas do plants take in?,oxygen,carbon dioxide,neon,argon,B\n"
    columns = {"question": "prompt", "choices": ["A", "B", "C", "D"]}
    with dataset_rig(tmp_path) as both:
        made = both.uploaded(content, task="multiple_choice", columns=json.dumps(columns))
        assert made["columns"] == columns
        assert both.rig.get(made["links"]["self"]).json()["columns"] == columns


def test_inline_rows_of_a_job_are_checked_alike(rig: Rig) -> None:
    rows = [ENDED, {"question": "Who wrote Emma?", "answer": "Austen"}]
    answer = rig.post("/craft/jobs/validate", json=body(dataset={"rows": rows}))
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_invalid")
    assert codes(answer.json())[0] == ("control_tokens", "error", False)


def test_a_utf_16_file_has_the_same_words_in_both_apis(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    content = json.dumps(chat) + "\n"
    with dataset_rig(tmp_path) as both:
        for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
            own = both.upload(content.encode(encoding)).json()
            theirs = openai_upload(both, content.encode(encoding))
            assert "UTF-16" in own["detail"]
            assert own["detail"] in theirs
            assert "Save it as UTF-8" in theirs


def openai_upload(both: DatasetRig, content: bytes) -> str:
    answer = both.rig.post("/v1/files", files={"file": ("f.jsonl", content)}, data={"purpose": "fine-tune"})
    assert answer.status_code == 400
    message: str = answer.json()["error"]["message"]
    return message
