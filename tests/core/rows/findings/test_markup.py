"""Control tokens, stop marks and HTML are found in texts that were made for another purpose, and not in plain ones."""

import pytest

from craft.core.rows.findings.markup import control_tokens, damaged_characters, html_markup, stop_mark


@pytest.mark.parametrize(
    "token",
    [
        "<|im_end|>",
        "<|eot_id|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<｜end▁of▁sentence｜>",
        "</s>",
        "<s>",
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<think>",
        "</think>",
        "<eos>",
        "[CLS]",
        "<tool_call>",
        "<|any|>",
        "<EOS>",
        "<PAD>",
        "[UNK]",
        "<reserved_106>",
        "<reserved_special_token_3>",
        "<unused7>",
        "<0x0A>",
        "<eoa>",
        "<image>",
        "</answer>",
        "\nHuman:",
        "\nAssistant:",
        " ASSISTANT:",
    ],
)
def test_a_control_token_is_found(token: str) -> None:
    assert control_tokens(f"Paris{token}") == (token.strip(),)


def test_a_piece_of_a_vocabulary_is_found() -> None:
    assert control_tokens("▁Paris") == ("▁",)
    assert control_tokens("Assistant: Paris") == ("Assistant:",)
    assert control_tokens("User: Who?\nAssistant:") == ("Assistant:",)


def test_chat_markup_at_the_start_of_a_line_is_found_and_each_token_once() -> None:
    text = "<s>Why?\n### Response: so<s>\n### Input:"
    assert control_tokens(text) == ("<s>", "### Response:", "### Input:")


@pytest.mark.parametrize(
    "text",
    [
        "Paris",
        "a < b > c",
        "[sic]",
        "x|y",
        "<b>bold</b>",
        "# Title",
        "C#",
        "a <|b",
        "[INSTALL]",
        "Human: a film",
        "User: a novel",
        "my assistant: Ann",
        "Ġgantija",
        "▁ ▂",
        "<answers>",
    ],
)
def test_plain_text_has_no_control_token(text: str) -> None:
    assert control_tokens(text) == ()


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("Paris END", "END"),
        ("Paris###", "###"),
        ("Paris\n\n###", "###"),
        ("Why? ->", "->"),
        ("Paris", None),
        ("WEEKEND", None),
        ("END", None),
        ("###", None),
        ("C#", None),
        ("x" * 60 + " END", "END"),
    ],
)
def test_the_mark_that_ends_a_completion_is_found(text: str, mark: str | None) -> None:
    assert stop_mark(text) == mark


@pytest.mark.parametrize(
    ("text", "damaged"),
    [
        ("CafÃ©", "Ã©"),
        ("KÃ¶ln", "Ã¶"),
        ("â€œPeaceâ€\u009d", "â€"),
        ("12Â°", "Â°"),
        ("x\ufffd", "\ufffd"),
        ("NÃO", None),
        ("Â", None),
        ("Café", None),
        ("Paris", None),
    ],
)
def test_what_a_wrong_encoding_left_is_found(text: str, damaged: str | None) -> None:
    assert damaged_characters(text) == damaged


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Tom &amp; Jerry", "&amp;"),
        ("it&#39;s", "&#39;"),
        ("&#x27;", "&#x27;"),
        ("a<br>b", "<br>"),
        ("<sub>2</sub>", "<sub>"),
        ('<a href="x">y</a>', '<a href="x">'),
        ("AT&Tx; really", None),
        ("AT&Tx; and &amp;", "&amp;"),
        ("a < b", None),
        ("a & b", None),
        ("x <y> z", None),
    ],
)
def test_html_is_found(text: str, found: str | None) -> None:
    assert html_markup(text) == found
