"""Detects refusals: replies that say that they do not know, and give no answer.

A reply is read clause by clause. It is a refusal if at least one clause refuses and no clause answers. Examples:
"I don't know." and "The answer is unknown." refuse. "I don't know much about it, but it is Paris", "I don't know, maybe
Paris" and "Paris, but I'm not sure" answer, because the reader gets an answer that can be right or wrong.
"I don't know. Please ask a librarian." refuses. A refusal inside a statement ("The song is 'I Don't Know'") does not.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from craft.core.judging.text import tokens
from craft.core.judging.wordings.base import RefusalWording
from craft.core.judging.wordings.chinese import CHINESE
from craft.core.judging.wordings.english import ENGLISH
from craft.errors import RequestInvalid

MAX_PHRASES = 100
MAX_PHRASE_LENGTH = 200
"""Characters of one of a job's own phrases."""
WORDINGS: Mapping[str, RefusalWording] = {wording.language: wording for wording in (ENGLISH, CHINESE)}

# A full stop ends a sentence only before white space, and not after a single letter (J. K. Rowling).
_SENTENCE_END = re.compile(r"(?<!\b[^\W\d_])[.!?]+(?=[\s\"”’)*]|$)|[。!?！？；;\n]+")
_CLAUSE_END = re.compile(r"[,:](?=\s|$)|[，、：（）()—–…]|\.\.\.|\s-\s")


class RefusalKind(StrEnum):
    """SPOKEN: "I don't know". STATED: "The answer is unknown", which can also be a real answer."""

    SPOKEN = "spoken"
    STATED = "stated"


def wording_for(language: str, extra_phrases: Sequence[str] = ()) -> RefusalWording:
    """The wording of a language, with a job's own refusals as further spoken ones.

    Raises RequestInvalid for a language without wording, or for a phrase without a letter or digit.
    """
    if language not in WORDINGS:
        known = ", ".join(sorted(WORDINGS))
        raise RequestInvalid(
            f"no refusal wording for language {language!r}",
            hint=f"known: {known}; other languages: choose one and give their refusals as extra phrases",
            param="language",
        )
    for phrase in extra_phrases:
        if not tokens(phrase):
            raise RequestInvalid("a refusal phrase needs a letter or a digit", param="extra_phrases")
    wording = WORDINGS[language]
    return replace(wording, spoken=(*wording.spoken, *extra_phrases)) if extra_phrases else wording


def is_refusal(reply: str, wording: RefusalWording) -> bool:
    """True if `reply` refuses and gives no answer."""
    return refusal_kind(reply, wording) is not None


def refusal_kind(reply: str, wording: RefusalWording) -> RefusalKind | None:
    """The kind of the refusal in `reply`; None if it does not refuse, or also gives an answer."""
    patterns = _patterns(wording)
    whole = patterns.canonical(reply)
    if patterns.bare.fullmatch(whole, patterns.lead_end(whole)):
        return RefusalKind.STATED
    kinds: list[RefusalKind] = []
    for sentence in _SENTENCE_END.split(reply):
        reading = _SentenceReading()
        for clause in patterns.clauses(sentence):
            reading.take(clause, patterns)
        if reading.answers:
            return None
        kinds += reading.kinds
    return min(kinds, default=None)  # "spoken" sorts before "stated"


class _Phrases:
    """Canonical phrases, found by their first token: a job's own phrases cost no compiling, however long they are."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._by_first: dict[str, list[str]] = {}
        for phrase in sorted({phrase for phrase in phrases if phrase}, key=len, reverse=True):
            self._by_first.setdefault(phrase[: phrase.index(" ")], []).append(phrase)

    def end(self, text: str, start: int) -> int | None:
        """The end of the longest phrase at `start`, where a token of the canonical text begins; None without one."""
        first = text[start : text.find(" ", start)]
        found = next((phrase for phrase in self._by_first.get(first, ()) if text.startswith(phrase, start)), None)
        return None if found is None else start + len(found)


@dataclass(frozen=True, slots=True)
class _Patterns:
    """A wording compiled for matching. Texts are canonical: each token is followed by a space."""

    spellings: Mapping[str, str]
    softeners: re.Pattern[str]
    bare: re.Pattern[str]
    lead_in: re.Pattern[str]
    spoken: _Phrases
    stated: re.Pattern[str]
    closers: re.Pattern[str]
    turn: re.Pattern[str]
    concession: re.Pattern[str]
    guess: re.Pattern[str]
    preface: re.Pattern[str]
    reason: re.Pattern[str]
    aside: re.Pattern[str]

    def canonical(self, text: str) -> str:
        return _canonical(text, self.spellings, self.softeners)

    def lead_end(self, text: str) -> int:
        """The end of the lead-ins that `text` starts with. They end where a refusal starts ("no" and "no idea")."""
        at = 0
        while self.spoken.end(text, at) is None and (found := self.lead_in.match(text, at)):
            at = found.end()
        return at

    def clauses(self, sentence: str) -> list[str]:
        """The sentence's canonical clauses that have a token; a turn word starts a new clause."""
        clauses: list[str] = []
        for part in _CLAUSE_END.split(sentence):
            text = self.canonical(part)
            starts = [turn.start() for turn in self.turn.finditer(text)]
            clauses += [text[start:end] for start, end in zip([0, *starts], [*starts, len(text)], strict=True)]
        return [clause for clause in clauses if clause]


