"""Translates a request of OpenAI's fine-tuning API into a job's specification, by pure functions.

Settings that have another meaning here are refused.
"""

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
"""Marks jobs that OpenAI's API created: only they are listed there, and deployed after their success."""
API_VALUE = "openai"
VALIDATION_NAME = "validation"
_CRAFT_MEMBERS = frozenset(
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
    """Return the specification. Raises RequestInvalid, which names the member, or RequestValidationError."""
    settings = _craft_settings(request)
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
        details = [{**detail, "loc": ("body", *_place(detail["loc"]))} for detail in error.errors()]
        raise RequestValidationError(details) from None


def with_openai_param(error: UserError) -> UserError:
    """Return the error with the name of the member in OpenAI's request, instead of the specification's."""
    param = error.param or ""
    error.param = _PARAMS.get(param, f"craft.{param}" if param.split(".")[0] in _CRAFT_MEMBERS else param or None)
    return error


def _craft_settings(request: TuningJobRequest) -> dict[str, Any]:
    if request.integrations:
        raise RequestInvalid(
            "Integrations are not offered.", hint="Read the job's events and report instead.", param="integrations"
        )
    unknown = sorted(set(request.craft or {}) - _CRAFT_MEMBERS)
    if unknown:
        raise RequestInvalid(
            f"`craft` takes no {unknown[0][:100]}.",
            hint=f"It takes {', '.join(sorted(_CRAFT_MEMBERS))}.",
            param="craft",
        )
    return dict(request.craft or {})


def _training(request: TuningJobRequest, further: object) -> object:
    requested = _hyperparameters(request)
    values = {name: getattr(requested, name) for name in _SETTING if getattr(requested, name) not in {None, "auto"}}
    if not isinstance(further, Mapping):
        return further  # the specification's own check reports the error
    for name in values:
        if _SETTING[name] in further:
            raise RequestInvalid(f"{name} is given twice.", hint="Leave it out of `craft.training`.", param=name)
    if "learning_rate_multiplier" in values:
        values["learning_rate_multiplier"] *= TrainingSettings().learning_rate
    return {**further, **{_SETTING[name]: value for name, value in values.items()}}


def _hyperparameters(request: TuningJobRequest) -> TuningHyperparameters:
    method, older = request.method, request.hyperparameters
    if method is None:
        return older or TuningHyperparameters()
    if method.type != "supervised" or method.dpo is not None or method.reinforcement is not None:
        raise RequestInvalid(
            f"The method {method.type[:100]} is not offered: jobs here are supervised.",
            hint='Set it to {"type": "supervised"}, or leave `method` out.',
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
    dataset_id = own_id(file_id, "file")
    if dataset_id is None:
        raise RequestInvalid(
            f"There is no file {file_id!r}.", hint="Upload it with purpose fine-tune: POST /v1/files.", param=param
        )
    return dataset_id


def _place(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    known = _PARAMS.get(".".join(str(part) for part in location))
    return (known,) if known else ("craft", *location) if location and location[0] in _CRAFT_MEMBERS else location
