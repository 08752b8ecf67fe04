"""CSV as spreadsheets and other programs write it; a fault is named with the line on which an editor shows it."""

from pathlib import Path

import pytest

from craft.core.findings import FindingCode
from craft.errors import DatasetInvalid
from craft_datasets.reading.formats import read_raw
from craft_datasets.reading.json_lines import RawRow


def read(folder: Path, content: str) -> list[RawRow]:
    path = folder / "file.csv"
    path.write_bytes(content.encode())
    return list(read_raw(path, max_line_bytes=1000))


def refused(folder: Path, content: str) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as caught:
        read(folder, content)
    return caught.value


@pytest.mark.parametrize(
    "content",
    [
        "question,answer,,\nq,a,,\n",
        "question,answer,,\nq,a\n",
        "question,answer\nq,a,,\n",
        "question,answer, \nq,a,\n",
        "question,answer\n,\nq,a\n,\n",
        "question,answer,,\n,,,\nq,a,,\n",
    ],
)
def test_columns_and_lines_without_content_are_ignored(tmp_path: Path, content: str) -> None:
    (row,) = read(tmp_path, content)
    assert row.row == {"question": "q", "answer": "a"}


def test_content_without_a_column_name_is_kept_apart(tmp_path: Path) -> None:
    (row,) = read(tmp_path, ",question,answer,\n0,q,a,more\n")
    assert row.row == {
        "column 1, without a name": "0",
        "question": "q",
        "answer": "a",
        "column 4, without a name": "more",
    }


def test_blanks_around_column_names_are_left_out_and_noted_once(tmp_path: Path) -> None:
    rows = read(tmp_path, "question, answer\t\nq,a\nr,b\n")
    assert [row.row for row in rows] == [{"question": "q", "answer": "a"}, {"question": "r", "answer": "b"}]
    assert [[(note.code, note.example) for note in row.notes] for row in rows] == [
        [(FindingCode.TRIMMED_HEADERS, "' answer\\t'")],
        [],
    ]


def test_a_name_that_comes_twice_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path, "question,answer, answer\nq,a,b\n")
    assert "called `answer`" in error.message
    assert error.hint == "Rename or remove one of them."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('question,answer\nq1,a\n"x"y,b\n', "Line 3 is not valid CSV: "),
        ('question,answer\n"two\nlines",a\n"x"y,b\n', "Line 4 is not valid CSV: "),
        ('question,answer\nq,a\n"two\nlines"x,a\n', "Line 4 is not valid CSV, in the row that begins on line 3: "),
        (
            'question,answer\nq,a\n"never closed,b\nr,c\n',
            "The row that begins on line 3 is not valid CSV: a quote opens",
        ),
        (f"question,answer\nq,a\n{'x' * 2000},b\n", "Line 3 is not valid CSV: field larger"),
        ('question,"answer"x\nq,a\n', "Line 1 is not valid CSV: "),
    ],
)
def test_a_fault_is_named_by_its_line(tmp_path: Path, content: str, message: str) -> None:
    assert refused(tmp_path, content).message.startswith(message)


def test_a_row_with_too_few_cells_is_a_row_error(tmp_path: Path) -> None:
    rows = read(tmp_path, "question,answer,note\nq,a\nq,a,n,more\n")
    assert [row.problem.message for row in rows if row.problem] == [
        "The line has 2 cells, the header 3.",
        "The line has 4 cells, the header 3.",
    ]
