"""From an answer's bytes to the contracts' models, and from arguments to paths, queries and bodies."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from craft_client.errors import ClientError, UnexpectedAnswer

ModelT = TypeVar("ModelT", bound=BaseModel)
MethodT = TypeVar("MethodT", bound=Callable[..., Any])


def operation(operation_id: str) -> Callable[[MethodT], MethodT]:
    """Marks the method of an operation of the OpenAPI document; a test compares the two."""

    def marked(method: MethodT) -> MethodT:
        method.__operation__ = operation_id  # type: ignore[attr-defined] # functions take any attribute
        return method

    return marked


def parsed(model: type[ModelT], content: bytes) -> ModelT:
    """The answer as its model. A newer server may tell more than this client knows: that is passed over."""
    try:
        return model.model_validate_json(content, extra="ignore")
    except ValidationError as error:
        raise UnexpectedAnswer(f"The server's answer is no {model.__name__}: {error}") from None


def route(template: str, *ids: str) -> str:
    """The path with each id put in for one `{}`; an id cannot lead to another path."""
    for each in ids:
        if each in {"", ".", ".."}:
            raise ClientError(f"{each!r} is no id.")
    return template.format(*(quote(each, safe="") for each in ids))


def query(**given: Any) -> dict[str, Any]:
    """Query parameters, without those that are None."""
    return {name: value for name, value in given.items() if value is not None}


def body_of(given: BaseModel | Mapping[str, Any]) -> Any:
    """A model as its JSON value; only what was set, so that the server's own defaults hold for the rest."""
    return given.model_dump(mode="json", exclude_unset=True) if isinstance(given, BaseModel) else given
