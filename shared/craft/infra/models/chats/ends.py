"""The end of a reply, as a chat template writes it."""

from collections.abc import Sequence


def after_reply(whole: str, reply: str) -> str:
    """The text that a template writes after a reply, from its first character that is no space."""
    return whole.rpartition(reply)[2].lstrip() if reply in whole else ""


def end_token(after: Sequence[int], *, control: frozenset[int], end: int | None) -> int | None:
    """The token that ends a turn: the first of those after a reply if it is a control token, else `end`."""
    return int(after[0]) if after and after[0] in control else end
