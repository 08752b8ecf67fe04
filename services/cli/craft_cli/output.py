"""Output for people or programs: tables and lines, or one JSON document."""

import json
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from craft_cli.tables.plain import PlainTable


class Verbatim(str):
    """A line to copy, such as a command: it is printed in one piece."""

    __slots__ = ()


def print_lines(*lines: object) -> None:
    """Print texts and tables for people. On a terminal, long texts break between words."""
    console = Console()
    for place, line in enumerate(lines):
        if isinstance(line, PlainTable):
            if place and console.is_terminal:
                print()
            print_table(line)
        elif console.is_terminal and not isinstance(line, Verbatim):
            print(wrapped(str(line), console.width))
        else:
            print(line)


def tell(lines: Iterable[str]) -> None:
    """Print lines beside the result: on standard error."""
    console = error_console()
    for line in lines:
        text = wrapped(line, console.width) if console.is_terminal else line
        console.print(Text(text), highlight=False, soft_wrap=True)


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` characters, which break between words only."""
    return "\n".join(part for line in text.splitlines() for part in _wrapped_line(line, width))


def _wrapped_line(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """Print one JSON document on standard output."""
    text = (
        value.model_dump_json(indent=2, by_alias=True) if isinstance(value, BaseModel) else json.dumps(value, indent=2)
    )
    sys.stdout.write(text + "\n")


def print_table(table: PlainTable) -> None:
    """Print a table: on a terminal in its width, elsewhere each row whole in one line, for grep and awk."""
    console = Console()
    if table.title is not None:
        _print_line(console, table.title)
    for line in table.lines(console.width if console.is_terminal else None):
        _print_line(console, line)


def _print_line(console: Console, line: str) -> None:
    # The names that users give contain no markup, and a wide line is the terminal's to fold.
    console.print(Text(line), highlight=False, soft_wrap=True)


def error_console() -> Console:
    """The console for progress and errors: standard error, so that standard output has only the result."""
    return Console(file=sys.stderr)
