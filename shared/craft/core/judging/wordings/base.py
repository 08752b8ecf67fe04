"""The data type for the refusals of one language; refusals.py interprets it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RefusalWording:
    """The refusals of one language. Every entry is plain text; case, accents, apostrophes and quotes do not matter.

    spoken: the speaker does not know. Counts at the start of a clause, after `lead_ins`.
    stated: no one knows, or the text does not say. Counts anywhere in a clause.
    bare: counts only as the whole reply.
    lead_ins: may precede a spoken refusal. softeners: words without effect, ignored everywhere.
    closers: may follow a refusal without being its object ("I don't know the answer").
    turns: start a clause that contrasts with the refusal. concessions: a refusal after one announces an answer.
    guesses: start an answer even where a comma alone would not.
    prefaces: start a clause that is no answer if a refusal follows in the sentence. reasons: the same after a refusal.
    asides: a clause with one is politeness, an offer or an excuse, and not an answer.
    spellings: replacements before any comparison (contractions; traditional characters).
    """

    language: str
    spoken: tuple[str, ...]
    stated: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    lead_ins: tuple[str, ...] = ()
    softeners: tuple[str, ...] = ()
    closers: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()
    concessions: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()
    prefaces: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    asides: tuple[str, ...] = ()
    spellings: tuple[tuple[str, str], ...] = ()


def phrases(*lines: str) -> tuple[str, ...]:
    """One tuple of the phrases in lines, separated by "/"."""
    return tuple(phrase.strip() for line in lines for phrase in line.split("/"))


def merged(first: RefusalWording, second: RefusalWording) -> RefusalWording:
    """Both wordings together, with the language of `first`."""
    return RefusalWording(
        language=first.language,
        **{
            name: getattr(first, name) + getattr(second, name)
            for name in RefusalWording.__slots__
            if name != "language"
        },
    )
