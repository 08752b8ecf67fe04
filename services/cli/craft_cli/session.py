"""The session of a command that calls a server: its client, and the options that all such commands share."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Concatenate, ParamSpec

import typer
from pydantic import BaseModel

from craft_cli.failures import EXIT_CODES, report_errors
from craft_cli.output import print_json, print_lines
from craft_client import Client

Url = Annotated[str | None, typer.Option("--url", help="The gateway's address. [env: CRAFT_URL]", show_default=False)]
TeamOption = Annotated[str | None, typer.Option("--team", help="The team to act in. [env: CRAFT_TEAM]")]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="A profile of `craft login`. [env: CRAFT_PROFILE]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text for people.")]
Parameters = ParamSpec("Parameters")


@dataclass(frozen=True, slots=True)
class Session:
    """A client, and the form of the output."""

    client: Client
    as_json: bool

    def show(self, value: BaseModel | dict[str, Any], *lines: object) -> None:
        """Print the value as JSON, or the lines (texts and tables) for people."""
        if self.as_json:
            print_json(value)
        else:
            print_lines(*lines)


def server_command(
    app: typer.Typer, name: str | None = None, *, example: str = ""
) -> Callable[[Callable[Concatenate[Session, Parameters], None]], Callable[Concatenate[Session, Parameters], None]]:
    """Register a command that calls a server. It gets a session; its user gets --url, --team, --profile and --json."""

    def registered(
        command: Callable[Concatenate[Session, Parameters], None],
    ) -> Callable[Concatenate[Session, Parameters], None]:
        @functools.wraps(command)
        def run(*, url: str | None, team: str | None, profile: str | None, as_json: bool, **words: Any) -> None:
            with report_errors(as_json=as_json), Client(url, team=team, profile=profile) as client:
                command(Session(client, as_json), **words)  # type: ignore[call-arg] # the signature below has them

        own = list(inspect.signature(command).parameters.values())[1:]
        shared = [
            inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Url),
            inspect.Parameter("team", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=TeamOption),
            inspect.Parameter("profile", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ProfileOption),
            inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson),
        ]
        own_names = {parameter.name for parameter in own}
        parameters = [*own, *(parameter for parameter in shared if parameter.name not in own_names)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # functions take any attribute
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, epilog=epilog(example))(run)
        return command

    return registered


def epilog(example: str) -> str:
    """The text below a command's options: an example and the exit codes."""
    return f"Example: `{example}`\n\n{EXIT_CODES}" if example else EXIT_CODES
