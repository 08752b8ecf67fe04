"""Chat templates run in a limited child; one that loops, takes memory, breaks out or fails is refused."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.infra.models.test_folders import model
from tests.tiny_model import CHAT_TEMPLATE
from transformers.utils.chat_template_utils import render_jinja_template

from craft.errors import ModelRejected
from craft.infra.models.chats.sandbox import ChatTemplate
from craft.infra.models.chats.templates import check_chat_template
from craft.infra.models.chats.traits import CONVERSATIONS
from craft.infra.models.folders import ModelFolders

SMOLLM2 = Path(os.environ.get("CRAFT_MODELS_DIR") or ".craft/models") / "HuggingFaceTB/SmolLM2-135M-Instruct"
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}" + CHAT_TEMPLATE
LIMIT_SECONDS = 2.0


def folder(path: Path, template: object = None, *, file: str | None = None, **settings: object) -> Path:
    """A tokenizer's files, with the template in tokenizer_config.json or in a separate file."""
    path.mkdir(parents=True, exist_ok=True)
    described = settings if template is None else {**settings, "chat_template": template}
    (path / "tokenizer_config.json").write_text(json.dumps(described))
    if file is not None:
        (path / "chat_template.jinja").write_text(file, encoding="utf-8")
    return path


def refusal(path: Path) -> ModelRejected:
    with pytest.raises(ModelRejected) as caught:
        check_chat_template(path)
    assert (caught.value.code, caught.value.param) == ("model_unsupported", "base_model")
    return caught.value


def test_a_folder_without_a_template_passes(tmp_path: Path) -> None:
    check_chat_template(tmp_path)
    check_chat_template(folder(tmp_path, chat_template=None))


@pytest.mark.parametrize(
    "template",
    [
        CHAT_TEMPLATE,
        NO_SYSTEM,
        "水 naïve 🧪 \u202e{{ bos_token + messages[0]['content'] }}",
        "{{ strftime_now('%d %b %Y') }}{{ messages | tojson(indent=2) }}{% for m in messages %}{% break %}{% endfor %}",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}{% set n = namespace(x=dict(a=1)) %}{{ n.x }}",
        [{"name": "default", "template": CHAT_TEMPLATE}, {"name": "rag", "template": "{{ documents[0].title }}"}],
        {"default": CHAT_TEMPLATE},
    ],
)
def test_templates_of_honest_models_pass(tmp_path: Path, template: object) -> None:
    check_chat_template(folder(tmp_path, template))


def test_the_default_models_template_passes() -> None:
    if not SMOLLM2.is_dir():
        pytest.fail(f"{SMOLLM2} is missing: `craft models fetch` makes it")
    check_chat_template(SMOLLM2)


@pytest.mark.parametrize(
    "template",
    [
        LOOP,
        "{{ 9 ** (9 ** 9) }}",
        "{% if messages[0].role == 'system' %}" + LOOP + "{% endif %}" + CHAT_TEMPLATE,
        "{% if not add_generation_prompt %}" + LOOP + "{% endif %}" + CHAT_TEMPLATE,
        "{% if eos_token == 'evil' %}" + LOOP + "{% endif %}" + CHAT_TEMPLATE,
    ],
    ids=["nested loops", "one long operation", "for a system message", "for a whole turn", "for its own end token"],
)
def test_an_endless_loop_is_stopped_within_two_seconds(tmp_path: Path, template: str) -> None:
    began = time.monotonic()
    check_chat_template(folder(tmp_path / "honest", CHAT_TEMPLATE + f"{{# {tmp_path} #}}"))
    start = time.monotonic() - began
    began = time.monotonic()
    error = refusal(folder(tmp_path / "evil", template, eos_token={"content": "evil"}))
    assert time.monotonic() - began < LIMIT_SECONDS + max(0.5, 4 * start)
    assert "takes longer than 2 s" in error.message
    assert "chat_template.jinja" in (error.hint or "")


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 10 ** 10 }}",
        "{% set n = namespace(l=[0]) %}{% for i in range(40) %}{% set n.l = n.l + n.l %}{% endfor %}{{ n.l | length }}",
        "{% set n = namespace(s='xy') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
        "{{ '%999999999d' | format(1) }}",
    ],
    ids=["one long text", "doubled lists", "doubled texts", "a wide format"],
)
def test_a_template_that_eats_memory_is_refused(tmp_path: Path, template: str) -> None:
    assert "needs more than 64 MiB" in refusal(folder(tmp_path, template)).message


