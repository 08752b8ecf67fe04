"""Output for people or programs: tables and lines, or one JSON document."""

import json
import sys
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPED_COLUMNS = 10_000


def print_lines(*lines: object) -> None:
    """Print texts and tables for people."""
    for line in lines:
        if isinstance(line, Table):
            print_table(line)
        else:
            print(line)


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """Print one JSON document on standard output."""
    text = (
        value.model_dump_json(indent=2, by_alias=True) if isinstance(value, BaseModel) else json.dumps(value, indent=2)
    )
    sys.stdout.write(text + "\n")


def print_table(table: Table) -> None:
    """Print a table: on a terminal with lines and colours, elsewhere plain and never cut, for grep and awk."""
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    if table.title is not None:
        # A title is folded to its table's width, where grep would not find it.
        print(Text.from_markup(str(table.title)).plain)
        table.title = None
    table.box = None
    table.pad_edge = False
    Console(width=_PIPED_COLUMNS, no_color=True, highlight=False).print(table)


def error_console() -> Console:
    """The console for progress and errors: standard error, so that standard output has only the result."""
    return Console(file=sys.stderr)
