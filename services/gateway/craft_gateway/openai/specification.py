"""What OpenAI's fine-tuning asks for as a job's specification: pure; what would mean something else is refused."""

from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from craft.contracts.openai.tuning import TuningHyperparameters, TuningJobRequest
from craft.contracts.spec.jobs import JobSpec, TrainingSettings
from craft.core.questions import Task
from craft.errors import RequestInvalid, UserError
from craft_gateway.openai.ids import own_id

API_LABEL = "craft.api"
"""Marks the jobs that came in OpenAI's form: they alone are listed there, and deployed once they have succeeded."""
API_VALUE = "openai"
VALIDATION_NAME = "validation"
_BEYOND = frozenset(
    {"strategies", "split", "probe", "rehearsal", "selection", "training", "evaluation_settings", "prompts", "priority"}
)
_SETTING = {"n_epochs": "epochs", "batch_size": "batch_size", "learning_rate_multiplier": "learning_rate"}
_PARAMS = {
    "dataset.id": "training_file",
    "evaluation.0.dataset": "validation_file",
    "base_model": "model",
    "base_model.id": "model",
}


def specification(request: TuningJobRequest) -> JobSpec:
    """Raises RequestInvalid, which names the member, or RequestValidationError."""
    settings = _beyond(request)
    settings["training"] = _training(request, settings.get("training", {}))
    body: dict[str, Any] = {
        **settings,
        "name": request.suffix,
        "base_model": {"id": request.model},
        "dataset": {"id": _dataset(request.training_file, "training_file")},
        "task": Task.OPEN_ENDED,
        "labels": _labels(request.metadata or {}),
    }
    if request.validation_file is not None:
        validation = _dataset(request.validation_file, "validation_file")
        body["evaluation"] = [{"dataset": validation, "name": VALIDATION_NAME}]
    if request.seed is not None:
        body["seed"] = request.seed
    try:
        return JobSpec.model_validate(body)
    except ValidationError as error:
        told = [{**each, "loc": ("body", *_place(each["loc"]))} for each in error.errors()]
        raise RequestValidationError(told) from None


def in_openais_words(error: UserError) -> UserError:
    """A refusal of the job, naming the member that the caller gave."""
    param = error.param or ""
    shown = _PARAMS.get(param, f"craft.{param}" if param.split(".")[0] in _BEYOND else param or None)
    error.param = shown
    return error


def _beyond(request: TuningJobRequest) -> dict[str, Any]:
    if request.integrations:
        raise RequestInvalid(
            "Integrations are not offered.", hint="Read the job's events and report instead.", param="integrations"
        )
    unknown = sorted(set(request.craft or {}) - _BEYOND)
    if unknown:
        raise RequestInvalid(
            f"`craft` takes no {unknown[0][:100]}.", hint=f"It takes {', '.join(sorted(_BEYOND))}.", param="craft"
        )
    return dict(request.craft or {})


def _training(request: TuningJobRequest, further: object) -> object:
    wanted = _hyperparameters(request)
    given = {name: getattr(wanted, name) for name in _SETTING if getattr(wanted, name) not in {None, "auto"}}
    if not isinstance(further, Mapping):
        return further  # the specification's own check says what is wrong with it
    for name in given:
        if _SETTING[name] in further:
            raise RequestInvalid(f"{name} is given twice.", hint="Leave it out of `craft.training`.", param=name)
    if "learning_rate_multiplier" in given:
        given["learning_rate_multiplier"] *= TrainingSettings().learning_rate
    return {**further, **{_SETTING[name]: value for name, value in given.items()}}


def _hyperparameters(request: TuningJobRequest) -> TuningHyperparameters:
    method, older = request.method, request.hyperparameters
    if method is None:
        return older or TuningHyperparameters()
    if method.type != "supervised" or method.dpo is not None or method.reinforcement is not None:
        raise RequestInvalid(
            f"The method {method.type[:100]} is not offered: jobs here are supervised.",
            hint='Say {"type": "supervised"}, or leave `method` out.',
            param="method.type",
        )
    newer = method.supervised.hyperparameters if method.supervised else None
    if newer is not None and older is not None:
        raise RequestInvalid(
            "Hyperparameters are given twice.", hint="Leave the older `hyperparameters` out.", param="hyperparameters"
        )
    return newer or older or TuningHyperparameters()


def _labels(metadata: Mapping[str, str]) -> dict[str, str]:
    if API_LABEL in metadata:
        raise RequestInvalid(f"The key {API_LABEL} is taken.", hint="Choose another one.", param="metadata")
    return {**metadata, API_LABEL: API_VALUE}


def _dataset(file_id: str, param: str) -> str:
    found = own_id(file_id, "file")
    if found is None:
        raise RequestInvalid(
            f"There is no file {file_id!r}.", hint="Upload it with purpose fine-tune: POST /v1/files.", param=param
        )
    return found


def _place(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    known = _PARAMS.get(".".join(str(part) for part in location))
    return (known,) if known else ("craft", *location) if location and location[0] in _BEYOND else location
