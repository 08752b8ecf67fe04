"""A hostile chat template is refused when a job is submitted, and nothing is queued."""

import time
from collections.abc import Iterator
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
