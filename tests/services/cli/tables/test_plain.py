"""Tables without lines, in narrow and wide terminals and in pipes."""

import pytest
from rich.cells import cell_len

from craft_cli.tables.cells import text_table
from craft_cli.tables.plain import Fit, PlainTable

FLEXIBLE = {"name": Fit.CUT, "stage": Fit.IF_ROOM, "text": Fit.WRAPPED, "why": Fit.BELOW}


def table(*cells: str, headings: str = "name id stage why") -> PlainTable:
    return text_table(headings.split(), [cells], fits=FLEXIBLE)


def test_a_table_that_fits_has_every_column_beside_the_others() -> None:
    assert [*table("a name", "cjob_1", "tune:craft", "no worker").lines(80)] == [
        "name    id      stage       why",
        "a name  cjob_1  tune:craft  no worker",
    ]


def test_a_reason_goes_below_its_row_before_anything_is_left_out() -> None:
    why = "device is busy with another job and will be for long"
    assert [*table("a name", "cjob_1", "tune:craft", why).lines(40)] == [
        "name    id      stage",
        "a name  cjob_1  tune:craft",
        "    device is busy with another job and",
        "    will be for long",
    ]
    assert [*table("a name", "cjob_1", "tune:craft", "").lines(26)] == [
        "name    id      stage",
        "a name  cjob_1  tune:craft",
    ]


def test_a_column_that_needs_room_is_left_out_and_a_name_is_cut_but_never_an_id() -> None:
    lines = [*table("n" * 40, "i" * 31, "s" * 25, "").lines(50)]
    assert lines == [f"{'name'.ljust(17)}  id", f"{'n' * 16}…  {'i' * 31}"]
    assert [*table("n" * 40, "i" * 31, "", "").lines(20)][1] == f"{'n' * 11}…  {'i' * 31}"


def test_a_wrapped_text_breaks_after_blanks_and_hyphens_and_a_long_word_anywhere() -> None:
    lines = [*table("craft-no-certainty of abcdefghijklm", "x", headings="text id").lines(12)]
    assert lines == ["text       id", "craft-no-  x", "certainty", "of", "abcdefghi", "jklm"]


def test_a_cell_of_two_lines_is_two_lines_on_a_terminal_and_one_in_a_pipe() -> None:
    figures = table("43.6\n[40.0, 47.0]", "x", headings="id number")
    assert [*figures.lines(80)] == ["id            number", "43.6               x", "[40.0, 47.0]"]
    assert [*figures.lines(None)] == ["id                 number", "43.6 [40.0, 47.0]       x"]


def test_in_a_pipe_every_cell_is_whole() -> None:
    cells = ("n" * 300, "i" * 31, "s" * 60, "w" * 200)
    (_, row) = table(*cells).lines(None)
    assert row.split() == list(cells)


def test_an_empty_table_is_its_heading() -> None:
    assert [*text_table(("name", "id"), []).lines(80)] == ["name  id"]
    assert [*text_table(("name", "id"), []).lines(None)] == ["name  id"]


@pytest.mark.parametrize("width", range(20, 120, 7))
def test_wide_characters_keep_the_columns_in_their_places(width: int) -> None:
    rows = [("漢字の名前です" * 4, "i" * 8, "s" * 20, "理由" * 30), ("short", "j" * 8, "t", "")]
    lines = [*text_table(["name", "id", "stage", "why"], rows, fits=FLEXIBLE).lines(max(width, 26))]
    places = {cell_len(line[: line.index(mark)]) for line in lines for mark in ("iiii", "jjjj") if mark in line}
    assert len(places) == 1
    assert max(map(cell_len, lines)) <= max(width, 26)
