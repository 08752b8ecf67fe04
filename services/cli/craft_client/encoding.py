"""Encodes arguments as paths, queries and bodies, and decodes responses to the contracts' models."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from craft.contracts.validation import sentence, validation_message
from craft_client.errors import InvalidId, UnexpectedAnswer

ModelT = TypeVar("ModelT", bound=BaseModel)
MethodT = TypeVar("MethodT", bound=Callable[..., Any])


def operation(operation_id: str) -> Callable[[MethodT], MethodT]:
    """Mark the method of an operation of the OpenAPI document. A test compares the two."""

    def marked(method: MethodT) -> MethodT:
        method.__operation__ = operation_id  # type: ignore[attr-defined] # functions take any attribute
        return method

    return marked


def parsed(model: type[ModelT], content: bytes) -> ModelT:
    """The response as its model. Fields that only a newer server knows are ignored. Raises UnexpectedAnswer."""
    try:
        return model.model_validate_json(content, extra="ignore")
    except ValidationError as error:
        first = error.errors()[0]
        wrong = sentence(".".join(map(str, first["loc"])), validation_message(first))
        raise UnexpectedAnswer(f"The server's answer is no {model.__name__}. {wrong}") from None


def route(template: str, *ids: str) -> str:
    """The path with an id in place of each `{}`. An id cannot lead to another path. Raises InvalidId."""
    for given in ids:
        if given in {"", ".", ".."}:
            raise InvalidId(f"{given!r} is no id.")
    return template.format(*(quote(given, safe="") for given in ids))


def query(**given: Any) -> dict[str, Any]:
    """The query parameters that are not None."""
    return {name: value for name, value in given.items() if value is not None}


def body_of(given: BaseModel | Mapping[str, Any]) -> Any:
    """A model as its JSON value, with the set fields only, so that the server's own defaults apply to the rest."""
    return given.model_dump(mode="json", exclude_unset=True) if isinstance(given, BaseModel) else given
