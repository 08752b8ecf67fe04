"""A page says whether there are more rows, and asks for one row more than it shows."""

from collections.abc import Iterator

import pytest

from craft_gateway.store.paging import ListPage


@pytest.mark.parametrize(
    ("rows", "shown", "has_more", "last"),
    [([], [], False, None), ([1, 2], [1, 2], False, 2), ([1, 2, 3], [1, 2], True, 2), ([1], [1], False, 1)],
)
def test_a_page_of_two(rows: list[int], shown: list[int], has_more: bool, last: int | None) -> None:
    page = ListPage.of(rows, 2)
    assert (page.rows, page.has_more, page.last) == (shown, has_more, last)


def test_of_an_endless_list_no_more_than_one_further_row_is_looked_at() -> None:
    looked_at: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            looked_at.append(len(looked_at))
            yield looked_at[-1]

    assert ListPage.of(endless(), 2).has_more
    assert looked_at == [0, 1, 2]
