"""Finds the id that an argument names: a whole id, the unique beginning of one, or a unique name."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from craft.contracts.base import DATASET_ID, JOB_ID
from craft.errors import NotFound, RequestInvalid
from craft_client import Client, ClientError

_RANDOM_LENGTH = 26
_LAST_CHARACTER = "z"
_NAMES_PAGE = 100
_MAX_NAMES = 1000
_MAX_SHOWN = 5
_COMPLETIONS = 20
_COMPLETION_SECONDS = 2.0


class Named(Protocol):
    """A job or a dataset."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str | None: ...


Page = Callable[[Client, int, str | None], Sequence[Named]]
"""At most so many, newest first, that are older than an id."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A kind of thing with ids and names. As metadata of an argument it makes the argument an id."""

    noun: str
    pattern: str
    command: str
    page: Page

    def id_of(self, client: Client, given: str) -> str:
        """The id. A whole id is not looked up.

        Raises RequestInvalid if `given` is empty or fits several, NotFound if it fits none.
        """
        if not given:
            raise RequestInvalid(f"The id or name of a {self.noun} is missing.", hint=f"`{self.command}` lists them.")
        if re.fullmatch(self.pattern, given):
            return given
        found = self._beginning(client, given) or self._called(client, given)
        if not found:
            raise NotFound(
                f"No {self.noun} has the name {given[:100]!r} or an id that begins so.",
                hint=f"`{self.command}` lists them; names are looked for among the newest {_MAX_NAMES:,}.",
            )
        if len(found) > 1:
            listed = ", ".join(each.id for each in found[:_MAX_SHOWN])
            more = " …" if len(found) > _MAX_SHOWN else ""
            raise RequestInvalid(
                f"{given[:100]!r} is not clear: it fits {listed}{more}.", hint="Give a whole id, or more of it."
            )
        return found[0].id

    def completions(self, incomplete: str) -> list[str]:
        """The ids and names of the newest that begin so, for a shell; none if no server answers at once."""
        with suppress(ClientError), Client(timeout_seconds=_COMPLETION_SECONDS, retries=0) as client:
            newest = self.page(client, _COMPLETIONS, None)
            words = [word for each in newest for word in (each.name, each.id) if word]
            return [word for word in dict.fromkeys(words) if word.startswith(incomplete)]
        return []

    def _beginning(self, client: Client, given: str) -> list[Named]:
        """The first things whose ids begin so. Ids are in the order of their creation, so one page has them."""
        prefix = self.pattern[1:6]
        if not re.fullmatch(rf"{prefix}[0-9a-hjkmnp-tv-z]{{1,{_RANDOM_LENGTH - 1}}}", given):
            return []
        last = given.ljust(len(prefix) + _RANDOM_LENGTH, _LAST_CHARACTER)
        return [each for each in self.page(client, _MAX_SHOWN + 1, last) if each.id.startswith(given)]

    def _called(self, client: Client, given: str) -> list[Named]:
        found: list[Named] = []
        after: str | None = None
        for _ in range(_MAX_NAMES // _NAMES_PAGE):
            page = self.page(client, _NAMES_PAGE, after)
            found += [each for each in page if each.name == given]
            if len(page) < _NAMES_PAGE:
                break
            after = page[-1].id
        return found


def _jobs(client: Client, limit: int, after: str | None) -> Sequence[Named]:
    return client.jobs.list(limit=limit, after=after).data


def _datasets(client: Client, limit: int, after: str | None) -> Sequence[Named]:
    return client.datasets.list(limit=limit, after=after).data


JOBS = Lookup("job", JOB_ID, "craft jobs ls", _jobs)
DATASETS = Lookup("dataset", DATASET_ID, "craft datasets ls", _datasets)
