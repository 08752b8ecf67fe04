"""The session of a command that calls a server: its client, and the options that all such commands share."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Concatenate, ParamSpec

import typer
from pydantic import BaseModel

from craft_cli.failures import EXIT_CODES, report_errors
from craft_cli.lookup import Lookup
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
    """Register a command that calls a server. It gets a session; its user gets --url, --team, --profile and --json.

    An argument with a Lookup in its metadata may also be the beginning of an id or a name. `list` is another name of
    `ls`.
    """

    def registered(
        command: Callable[Concatenate[Session, Parameters], None],
    ) -> Callable[Concatenate[Session, Parameters], None]:
        @functools.wraps(command)
        def run(*, url: str | None, team: str | None, profile: str | None, as_json: bool, **words: Any) -> None:
            with report_errors(as_json=as_json), Client(url, team=team, profile=profile) as client:
                found = {name: _looked_up(client, lookups.get(name), given) for name, given in words.items()}
                command(Session(client, as_json), **found)  # type: ignore[call-arg] # the signature below has them

        own = list(inspect.signature(command).parameters.values())[1:]
        lookups = {parameter.name: lookup for parameter in own if (lookup := _lookup_of(parameter))}
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
        if name == "ls":
            app.command("list", hidden=True, epilog=epilog(example))(run)
        return command

    return registered


def _lookup_of(parameter: inspect.Parameter) -> Lookup | None:
    """The lookup in a parameter's metadata, if it has one."""
    metadata = getattr(parameter.annotation, "__metadata__", ())
    return next((each for each in metadata if isinstance(each, Lookup)), None)


def _looked_up(client: Client, lookup: Lookup | None, given: Any) -> Any:
    """The ids of an argument that is to be looked up; any other argument as it is."""
    if lookup is None or given is None:
        return given
    return [lookup.id_of(client, each) for each in given] if isinstance(given, list) else lookup.id_of(client, given)


def epilog(example: str) -> str:
    """The text below a command's options: an example and the exit codes."""
    return f"Example: `{example}`\n\n{EXIT_CODES}" if example else EXIT_CODES
