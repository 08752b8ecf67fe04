"""Checks arguments of the command line that the options alone cannot check."""

from collections.abc import Iterable

from pydantic import ValidationError

from craft.contracts.validation import validation_message
from craft_cli.failures import fail
from craft_cli.session import Session


def name_values(texts: Iterable[str] | None, session: Session, *, what: str) -> dict[str, str]:
    """The names and values of NAME=VALUE texts. Ends the program with 2 for another text or a repeated name."""
    values: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            fail(f"{text!r} is no {what}: write NAME=VALUE.", as_json=session.as_json)
        if name in values:
            fail(f"{what.capitalize()} {name!r} is given twice.", as_json=session.as_json)
        values[name] = value
    return values


def first_error(error: ValidationError, *, form: str) -> str:
    """The first error in a sentence. `form` describes the right form."""
    first = error.errors()[0]
    advice = f"write {form}" if first["type"] == "string_pattern_mismatch" else validation_message(first)
    return f"{first['input']!r} cannot be used: {advice}."
