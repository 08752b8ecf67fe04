"""Words for refused input: none of the checking library's own."""

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

# No public name gives them with their messages.
from pydantic_core._pydantic_core import list_all_errors

from craft.contracts.base import Contract
from craft.contracts.public import accounts, comparison, datasets, jobs, publishing, webhooks
from craft.contracts.services import inference, scoring, training
from craft.contracts.spec.jobs import JobSpec
from craft.contracts.validation import pattern_words, sentence, shown, validation_message

ERRORS: dict[str, Any] = {error["type"]: error for error in list_all_errors()}
OWN = {"value_error", "assertion_error"}
RAW = re.compile(
    r"Input should|should be|should match|should have|String |Field required|Extra inputs|dictionary|valid |[{}]"
)
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
DATASET = "dset_01jgywz3x4v5q6r7s8t9vawbxc"
LOADED = (accounts, comparison, datasets, inference, jobs, publishing, scoring, training, webhooks)


def refused(model: type[BaseModel], **given: object) -> dict[str, str]:
    """The messages about an input, by the path of each field."""
    with pytest.raises(ValidationError) as refusal:
        model.model_validate(given)
    errors = refusal.value.errors()
    return {".".join(map(str, error["loc"])): validation_message(error, body=model) for error in errors}


def job(**members: object) -> dict[str, str]:
    return refused(JobSpec, **{"base_model": MODEL, "dataset": DATASET, **members})


@pytest.mark.parametrize("kind", sorted(set(ERRORS) - OWN))
def test_no_kind_of_error_has_the_librarys_own_words(kind: str) -> None:
    known = ERRORS[kind]
    context = known.get("example_context") or {}
    error = {"type": kind, "loc": ("body", "x"), "input": 3, "msg": known["message_template_python"], "ctx": context}
    message = validation_message(error)
    assert not RAW.search(message)
    assert message[:1].islower()


@pytest.mark.parametrize("prefix", ["Value error, ", "Assertion failed, ", ""])
def test_our_own_validators_keep_their_words(prefix: str) -> None:
    error = {"type": "value_error", "loc": ("x",), "input": 3, "msg": f"{prefix}give one of them"}
    assert validation_message(error) == "give one of them"


def test_an_error_of_a_later_library_is_still_a_message() -> None:
    assert validation_message({"type": "invented_tomorrow", "loc": (), "msg": "Input should be new"}) == (
        "cannot be used here"
    )


def test_an_object_is_shown_by_an_example_of_its_own_fields() -> None:
    assert job(base_model=3) == {"base_model": f'must be an object such as {{"id": "{MODEL}"}}, not 3'}
    assert job(split=[], rehearsal={"training": "x"}) == {
        "split": 'must be an object such as {"held_out_fraction": 0.2}, not a list',
        "rehearsal.training": 'must be an object such as {"lora_r": 64}, not "x"',
    }
    assert job(evaluation=[3]) == {"evaluation.0": 'must be an object such as {"dataset": "…"}, not 3'}
    assert job(labels=3) == {"labels": "must be an object, not 3"}


def test_an_object_without_fields_is_shown_empty() -> None:
    class Nothing(Contract):
        """It has no fields."""

    class Around(Contract):
        """It has one."""

        inner: Nothing

    assert refused(Around, inner=3) == {"inner": "must be an object such as {}, not 3"}


def test_an_unknown_field_is_told_with_the_one_that_was_meant_or_with_those_that_there_are() -> None:
    assert job(strategie=[]) == {"strategie": "is not a field here: did you mean `strategies`?"}
    assert job(split={"zzz": 1}) == {"split.zzz": "is not a field here; there are held_out_fraction"}
    assert job(zzz=1)["zzz"].startswith("is not a field here; there are name, base_model, dataset, task")
    assert job(zzz=1)["zzz"].endswith(" …")
    assert validation_message({"type": "extra_forbidden", "loc": ("x",), "input": 1}) == "is not a field here"


def test_an_id_is_explained_by_an_example() -> None:
    assert job(dataset="DATASET") == {"dataset.id": f'must be an id such as {DATASET}, not "DATASET"'}
    assert job(dataset={"id": 3}) == {"dataset.id": "must be text, not 3"}


