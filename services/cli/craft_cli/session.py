"""What every command shares: the server's address, output form and how errors end the program."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from craft.errors import CraftError
from craft_client import ApiError, Client, JobFailed, ServerUnreachable
from craft_client.client import DEFAULT_URL

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3

Url = Annotated[str, typer.Option("--url", envvar="CRAFT_URL", help="The gateway's address.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables for people.")]
DEFAULT = DEFAULT_URL


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """A client whose errors end the program with a sentence and an exit code."""
    with reported(), Client(url) as client:
        yield client


@contextmanager
def reported() -> Iterator[None]:
    """Turn known errors into a message on standard error and an exit code; anything else is a defect and shows."""
    try:
        yield
    except ServerUnreachable as error:
        fail(f"{error}\nHint: start the system with `craft up`, or name it with --url.", EXIT_UNREACHABLE)
    except (ApiError, JobFailed) as error:
        fail(str(error), EXIT_FAILED)
    except CraftError as error:
        fail(error.message + (f"\nHint: {error.hint}" if error.hint else ""), EXIT_FAILED)
    except ValidationError as error:
        fail(str(error), EXIT_USAGE)


def fail(message: str, code: int) -> None:
    """Say why and end."""
    Console(stderr=True).print(message, style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(code)


def show_json(value: BaseModel | dict[str, Any]) -> None:
    """One JSON document on standard output."""
    text = value.model_dump_json(indent=2) if isinstance(value, BaseModel) else json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")
