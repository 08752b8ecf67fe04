"""The error of one row, as the user reads it."""

import pytest

from craft.core.rows.fields import MAX_TEXT_BYTES, RowInvalid, text


def test_a_row_error_has_its_line_its_field_and_an_excerpt() -> None:
    detail = RowInvalid.of("answers", "must not be empty", ["a\0b"]).detail(7)
    assert (detail.message, detail.field, detail.line) == ("`answers` must not be empty.", "answers", 7)
    assert detail.excerpt is not None
    assert "\0" not in detail.excerpt


def test_a_row_error_names_the_field_as_the_users_own_rows_do() -> None:
    detail = RowInvalid.of("answers", "is missing", None).detail(1, field="Antworten")
    assert (detail.message, detail.field, detail.excerpt) == ("`Antworten` is missing.", "Antworten", None)


def test_a_text_of_a_row_has_100_kilobytes_at_most() -> None:
    assert text("question", "é" * (MAX_TEXT_BYTES // 2)) == "é" * 50_000
    with pytest.raises(RowInvalid, match="has more than 100,000 bytes"):
        text("question", "é" * (MAX_TEXT_BYTES // 2 + 1))
