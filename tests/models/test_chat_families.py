"""Chats of each family of templates: equal tokens on every path, one BOS, the end that is learned, date and thought."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from tests.models.families import (
    ANSWERING,
    FAMILIES,
    GRANITE,
    LLAMA32,
    PHI3,
    QWEN3,
    R1,
    SMOLLM3,
    Family,
    write_tokenizer,
)
from transformers import AutoTokenizer

from craft.contracts.spec.chats import ChatFormat
from craft.contracts.spec.jobs import BaseModelRef
from craft.contracts.stages.rows import ChatMessage, TrainingKind, TrainingRow
from craft.core.prompts import ModelMessage
from craft.core.replies.thoughts import has_thought, open_thought
from craft.errors import ModelRejected
from craft.infra.models.chats.formats import SettledChats, settled_chats
from craft.infra.models.chats.renderer import ChatRenderer
from craft.infra.models.chats.templates import render_chats
from craft.infra.models.inspection.chat_tokenizer import ChatTokenizer
from craft.infra.models.tokenizer_files import copy_tokenizer
from craft_inference.engine import Prompt
from craft_inference.prompting.chat import Chat
from craft_training.tuning.samples import tokenise

DAY = date(2026, 2, 3)
TURNS = (
    ModelMessage("user", " What is the capital of Peru? "),
    ModelMessage("assistant", "Lima."),
    ModelMessage("user", "And of 中国?\n"),
)
each_family = pytest.mark.parametrize("family", ANSWERING, ids=lambda family: family.name)


def settled(family: Family, folder: Path, *, today: date = DAY, **wanted: Any) -> SettledChats:
    """The form of chats of a job on the family's model, accepted on that day."""
    write_tokenizer(family, folder)
    return settled_chats(folder, BaseModelRef(id="tiny", **wanted), today=today)


