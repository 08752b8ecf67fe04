"""Finds the option that a multiple-choice reply names, by an anchored letter or by the option's text.

It never guesses: "As an AI…" is not A, "I think…" is not I, and "A or B" or a list of all options names no option.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

from craft.core.judging.text import normalise, tokens, without_articles
from craft.core.questions import ChoiceQuestion

_MARKUP = re.compile(r"(?<!\w)[*_]+|[*_]+(?!\w)|[`$]+|\\boxed|\\text|</?[a-z]+>")
_BARE = re.compile(r"[\s(\[{\"'“‘「]*([A-Za-z])[\s)\]}.,:;!\"'”’」。]*")
# May follow a real letter: the end, punctuation, or a word that never follows an article.
_AFTER = (
    r"(?=\s*$|\s*[)\]}:;!。，、）：]|\s*\n|\.(?:\s|$|[^\W_]{2})|,(?=\s|[\u4e00-\u9fff])|\s+[-–—]+\s|[\"”’](?:\W|$)"
    r"|\s+(?:is|because|since|and|or)\b|\s*[/&](?!\w{2})|\s*[或和是])"
)
_START = re.compile(rf"\s*[(\[{{\"'“‘]?([A-Za-z]){_AFTER}")
_STATED = re.compile(
    r"(?:\b(?:answer|option|choice|letter)"
    r"(?:\s+(?:is|would be|should be|must be))?(?:\s+(?:option|choice|letter))?\s*:?"
    r"|\b(?:choose|pick|select)(?:\s+(?:option|choice|letter))?|答案(?:是|为)?\s*[:：]?|选项?(?:择)?\s*[:：]?)"
    rf"\s*[(\[{{\"'“‘]*([A-Za-z])(?![^\W_]){_AFTER}",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(
    r"[)\]}.\"'”’]*\s*(?:,|/|&|\bor\b|\band\b|或|和|、)\s*(?:or\s+|and\s+)?[(\[{\"'“‘]*([A-Z])(?![^\W_])"
)
_LABEL = re.compile(r"(?:^|\s)[(\[]?([A-Z])[)\].:](?=\s|$|[^\W_]{2})")


def parse_letter(reply: str, question: ChoiceQuestion, *, inside: bool = True) -> str | None:
    """The letter of the option that `reply` names, or None.

    The order of attempts: a letter alone; an option's text, word for word; "the answer is B"; a letter at the start
    that is followed by punctuation, by "is" or "because", or by its own option's text. If `inside`, then also one
    option's text somewhere in the reply as whole tokens; a shorter text inside a longer one ("New York" in "New York
    City") does not count. Where letter and text disagree ("B) Paris"), the letter counts, because the prompt asks for
    it. Letters that were not offered are ignored.
    """
    plain = _plain(reply)
    bare = _BARE.fullmatch(plain)
    # Offered letters are capitals, so a small letter is first compared with the options' texts.
    if bare and bare.group(1) in question.letters:
        return bare.group(1)
    if letter := _exact_text(reply, question) or (bare and _offered(bare.group(1), question)):
        return letter
    stated = _stated_letters(plain, question)
    if stated:
        return stated.pop() if len(stated) == 1 else None
    if names := _labels(plain, question):
        return names.pop() if len(names) == 1 else None
    return _own_text_after_letter(plain, question) or (_contained_text(reply, question) if inside else None)


def _plain(text: str) -> str:
    return _MARKUP.sub("", unicodedata.normalize("NFKC", text)).strip()


def _offered(letter: str, question: ChoiceQuestion) -> str | None:
    return letter.upper() if letter.upper() in question.letters else None


def _stated_letters(plain: str, question: ChoiceQuestion) -> set[str]:
    letters: set[str] = set()
    for match in _STATED.finditer(plain):
        # "the answer is a dog": a small a (or i) is a word unless only punctuation follows, as _AFTER requires.
        if letter := _offered(match.group(1), question):
            letters |= {letter} | _alternatives(plain[match.end(1) :], question)
    return letters


def _alternatives(rest: str, question: ChoiceQuestion) -> set[str]:
    """The letters that directly follow another letter in a list: "or B", ", C and D"."""
    letters: set[str] = set()
    while match := _ALTERNATIVE.match(rest):
        letters |= {match.group(1)} & set(question.letters)
        rest = rest[match.end(1) :]
    return letters


def _labels(plain: str, question: ChoiceQuestion) -> set[str]:
    """The letter at the reply's start and every other option label in it; empty if no letter is at the start."""
    match = _START.match(plain)
    letter = _offered(match.group(1), question) if match else None
    if match is None or letter is None or not _is_letter(match, plain):
        return set()
    rest = plain[match.end(1) :]
    # An option's text may contain letters itself: "D. Both A and C."
    text, own = rest.lstrip(" \t)].:-"), _plain(question.choices[question.letters.index(letter)])
    if text.casefold().startswith(own.casefold()):
        rest = text[len(own) :]
    return {letter} | _alternatives(rest, question) | (set(_LABEL.findall(rest)) & set(question.letters))


def _is_letter(match: re.Match[str], plain: str) -> bool:
    """True if a letter at the start is a label, and not an article, a pronoun or an initial."""
    letter, after = match.group(1), plain[match.end(1) :]
    if letter == "I":
        return not re.match(r"\s*[,–—-]|\s+-|\s+and\b", after)
    return letter.isupper() or bool(re.match(r"[)\]}.:]", after))


def _option_texts(question: ChoiceQuestion) -> list[list[str]]:
    return [without_articles(tokens(choice)) for choice in question.choices]


def _literal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split()).rstrip(".")


def _exact_text(reply: str, question: ChoiceQuestion) -> str | None:
    """The option whose text equals the reply: first exactly ("2 - x" and "2 + x", "Rr" and "rr"), then folded."""
    forms: tuple[Callable[[str], str], ...] = (_literal, lambda text: _literal(text).casefold(), normalise)
    for form in forms:
        words = form(reply)
        same = [
            letter for letter, choice in zip(question.letters, question.choices, strict=True) if form(choice) == words
        ]
        if words and same:
            return same[0] if len(same) == 1 else None
    return None


def _own_text_after_letter(plain: str, question: ChoiceQuestion) -> str | None:
    """The letter of a reply such as "B Paris", without punctuation between letter and text."""
    letter, _, rest = plain.partition(" ")
    if letter not in question.letters:
        return None
    own = normalise(question.choices[question.letters.index(letter)])
    return letter if own and own == normalise(rest) else None


def _contained_text(text: str, question: ChoiceQuestion) -> str | None:
    reply = without_articles(tokens(text))
    spans = [
        (start, start + len(option), letter)
        for letter, option in zip(question.letters, _option_texts(question), strict=True)
        for start in _occurrences(reply, option)
    ]
    named = {
        letter
        for start, end, letter in spans
        if not any(other[0] <= start and end <= other[1] and other[1] - other[0] > end - start for other in spans)
    }
    return named.pop() if len(named) == 1 else None


def _occurrences(words: Sequence[str], part: Sequence[str]) -> list[int]:
    size = len(part)
    return [at for at in range(len(words) - size + 1) if size and words[at : at + size] == part]
