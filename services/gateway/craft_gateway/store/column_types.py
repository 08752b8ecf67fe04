"""Column types: times in UTC, enums stored as text, and JSON that every database can read back."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    String,
)
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator, TypeEngine

from craft.errors import RequestInvalid

EnumT = TypeVar("EnumT", bound=StrEnum)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite, which knows no zones, keeps the UTC wall time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A naive time cannot be stored.")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Give back an aware UTC time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class EnumText(TypeDecorator[EnumT], Generic[EnumT]):
    """A StrEnum as its text: a new member needs no migration, and rows read well in `psql`."""

    impl = String(40)
    cache_ok = True

    def __init__(self, members: type[EnumT]) -> None:
        super().__init__()
        self.members = members

    def process_bind_param(self, value: EnumT | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Store the member's value."""
        return None if value is None else self.members(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> EnumT | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Give back the member."""
        return None if value is None else self.members(value)


_NUL = "\0"


class PlainJson(TypeDecorator[Any]):
    """JSON without NUL characters. PostgreSQL stores them in JSON, and then fails every query that reads the value.

    With `given_as` the value is a caller's: storing one with a NUL raises RequestInvalid, which names the member below
    that name. Without it the value is the system's own: each NUL is stored as U+FFFD. None is stored as SQL NULL, so
    that `IS NULL` finds it.
    """

    impl = JSON
    cache_ok = True

    def __init__(self, *, given_as: str | None = None) -> None:
        super().__init__(none_as_null=True)
        self.given_as = given_as

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Raises RequestInvalid if the value is a caller's and holds a NUL."""
        path = _path_to_nul(value)
        if path is None:
            return value
        if self.given_as is None:
            return _without_nul(value)
        field = ".".join([self.given_as, *path])
        raise RequestInvalid(
            f"The text at `{field}` holds a NUL character, which cannot be stored.",
            hint="Leave the character out.",
            param=field,
        )

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """JSON's own rules, so that members of a column can be compared."""
        return self.impl_instance.coerce_compared_value(op, value)


def _path_to_nul(value: Any) -> list[str] | None:
    """The members that lead to the first text with a NUL; None if there is none."""
    if isinstance(value, str):
        return [] if _NUL in value else None
    if isinstance(value, dict):
        for name, member in value.items():
            shown = str(name).replace(_NUL, "\N{REPLACEMENT CHARACTER}")
            if shown != str(name):
                return [shown]
            if (path := _path_to_nul(member)) is not None:
                return [shown, *path]
    if isinstance(value, list | tuple):
        for position, member in enumerate(value):
            if (path := _path_to_nul(member)) is not None:
                return [str(position), *path]
    return None


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(_NUL, "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(member) for member in value]
    return value
