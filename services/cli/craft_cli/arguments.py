"""Words of the command line that options alone cannot check."""

from collections.abc import Iterable

from pydantic import ValidationError

from craft.contracts.problems import validation_message
from craft_cli.session import Session, fail


def assigned(given: Iterable[str] | None, session: Session, *, what: str) -> dict[str, str]:
    """Names and values of NAME=VALUE; ends the program with 2 where one is none or a name comes twice."""
    found: dict[str, str] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            fail(f"{each!r} is no {what}: write NAME=VALUE.", as_json=session.as_json)
        if name in found:
            fail(f"{what.capitalize()} {name!r} is given twice.", as_json=session.as_json)
        found[name] = value
    return found


def refusal(error: ValidationError, *, form: str) -> str:
    """The first thing that is wrong, in a sentence; `form` says how it is written."""
    wrong = error.errors()[0]
    told = f"write {form}" if wrong["type"] == "string_pattern_mismatch" else validation_message(wrong)
    return f"{wrong['input']!r} cannot be used: {told}."
