"""Options of the form NAME=VALUE that may be repeated."""

from collections.abc import Iterable

from craft_cli.session import Session, fail


def assigned(given: Iterable[str] | None, session: Session, *, what: str) -> dict[str, str]:
    """Names and values; ends the program with 2 where one is no NAME=VALUE or a name comes twice."""
    found: dict[str, str] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not (name and equals and value):
            fail(f"{each!r} is no {what}: write NAME=VALUE.", as_json=session.as_json)
        if name in found:
            fail(f"{what.capitalize()} {name!r} is given twice.", as_json=session.as_json)
        found[name] = value
    return found
