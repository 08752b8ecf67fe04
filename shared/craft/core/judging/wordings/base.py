"""What there is to know about how a language refuses. Pure data; refusals.py gives it meaning."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RefusalWording:
    """The refusals of one language. Every entry is plain text; case, accents, apostrophes and quotes do not matter.

    spoken: the speaker does not know; counts at the start of a clause, after `lead_ins`.
    stated: nobody knows, or nothing is said; counts anywhere in a clause.
    bare: counts only as the whole reply.
    lead_ins: may stand before a spoken refusal. softeners: words that change nothing, ignored everywhere.
    closers: may follow a refusal without being an object ("I don't know the answer").
    turns: a clause that starts here turns away from the refusal. concessions: a refusal after one announces an answer.
    guesses: start an answer even where a comma alone would not.
    prefaces: a clause that starts so is no answer where a refusal follows in its sentence. reasons: nor after one.
    asides: a clause that holds one is politeness, an offer or an excuse, no answer.
    spellings: words replaced before anything is compared (contractions; traditional characters).
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
    """One tuple from lines of phrases parted by "/"."""
    return tuple(phrase.strip() for line in lines for phrase in line.split("/"))


def merged(first: RefusalWording, second: RefusalWording) -> RefusalWording:
    """Both wordings together, under the language of `first`."""
    return RefusalWording(
        language=first.language,
        **{
            name: getattr(first, name) + getattr(second, name)
            for name in RefusalWording.__slots__
            if name != "language"
        },
    )
