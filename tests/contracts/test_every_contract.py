"""Every model of every contract module: its schema renders, its examples are valid, its times are in UTC."""

import importlib
import inspect
import pkgutil
from datetime import datetime, timedelta, timezone

import pytest

import craft.contracts
from craft.contracts.base import Contract, rfc3339

MODULES = [
    importlib.import_module(found.name) for found in pkgutil.walk_packages(craft.contracts.__path__, "craft.contracts.")
]
MODELS = sorted(
    {
        model
        for module in MODULES
        for _, model in inspect.getmembers(module, inspect.isclass)
        if issubclass(model, Contract) and model.__module__ == module.__name__
    },
    key=lambda model: f"{model.__module__}.{model.__name__}",
)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_its_schema_renders_and_its_examples_are_valid(model: type[Contract]) -> None:
    assert model.model_json_schema()["type"] == "object"
    assert model.__doc__
    extra = model.model_config.get("json_schema_extra")
    examples = extra.get("examples", []) if isinstance(extra, dict) else []
    assert isinstance(examples, list)
    for example in examples:
        model.model_validate(example)


def test_a_time_is_shown_in_utc_with_milliseconds() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(moment) == "2026-01-02T01:04:05.678Z"