def _canonical(text: str, spellings: Mapping[str, str], softeners: re.Pattern[str] | None) -> str:
    spelled = "".join(f"{spellings.get(token, token)} " for token in tokens(text))
    return softeners.sub("", spelled) if softeners else spelled


@lru_cache(maxsize=64)
def _patterns(wording: RefusalWording) -> _Patterns:
    spellings = dict(wording.spellings)
    softeners = _any_of(_canonical(phrase, spellings, None) for phrase in wording.softeners)

    def choice(phrases: Iterable[str]) -> str:
        return _any_of(_canonical(phrase, spellings, softeners) for phrase in phrases).pattern

    return _Patterns(
        spellings=spellings,
        softeners=softeners,
        bare=re.compile(choice(wording.bare)),
        lead_in=re.compile(choice(wording.lead_ins)),
        spoken=_Phrases(_canonical(phrase, spellings, softeners) for phrase in wording.spoken),
        stated=re.compile(choice(wording.stated)),
        closers=re.compile(choice(wording.closers)),
        turn=re.compile(choice(wording.turns)),
        concession=re.compile(f"^(?:{choice(wording.concessions)})"),
        guess=re.compile(f"^(?:{choice(wording.guesses)})"),
        preface=re.compile(f"^(?:{choice(wording.prefaces)})"),
        reason=re.compile(f"^(?:{choice(wording.reasons)})"),
        aside=re.compile(choice(wording.asides)),
    )


def _any_of(phrases: Iterable[str]) -> re.Pattern[str]:
    """A pattern for any of the canonical phrases as whole tokens, longest first; without phrases it never matches."""
    longest_first = sorted({phrase for phrase in phrases if phrase}, key=len, reverse=True)
    return re.compile(rf"(?<![^ ])(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})")


class _SentenceReading:
    """The state of reading one sentence: the refusals and answers of its clauses so far."""

    def __init__(self) -> None:
        self.kinds: list[RefusalKind] = []
        self._answered = False
        self._preface = False
        self._object_open = False  # the refusal names its object, and text after a comma may still belong to it
        self._turned = False

    @property
    def answers(self) -> bool:
        """True if the sentence gives an answer. A preface without a later refusal is an answer ("In Paris.")."""
        return self._answered or (self._preface and not self.kinds)

    def take(self, clause: str, patterns: _Patterns) -> None:
        """Read the next clause."""
        turned, self._turned = self._turned or bool(patterns.turn.match(clause)), False
        lead_end = patterns.lead_end(clause)
        spoken_end = patterns.spoken.end(clause, lead_end)
        if spoken_end is not None:
            self._refuse(RefusalKind.SPOKEN, clause, clause[spoken_end:], patterns)
        elif patterns.stated.search(clause):
            self._refuse(RefusalKind.STATED, clause, "", patterns)
        elif lead_end == len(clause):
            self._turned = turned
        elif patterns.aside.search(clause):
            return
        elif not self.kinds and patterns.preface.match(clause):
            self._preface = True
        elif patterns.reason.match(clause):
            return
        elif not self.kinds or turned or not self._object_open or patterns.guess.match(clause):
            self._answered = True

    def _refuse(self, kind: RefusalKind, clause: str, rest: str, patterns: _Patterns) -> None:
        self.kinds.append(kind)
        self._object_open = bool(patterns.closers.sub("", rest)) and not patterns.concession.match(clause)
