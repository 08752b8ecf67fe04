"""Normalises text for matching: folded, lower-case, split into tokens, without articles and punctuation."""

import re
import unicodedata

APOSTROPHES = "'’‘‛ʼ`´′＇"
_APOSTROPHE = re.compile(f"[{APOSTROPHES}]")
# Accents of Latin, Greek and Cyrillic, Hebrew points and Arabic vowel signs are optional in writing and are removed.
# The marks of other scripts (Indic vowels, the dots of kana) change the word and stay.
_OPTIONAL_MARK = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u064b-\u065f\u0670\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
# Letters that Unicode does not decompose, although people write both forms.
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "ı": "i", "þ": "th", "ħ": "h"})

# Scripts without spaces between words: each character is a token.
_UNSPACED = (
    "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD_MARK = f"(?:[^\\W_{_UNSPACED}]|[\u0900-\u0963\u0966-\u0dff])"
_TOKEN = re.compile(
    f"[{_UNSPACED}]"
    f"|(?<!\\S)-\\d+(?:\\.\\d+)?(?![^\\W_])"  # a negative number
    f"|(?<![^\\W_])(?<!\\d\\.)\\d+\\.\\d+(?![^\\W_]|\\.\\d)"  # a decimal number: 3 is not a token of 3.14
    f"|{_WORD_MARK}+"
)
_THOUSANDS = re.compile(r"(?<=\d)[,\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_MINUS = re.compile(r"(?<!\S)[\u2212–](?=\d)")
_INITIALS = re.compile(r"(?<![^\W_])([^\W\d_])\.(?:\s?(?=[^\W\d_]\.)|(?=[^\W\d_](?![^\W_])))")
_SPACED_INITIALS = re.compile(r"(?<![^\W_])([^\W\d_ai])\s(?=[^\W\d_ai](?![^\W_]))")


def fold(text: str) -> str:
    """The text in lower case, compatibility-decomposed, without optional marks: Fiancé → fiance, Straße → strasse."""
    folded = unicodedata.normalize("NFKD", text).casefold().translate(_LETTERS)
    bare = _OPTIONAL_MARK.sub("", unicodedata.normalize("NFKD", folded).casefold())
    return unicodedata.normalize("NFC", bare)


def tokens(text: str) -> list[str]:
    """The folded words and numbers of `text`; each Han, kana or hangul character is a separate token.

    1,000 is 1000, 3.14 and -40 are one token each, U.S.A. is usa, J. K. is jk, & is and, don't is dont.
    """
    plain = _MINUS.sub("-", _THOUSANDS.sub("", _APOSTROPHE.sub("", text))).replace("&", " and ")
    joined = _SPACED_INITIALS.sub(r"\1", _INITIALS.sub(r"\1", fold(plain)))
    return _TOKEN.findall(joined)


def without_articles(words: list[str]) -> list[str]:
    """Drop the words a, an and the. A final "a" stays, because it is a name ("vitamin A")."""
    last = len(words) - 1
    return [word for at, word in enumerate(words) if word not in {"a", "an", "the"} or (word == "a" and at == last)]


def normalise(text: str) -> str:
    """The tokens of `text` without articles, joined by spaces; answers are compared in this form."""
    return " ".join(without_articles(tokens(text)))


def contains(words: str, part: str) -> bool:
    """True if `part` occurs in `words` as whole tokens. Both are tokens joined by spaces; "" never occurs."""
    return bool(part) and f" {part} " in f" {words} "