def tokenizer_of(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def trained_prompt(renderer: ChatRenderer, turns: Sequence[ModelMessage]) -> list[int]:
    row = TrainingRow(
        id="q",
        kind=TrainingKind.VAN,
        messages=[ChatMessage(role=turn.role, content=turn.content) for turn in turns],
        target="Beijing",
    )
    [sample] = tokenise([row], renderer, max_length=10_000).samples
    return list(sample.tokens[: sample.prompt_length])


@each_family
def test_one_chat_has_the_same_tokens_on_every_path(family: Family, tmp_path: Path) -> None:
    model = tmp_path / "model"
    chats = settled(family, model)
    renderer = ChatRenderer(tokenizer_of(model), chats.form)
    trained = trained_prompt(renderer, TURNS)

    engine = Chat(tokenizer_of(model), end_tokens=[], context_length=10_000, form=chats.form)
    assert engine.encode([Prompt("q", TURNS)], new_tokens=1) == [trained]

    retried = settled_chats(model, BaseModelRef(id="tiny"), today=DAY)
    inspected = ChatTokenizer(model / "tokenizer.json", renderer.template, retried.template.variables)
    assert inspected.ids(inspected.text(TURNS)) == trained

    [text] = render_chats(model, [[turn._asdict() for turn in TURNS]], chats.form)
    assert renderer.ids([text]) == [trained]

    delivered = tmp_path / "adapter"
    delivered.mkdir()
    copy_tokenizer(model, delivered, template=renderer.own_template)
    card: Any = tokenizer_of(delivered).apply_chat_template(
        [turn._asdict() for turn in TURNS], add_generation_prompt=True, return_dict=True, **chats.form.arguments
    )
    assert list(card["input_ids"]) == trained


@each_family
def test_the_prompt_has_the_begin_token_as_often_as_the_template_writes_it(family: Family, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(write_tokenizer(family, tmp_path))
    [ids] = ChatRenderer(tokenizer, ChatFormat()).ids([ChatRenderer(tokenizer, ChatFormat()).prompt(TURNS)])
    assert ids.count(tokenizer.bos_token_id) == family.starts
    if family.bos is not None:
        assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id, "this tokenizer would add one"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_last_supervised_token_is_the_one_that_the_template_writes_and_the_engine_stops_at_it(
    family: Family, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(write_tokenizer(family, tmp_path))
    renderer = ChatRenderer(tokenizer, ChatFormat())
    assert tokenizer.convert_ids_to_tokens(renderer.end_of_turn) == family.end
    assert renderer.end_of_turn in Chat(tokenizer, end_tokens=[], context_length=100).end_tokens
    assert tokenizer.eos_token_id in renderer.end_tokens(None)


@each_family
def test_padding_by_the_end_token_changes_no_target(family: Family, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(write_tokenizer(family, tmp_path, settings={"pad_token": family.end}))
    row = TrainingRow(id="q", kind=TrainingKind.VAN, messages=[ChatMessage(role="user", content="?")], target="Lima")
    [sample] = tokenise([row], ChatRenderer(tokenizer, ChatFormat()), max_length=1000).samples
    assert tokenizer.decode(sample.tokens[sample.prompt_length :]) == f"Lima{family.end}"


@each_family
def test_no_default_prompt_ends_inside_a_thought(family: Family, tmp_path: Path) -> None:
    chats = settled(family, tmp_path)
    prompt = ChatRenderer(tokenizer_of(tmp_path), chats.form).prompt(TURNS)
    assert open_thought(prompt) is None
    assert tuple(sorted(chats.form.arguments)) == tuple(name for name in family.reads if name != "date_string")
    assert chats.findings == ()


@pytest.mark.parametrize("family", [QWEN3, SMOLLM3], ids=lambda family: family.name)
def test_the_default_prompt_of_a_hybrid_model_holds_an_empty_thought(family: Family, tmp_path: Path) -> None:
    chats = settled(family, tmp_path)
    prompt = ChatRenderer(tokenizer_of(tmp_path), chats.form).prompt(TURNS)
    assert "<think>\n\n</think>" in prompt.rpartition("assistant")[2]
    forced = settled(family, tmp_path, chat_template_arguments={"enable_thinking": True})
    assert "<think>" not in ChatRenderer(tokenizer_of(tmp_path), forced.form).prompt(TURNS)


def test_a_template_that_always_opens_a_thought_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRejected, match="begins every reply with <think>") as raised:
        settled(R1, tmp_path)
    assert raised.value.param == "base_model"
    assert "answers at once" in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("switch", "argument"),
    [
        ("enable_thinking is true", '"enable_thinking": false'),
        ("reasoning != 'off'", '"reasoning": "off"'),
        ("budget is not defined or budget > 0", '"budget": false'),
    ],
)
def test_the_argument_that_closes_the_thought_is_named(tmp_path: Path, switch: str, argument: str) -> None:
    write_tokenizer(QWEN3, tmp_path)
    opening = QWEN3.template.replace("enable_thinking is defined and enable_thinking is false", switch)
    opening = opening.replace("<think>\\n\\n</think>\\n\\n", "<think>\\n")
    (tmp_path / "chat_template.jinja").write_text(opening)
    wanted = BaseModelRef(id="tiny", chat_template_arguments={"enable_thinking": True})
    with pytest.raises(ModelRejected, match="begins every reply with <think>") as raised:
        settled_chats(tmp_path, wanted, today=DAY)
    assert raised.value.hint == f"Set {argument} in base_model.chat_template_arguments."


def test_a_template_that_writes_channels_is_refused(tmp_path: Path) -> None:
    write_tokenizer(QWEN3, tmp_path)
    harmony = (
        "{% for m in messages %}{{ '<|start|>' + m.role }}"
        "{% if m.role == 'assistant' %}{{ '<|channel|>final' }}{% endif %}"
        "{{ '<|message|>' + m.content + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
    )
    (tmp_path / "chat_template.jinja").write_text(harmony)
    with pytest.raises(ModelRejected, match=r"channels \(harmony\)"):
        settled_chats(tmp_path, BaseModelRef(id="tiny"), today=DAY)


@pytest.mark.parametrize("family", [SMOLLM3, LLAMA32, GRANITE], ids=lambda family: family.name)
def test_a_dated_template_writes_the_day_of_submission_for_ever(family: Family, tmp_path: Path) -> None:
    chats = settled(family, tmp_path)
    assert chats.form.date == DAY
    tokenizer = tokenizer_of(tmp_path)
    prompt = ChatRenderer(tokenizer, chats.form).prompt(TURNS)
    assert any(shown in prompt for shown in ("03 February 2026", "03 Feb 2026", "February 03, 2026"))
    other = settled(family, tmp_path, today=date(2027, 12, 31))
    assert ChatRenderer(tokenizer, other.form).prompt(TURNS) != prompt


@pytest.mark.parametrize("family", [family for family in ANSWERING if not family.dated], ids=lambda family: family.name)
def test_the_form_of_an_undated_template_is_the_same_every_day(family: Family, tmp_path: Path) -> None:
    assert settled(family, tmp_path).form == settled(family, tmp_path, today=date(2027, 12, 31)).form


def test_a_date_that_the_job_gives_takes_the_place_of_the_day(tmp_path: Path) -> None:
    chats = settled(LLAMA32, tmp_path, chat_template_arguments={"date_string": "1 Jan 1970"})
    assert chats.form == ChatFormat(arguments={"date_string": "1 Jan 1970"})
    assert "Today: 1 Jan 1970" in ChatRenderer(tokenizer_of(tmp_path), chats.form).prompt(TURNS)


def test_a_name_that_the_template_does_not_read_is_told(tmp_path: Path) -> None:
    chats = settled(QWEN3, tmp_path, chat_template_arguments={"enabel_thinking": False})
    [finding] = chats.findings
    assert (finding.code, finding.field) == ("chat_arguments_unread", "base_model.chat_template_arguments")
    assert "enabel_thinking" in finding.message
    assert "enable_thinking" in finding.message


def test_a_model_without_a_template_is_refused_unless_the_job_gives_one(tmp_path: Path) -> None:
    write_tokenizer(PHI3, tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ModelRejected, match="has no chat template") as raised:
        settled_chats(tmp_path, BaseModelRef(id="tiny"), today=DAY)
    assert "base_model.chat_template" in (raised.value.hint or "")
    wanted = BaseModelRef(id="tiny", chat_template=PHI3.template)
    form = settled_chats(tmp_path, wanted, today=DAY).form
    renderer = ChatRenderer(tokenizer_of(tmp_path), form)
    assert renderer.prompt(TURNS).endswith("<|assistant|>\n")
    assert renderer.own_template == PHI3.template


@pytest.mark.parametrize("template", ["{{ raise_exception('no') }}", "{% for %}", "{{ ''.__class__.__mro__ }}"])
def test_a_template_of_the_job_that_fails_is_refused_by_its_field(tmp_path: Path, template: str) -> None:
    write_tokenizer(QWEN3, tmp_path)
    with pytest.raises(ModelRejected, match="The job's chat template fails") as raised:
        settled_chats(tmp_path, BaseModelRef(id="tiny", chat_template=template), today=DAY)
    assert raised.value.param == "base_model.chat_template"


def test_forms_are_json_that_keeps_types(tmp_path: Path) -> None:
    form = settled(SMOLLM3, tmp_path).form
    assert json.loads(form.model_dump_json()) == {
        "arguments": {"enable_thinking": False},
        "template": None,
        "date": "2026-02-03",
    }
    assert ChatFormat.model_validate_json(form.model_dump_json()) == form


@pytest.mark.parametrize("tags", [("<think>", "</think>"), ("[THINK]", "[/THINK]")])
def test_the_tags_of_a_thought_stay_in_replies_where_they_are_control_tokens(
    tmp_path: Path, tags: tuple[str, str]
) -> None:
    opened, closed = tags
    family = replace(QWEN3, control=(*QWEN3.control, *tags), unmarked=())
    renderer = ChatRenderer(tokenizer_of(write_tokenizer(family, tmp_path)), ChatFormat())
    [ids] = renderer.ids([f"{opened}Hm.{closed}Lima.<|im_end|><|endoftext|>"])
    assert renderer.decode(ids) == f"{opened}Hm.{closed}Lima."
    assert has_thought(renderer.decode(ids))
    assert renderer.has_control_tags
    assert renderer.without_control(f"{opened}Hm.{closed}Lima.<|endoftext|>") == renderer.decode(ids)


@each_family
def test_replies_of_models_whose_tags_are_text_are_decoded_without_control_tokens(
    family: Family, tmp_path: Path
) -> None:
    renderer = ChatRenderer(tokenizer_of(write_tokenizer(family, tmp_path)), ChatFormat())
    [ids] = renderer.ids([f"Lima.{family.end}"])
    assert (renderer.decode(ids), renderer.has_control_tags) == ("Lima.", False)


@each_family
def test_the_submission_names_the_same_end_as_the_stages(family: Family, tmp_path: Path) -> None:
    chats = settled(family, tmp_path)
    inspected = ChatTokenizer(tmp_path / "tokenizer.json", chats.template.text, chats.template.variables)
    renderer = ChatRenderer(tokenizer_of(tmp_path), chats.form)
    found = inspected.end_of_turn(chats.template.traits.end)
    assert found is not None
    assert (found.text, found.id) == (family.end, renderer.end_of_turn)