def test_numbers_texts_and_lists_are_told_their_bounds() -> None:
    told = job(seed=2.5, training={"epochs": 0, "learning_rate": "x"}, name="", strategies=[], labels={"a": 1})
    assert told == {
        "name": "must not be empty",
        "strategies": "must have at least 1 item, not 0",
        "training.epochs": "must be at least 1, not 0",
        "training.learning_rate": 'must be a number, not "x"',
        "seed": "must be a whole number, not 2.5",
        "labels.a": "must be text, not 1",
    }
    assert refused(webhooks.WebhookRequest)["url"] == "is missing"


def test_a_longer_name_of_a_type_is_not_taken_for_its_beginning() -> None:
    words = validation_message({"type": "time_delta_parsing", "loc": (), "input": "x", "msg": ""})
    assert words == 'must be a duration in seconds, not "x"'


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true"),
        ("x" * 100, f'"{"x" * 59}…"'),
        (10**100, "a number of many digits"),
        (-7, "-7"),
        (0.5, "0.5"),
        ({}, "an object"),
        ((), "a list"),
        (b"", "a value of another type"),
    ],
)
def test_a_value_is_shown_in_few_words(value: object, words: str) -> None:
    assert shown(value) == words


def test_a_message_and_its_field_make_a_sentence() -> None:
    assert sentence("seed", "must be a number") == "`seed` must be a number."
    assert sentence("dataset", "give one of them") == "`dataset`: give one of them."
    assert sentence(None, "is missing") == "Is missing."


def patterns(node: object) -> Iterator[tuple[str, list[object]]]:
    """All regular expressions of a JSON schema, each with the examples beside it."""
    if isinstance(node, dict):
        if isinstance(pattern := node.get("pattern"), str):
            yield pattern, node.get("examples", [])
        for inner in node.values():
            yield from patterns(inner)
    if isinstance(node, list):
        for inner in node:
            yield from patterns(inner)


@pytest.mark.parametrize("module", LOADED)
def test_every_pattern_of_a_contract_has_words_or_an_example(module: ModuleType) -> None:
    models = [model for model in vars(module).values() if isinstance(model, type(Contract))]
    found = [each for model in models for each in patterns(model.model_json_schema())]
    assert {
        pattern for pattern, examples in found if f"the form {pattern}" in pattern_words(pattern, examples)
    } == set()


def test_a_pattern_without_words_is_shown_by_the_fields_example() -> None:
    told = refused(publishing.HubTarget, kind="hub", repo="x")
    assert told == {"repo": 'must have the form of "acme/support-qa", not "x"'}
    assert pattern_words("^x$") == "must have the form ^x$"
    error = {"type": "string_pattern_mismatch", "loc": ("x",), "input": "y", "msg": "", "ctx": {"pattern": "^x$"}}
    assert validation_message(error, body=JobSpec) == 'must have the form ^x$, not "y"'
    assert validation_message(error | {"loc": ("name",)}, body=JobSpec) == 'must have the form ^x$, not "y"'


def test_a_model_and_a_dataset_may_be_named_by_a_text() -> None:
    long = {"base_model": {"id": "a/b", "revision": "v1"}, "dataset": {"id": DATASET}}
    assert JobSpec.model_validate({"base_model": "a/b@v1", "dataset": DATASET}) == JobSpec.model_validate(long)
    assert JobSpec.model_validate({"base_model": "a/b", "dataset": DATASET}).base_model.revision == "main"


@pytest.mark.parametrize("name", ["a/b@", "a/b@v1@v2", "@v1", "a/b/c", ""])
def test_a_text_that_names_no_model_is_refused_by_the_part_that_is_wrong(name: str) -> None:
    (field,) = job(base_model=name)
    assert field in {"base_model.id", "base_model.revision"}


def test_the_schema_shows_both_forms_of_a_request_and_one_of_an_answer() -> None:
    requested = TypeAdapter(JobSpec).json_schema(mode="validation")["properties"]
    answered = TypeAdapter(JobSpec).json_schema(mode="serialization")["properties"]
    for name in ("base_model", "dataset"):
        assert [form.get("type", "object") for form in requested[name]["anyOf"]] == ["object", "string"]
        assert "$ref" in answered[name]
