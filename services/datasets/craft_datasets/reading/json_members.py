"""Finds a member that a JSON object has twice: parsers keep the last value and lose the first without a word."""

import json
import re
from collections.abc import Sequence

_NAME_ENDS = re.compile(rb'"\s*:')


class _Doubled(Exception):
    """`name` comes twice in one object."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def doubled_member(text: bytes, value: object) -> str | None:
    """The first name that an object of the JSON `text` has twice, of which `value` was read; None if there is none."""
    # Texts may hold what ends a name, so only a surplus is looked at closely: that parser is ten times slower.
    if len(_NAME_ENDS.findall(text)) == _members(value):
        return None
    try:
        json.loads(text, object_pairs_hook=_checked)
    except _Doubled as found:
        return found.name
    except (ValueError, RecursionError):
        return None
    return None


def _members(value: object) -> int:
    """The number of members of all objects in `value`."""
    count, waiting = 0, [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            count += len(each)
            waiting += [item for item in each.values() if isinstance(item, (dict, list))]
        elif isinstance(each, list):
            waiting += [item for item in each if isinstance(item, (dict, list))]
    return count


def _checked(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise _Doubled(name)
        found[name] = value
    return found
