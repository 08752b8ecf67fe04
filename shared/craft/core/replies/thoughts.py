"""Recognises replies in which a model thinks before it answers, and prompts that have it think."""

import re

_NAMES = r"(?:[a-z]+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis)"
_OPENED = re.compile(
    rf"\s*(?:<{_NAMES}>|<\|(?:begin_of_|start_)?{_NAMES}\|>|<\|channel\|>\s*(?:analysis|thought)"
    r"|\[THINK\]|◁think▷|(?-i:analysis(?=[A-Z])))",
    re.IGNORECASE,
)
_CLOSED = re.compile(
    rf"</{_NAMES}>|<\|(?:/|end_of_|end_){_NAMES}\|>|\[/THINK\]|◁/think▷|(?-i:assistantfinal)", re.IGNORECASE
)
_PROMPTED = (
    rf"(?:{_NAMES}|thought_process|chain_of_thought|cot|(?:inner|internal)_(?:monologue|thoughts?)|monologue"
    r"|deliberation)"
)
_OPENING = rf"[<◁\[](?:[|｜])?(?:(?:begin|start)_(?:of_)?)?{_PROMPTED}(?:\s[^<>\[\]]*)?(?:[|｜])?[>▷\]]"
_CLOSING = rf"[<◁\[](?:[|｜])?(?:/|end_(?:of_)?){_PROMPTED}(?:[|｜])?[>▷\]]"
_MARK = re.compile(
    rf"(?P<open>{_OPENING}|<\|?channel\|?>\s*(?:analysis|thought|commentary))"
    rf"|(?P<close>{_CLOSING}|<channel\|>|<\|end\|>)",
    re.IGNORECASE,
)
_TAG = re.compile(rf"{_OPENING}|{_CLOSING}", re.IGNORECASE)
_MUSING = re.compile(
    r"\s*(?:(?:okay|ok|alright|all right|hmm+|well|so|wait)[,.!…]*\s+(?:so\s+|let\b|the user\b|i\b|we\b|this\b|first\b)"
    r"|(?:let me|let's) (?:think|see|recall|start)"
    r"|(?:we|i) (?:need to|have to|should) (?:answer|figure|recall|find|determine)"
    r"|the user\b|thinking process|here's a thinking process|first, i (?:need|have|should))",
    re.IGNORECASE,
)


def has_thought(reply: str) -> bool:
    """True if a marked thought, finished or not, is in `reply`. An empty one ("<think></think>") does not count."""
    opened = _OPENED.match(reply)
    start = opened.end() if opened else 0
    closed = _CLOSED.search(reply, start)
    if opened is None:
        return closed is not None
    return bool(reply[start : closed.start() if closed else None].strip())


def sounds_like_a_thought(reply: str) -> bool:
    """True if `reply` begins as an unmarked thought does ("Okay, the user wants…"). An answer may begin so too."""
    return bool(_MUSING.match(reply))


def open_thought(prompt: str) -> str | None:
    """The tag of the thought inside which `prompt` ends, so that the model goes on thinking; None without one."""
    last = None
    for last in _MARK.finditer(prompt):  # noqa: B007 - the last one counts
        pass
    return None if last is None else last["open"]


def is_thought_tag(token: str) -> bool:
    """True if the token opens or closes a thought. Where it is a control token, replies must show it all the same."""
    return bool(_TAG.fullmatch(token))
