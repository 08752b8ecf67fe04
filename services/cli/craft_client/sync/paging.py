# Made from craft_client/aio by craft_client/_generate_sync.py: change it there, then run `make client`.
"""All items of a list, over as many pages as it has."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

ItemT = TypeVar("ItemT")
ItemOut = TypeVar("ItemOut", covariant=True)


class Page(Protocol[ItemOut]):
    """A page of a list."""

    @property
    def data(self) -> Sequence[ItemOut]:
        """Its items."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether there is another."""
        ...


def every(fetch: Callable[[str | None], Page[ItemT]], cursor: Callable[[ItemT], str]) -> Iterator[ItemT]:
    """The items of page after page; `fetch` gets the cursor of the last item that it gave."""
    after: str | None = None
    while True:
        page = fetch(after)
        for item in page.data:
            yield item
        if not page.has_more or not page.data:
            return
        after = cursor(page.data[-1])
