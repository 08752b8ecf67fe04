"""Finds what does not belong in a question or an answer: control tokens, chat markup, HTML, invisible characters."""

import html.entities
import re

_CONTROL_TOKEN = re.compile(
    r"<\|[^|<>\s]{1,60}\|>|<｜[^｜<>]{1,60}｜>"
    r"|</?s>|<(?i:bos|eos|pad|unk|mask|cls|sep|sop|eop|eod|eoa|eoh|eom|endoftext|end_of_text|eot_id|extra_id_\d+)>"
    r"|<(?:reserved_(?:special_token_)?\d+|unused\d+|image|0x[0-9A-F]{2})>"
    r"|<(?:start|end)_of_(?:turn|image|text|utterance)>|</?(?:think|thinking|thought|tool_call|tool_response)>"
    r"|</?(?:answer|final_answer|reasoning|scratchpad)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|CLS|SEP|MASK|PAD|UNK|BOS|EOS|gMASK)\]"
    r"|<</?SYS>>"
    # A piece of a tokenizer's vocabulary, not of a text.
    r"|▁(?=\w)"
    r"|^[ \t]*(?:Assistant|ASSISTANT|USER)[ \t]*:|(?<=\n)[ \t]*(?:Human|User)[ \t]*:|\bASSISTANT:"
    r"|^[ \t]*#{2,}[ \t]*(?:Response|Instruction|Input|Output|Human|Assistant|User|System|Question|Answer)[ \t]*:",
    re.MULTILINE,
)
_STARTS = re.compile(r"[<\[#▁:]")
_STOP_MARK = re.compile(r"(?:\s+END|\s*#{3,}|\s*\|{3,}|\s+->)$")
_STOP_ENDS = ("END", "#", "|", "->")
_LONGEST_MARK = 40
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_TAG = re.compile(
    r"</?(?:br|p|i|b|em|strong|sub|sup|span|div|a|li|ul|ol|u|font|td|tr|th|table|h[1-6]|img|code|pre|blockquote)"
    r"(?:\s[^<>]{0,200})?/?>",
    re.IGNORECASE,
)
_DAMAGED = re.compile("\ufffd|[ÃÂ][\u0080-\u00bf]|Ã[\u0152-\u0178\u2013-\u203a\u20ac\u2122]|â(?:€|\u0080)")
_INVISIBLE = re.compile(
    "[\u00ad\u200b\u200e\u200f\u2060-\u2064\u2066-\u2069\u202a-\u202e\ufeff]"
    # Joiners have their place in emoji and in other scripts, and none beside Latin letters, digits or an end.
    "|(?:^|(?<=[\u0000-\u024f]))[\u200c\u200d]+|[\u200c\u200d]+(?=[\u0000-\u024f]|$)"
)


def control_tokens(text: str) -> tuple[str, ...]:
    """The control tokens and the chat markup in `text`, in order, each once: `<|im_end|>`, `</s>`, `### Response:`."""
    if not _STARTS.search(text):
        return ()
    return tuple(dict.fromkeys(found[0].strip() for found in _CONTROL_TOKEN.finditer(text)))


def stop_mark(text: str) -> str | None:
    """The mark that ends `text` as it ended legacy prompts and completions: ` END`, `###`, ` ->`."""
    end = text[-_LONGEST_MARK:]
    found = _STOP_MARK.search(end) if end.endswith(_STOP_ENDS) else None
    is_all = found is not None and found.start() == 0 and len(end) == len(text)
    return None if found is None or is_all else found[0].strip()


def damaged_characters(text: str) -> str | None:
    """The first characters that a wrong encoding left: `Ã©` of é in UTF-8 read as Latin-1, or the sign of a loss."""
    found = None if text.isascii() else _DAMAGED.search(text)
    return found[0] if found else None


def html_markup(text: str) -> str | None:
    """The first HTML entity or tag in `text`: `&amp;`, `<br>`."""
    if "<" in text and (tag := _TAG.search(text)):
        return tag[0]
    if "&" in text:
        for entity in _ENTITY.finditer(text):
            if entity[0][1] == "#" or entity[0][1:] in html.entities.html5:
                return entity[0]
    return None


def visible(text: str) -> str:
    """`text` without invisible characters that would keep an answer from matching. Joined emoji stay as they are."""
    return text if text.isascii() else _INVISIBLE.sub("", text)
