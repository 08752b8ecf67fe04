"""Iterates over all items of a list, page by page."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

ItemT = TypeVar("ItemT")
ItemOut = TypeVar("ItemOut", covariant=True)


class Page(Protocol[ItemOut]):
    """A page of a list."""

    @property
    def data(self) -> Sequence[ItemOut]:
        """The items of the page."""
        ...

    @property
    def has_more(self) -> bool:
        """True if another page follows."""
        ...


async def all_items(
    fetch: Callable[[str | None], Awaitable[Page[ItemT]]], cursor: Callable[[ItemT], str]
) -> AsyncIterator[ItemT]:
    """The items of all pages. `fetch` gets the cursor of the last item of the page before."""
    after: str | None = None
    while True:
        page = await fetch(after)
        for item in page.data:
            yield item
        if not page.has_more or not page.data:
            return
        after = cursor(page.data[-1])
