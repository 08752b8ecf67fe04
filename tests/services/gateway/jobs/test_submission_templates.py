"""A hostile chat template is refused when a job is submitted, and nothing is queued."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from tests.services.gateway.rigs.public_rig import MODEL, Rig, body, open_rig

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as rig:
        yield rig


@pytest.mark.parametrize("call", ["/craft/jobs", "/craft/jobs/validate"])
@pytest.mark.parametrize("template", [LOOP, "{{ 'x' * 10 ** 10 }}", "{{ ''.__class__.__mro__ }}"])
def test_a_model_with_a_hostile_template_is_refused(rig: Rig, call: str, template: str) -> None:
    (rig.models / MODEL / "chat_template.jinja").write_text(template)
    began = time.monotonic()
    answer = rig.post(call, json=body())
    problem = answer.json()
    assert time.monotonic() - began < 10
    assert (answer.status_code, problem["code"], problem["param"]) == (422, "model_unsupported", "base_model")
    assert "chat template" in problem["detail"]
    assert problem["hint"]
    assert rig.get("/craft/jobs").json()["data"] == []


def test_a_model_with_an_honest_template_is_taken(rig: Rig) -> None:
    template = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    (rig.models / MODEL / "chat_template.jinja").write_text(template)
    assert rig.submit()


THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
DATED = "Today is {{ strftime_now('%d %b %Y') }}.\n" + THINKING


@pytest.mark.parametrize("call", ["/craft/jobs", "/craft/jobs/validate"])
def test_a_job_that_asks_for_a_thought_is_refused_and_told_how_to_leave_it_out(rig: Rig, call: str) -> None:
    (rig.models / MODEL / "chat_template.jinja").write_text(THINKING)
    thinking = {"id": MODEL, "chat_template_arguments": {"enable_thinking": True}}
    answer = rig.post(call, json=body(base_model=thinking))
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "model_unsupported")
    assert problem["param"] == "base_model.chat_template_arguments"
    assert "begins every reply with <think>" in problem["detail"]
    assert problem["hint"] == 'Set "enable_thinking": false in base_model.chat_template_arguments.'


def test_a_hybrid_model_is_taken_without_its_thought(rig: Rig) -> None:
    (rig.models / MODEL / "chat_template.jinja").write_text(THINKING)
    model = rig.get(f"/craft/jobs/{rig.submit()}").json()["resolved"]["model"]
    assert model["chat"] == {"arguments": {"enable_thinking": False}, "template": None, "date": None}


def test_arguments_that_a_template_does_not_read_change_no_key(rig: Rig) -> None:
    plain, other = rig.submit(), rig.submit(base_model={"id": MODEL, "chat_template_arguments": {"thinking": True}})
    models = [rig.get(f"/craft/jobs/{job}").json()["resolved"]["model"] for job in (plain, other)]
    assert models[0] == models[1]
    assert [each["code"] for each in rig.get(f"/craft/jobs/{other}").json()["findings"]] == ["chat_arguments_unread"]


def test_the_day_of_submission_is_kept_where_the_template_writes_it(rig: Rig) -> None:
    (rig.models / MODEL / "chat_template.jinja").write_text(DATED)
    before = datetime.now(UTC).date()
    chat = rig.get(f"/craft/jobs/{rig.submit()}").json()["resolved"]["model"]["chat"]
    assert date.fromisoformat(chat["date"]) in {before, datetime.now(UTC).date()}


def test_a_model_without_a_template_is_taken_with_the_jobs_own(rig: Rig) -> None:
    (rig.models / MODEL / "chat_template.jinja").unlink()
    refused = rig.post("/craft/jobs", json=body())
    assert (refused.status_code, refused.json()["code"]) == (422, "model_unsupported")
    assert "base_model.chat_template" in refused.json()["hint"]
    job = rig.submit(base_model={"id": MODEL, "chat_template": THINKING})
    assert rig.get(f"/craft/jobs/{job}").json()["resolved"]["model"]["chat"]["template"] == THINKING


@pytest.mark.parametrize("template", [LOOP, "{{ 'x' * 10 ** 10 }}", "{{ ''.__class__.__mro__ }}"])
def test_a_hostile_template_in_the_job_is_refused(rig: Rig, template: str) -> None:
    answer = rig.post("/craft/jobs", json=body(base_model={"id": MODEL, "chat_template": template}))
    assert (answer.status_code, answer.json()["param"]) == (422, "base_model.chat_template")