def test_megabytes_of_output_are_refused(tmp_path: Path) -> None:
    template = "{% for i in range(2000) %}{{ 'x' * 1000 }}{% endfor %}"
    assert "writes more than" in refusal(folder(tmp_path, template)).message


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ (''|attr('__class__')).__mro__ }}",
        "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
        "{{ raise_exception.__globals__['sys'].modules }}",
        "{{ namespace(__class__=1) }}",
        "{% set n = namespace() %}{% set n.__init__ = 1 %}",
        "{{ messages.append(1) }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.system('touch canary') }}",
        "{% extends 'x' %}",
    ],
)
def test_a_way_out_of_the_sandbox_is_refused(tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "fails with" in refusal(folder(tmp_path, template)).message
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('never') }}",
        "{% for m in messages %}",
        "{{ no_such_token + 'x' }}",
        "{{ messages[17].content.upper() }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ range(10 ** 9) }}",
        17,
        ["x"],
        [{"name": "default"}],
        [{"name": "tool_use", "template": CHAT_TEMPLATE}],
        {"default": 3},
        "x" * (2**20 + 1),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(tmp_path: Path, template: object) -> None:
    refusal(folder(tmp_path, template))


def test_a_named_template_that_is_never_used_may_fail_but_not_loop(tmp_path: Path) -> None:
    both = [{"name": "default", "template": CHAT_TEMPLATE}, {"name": "tool_use", "template": LOOP}]
    assert "takes longer" in refusal(folder(tmp_path, both)).message


def test_the_file_comes_before_the_configuration(tmp_path: Path) -> None:
    check_chat_template(folder(tmp_path / "a", "{{ raise_exception('old') }}", file=CHAT_TEMPLATE))
    refusal(folder(tmp_path / "b", CHAT_TEMPLATE, file="{{ raise_exception('new') }}"))
    extra = folder(tmp_path / "c", file=CHAT_TEMPLATE) / "additional_chat_templates"
    extra.mkdir()
    (extra / "rag.jinja").write_text("{{ 'x' * 10 ** 10 }}")
    refusal(extra.parent)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"a":' * 100_000, b" " * (16 * 2**20 + 1)])
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(content)
    refusal(tmp_path)


def test_the_outcome_is_remembered_by_what_the_template_is(tmp_path: Path) -> None:
    template = "{{ raise_exception(strftime_now('%S.%f')) }}"
    first = refusal(folder(tmp_path / "one", template)).message
    assert refusal(folder(tmp_path / "two", template)).message == first
    assert refusal(folder(tmp_path / "three", template + "{# another #}")).message != first


def test_a_model_is_refused_where_it_is_chosen_and_where_it_is_loaded(tmp_path: Path) -> None:
    path = folder(model(tmp_path), CHAT_TEMPLATE)
    folders = ModelFolders(tmp_path)
    ref = folders.find("owner/tiny").ref
    folder(path, "{{ raise_exception('never') }}")
    with pytest.raises(ModelRejected, match="never"):
        folders.find("owner/tiny")
    with pytest.raises(ModelRejected, match="never"):
        folders.locate(ref)


@pytest.mark.parametrize("depth", [100_000])
def test_a_configuration_nested_too_deep_is_refused(tmp_path: Path, depth: int) -> None:
    (model(tmp_path) / "config.json").write_text("[" * depth)
    with pytest.raises(ModelRejected, match=r"config\.json"):
        ModelFolders(tmp_path).find("owner/tiny")


@pytest.mark.parametrize(
    "template",
    [
        CHAT_TEMPLATE,
        "{{ bos_token }}\n  {% if tools %}\n x {% endif %}\n{{ messages | tojson }}{{ messages | tojson(indent=1) }}\n",
        "{% set n = namespace(self=1, seen=[]) %}{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}"
        "{% set n.seen = n.seen + [m.role] %}{% endfor %}{{ n.seen }}{{ dict(a=1) }}{{ dict.fromkeys(['k']) }}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}{{ documents is none }}",
        "{{ strftime_now('%Y') }}{{ tools is none }}{{ messages[0].role.title() }}",
    ],
)
def test_the_child_renders_what_transformers_renders(template: str) -> None:
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    for conversation in CONVERSATIONS:
        options: dict[str, Any] = {"add_generation_prompt": conversation.add_generation_prompt, **tokens}
        chat = [dict(message) for message in conversation.messages]
        rendered: Any = render_jinja_template([chat], chat_template=template, **options)
        assert ChatTemplate(template, tokens).render(conversation) == rendered[0][0]


def test_the_child_imports_nothing_heavy() -> None:
    code = "import sys, craft.infra.models.chats.child; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "jinja2" in loaded
    assert not {"torch", "transformers", "numpy", "pydantic"} & {*loaded}
