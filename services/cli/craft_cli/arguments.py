"""Checks arguments of the command line that the options alone cannot check."""

from collections.abc import Iterable

from pydantic import ValidationError

from craft.contracts.validation import validation_message
from craft_cli.failures import fail
from craft_cli.session import Session

_OF_SEVERAL = ("choices", "answers")


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


def column_map(texts: Iterable[str] | None, session: Session) -> dict[str, str | list[str]]:
    """The columns of OURS=THEIRS texts; `choices` and `answers` may have several, by commas or in several texts.

    Ends the program with 2 for another text, and for a repeated name that has one column only.
    """
    single = [text for text in texts or () if text.partition("=")[0] not in _OF_SEVERAL]
    columns: dict[str, str | list[str]] = {**name_values(single, session, what="column")}
    for ours in _OF_SEVERAL:
        given = [text for text in texts or () if text.partition("=")[0] == ours]
        theirs = [part.strip() for text in given for part in text.partition("=")[2].split(",")]
        if not all(theirs):
            fail(f"{given[0]!r} is no column: write NAME=VALUE.", as_json=session.as_json)
        if theirs:
            columns[ours] = theirs if len(theirs) > 1 else theirs[0]
    return columns


def first_error(error: ValidationError, *, form: str) -> str:
    """The first error in a sentence. `form` describes the right form."""
    first = error.errors()[0]
    advice = f"write {form}" if first["type"] == "string_pattern_mismatch" else validation_message(first)
    return f"{first['input']!r} cannot be used: {advice}."
