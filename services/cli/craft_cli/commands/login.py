"""`craft login`, `craft logout`: profiles in ~/.config/craft/config.toml, which only their owner may read."""

import os
import sys

import typer

from craft_cli.failures import report_errors
from craft_cli.output import print_json
from craft_cli.session import AsJson, ProfileOption, TeamOption, Url, epilog
from craft_client import Client
from craft_client.config import (
    DEFAULT_PROFILE,
    DEFAULT_URL,
    Profile,
    checked_key,
    checked_url,
    config_path,
    profiles,
    save_profile,
)
from craft_client.sync.transport import Transport

app = typer.Typer()


@app.command(epilog=epilog("craft login --url https://craft.example.com --profile work"))
def login(*, url: Url = None, team: TeamOption = None, profile: ProfileOption = None, as_json: AsJson = False) -> None:
    """Save an address, a key and a team as a profile, after the server has accepted the key.

    The key is prompted for on a terminal and read from standard input elsewhere, never from the command line.
    """
    with report_errors(as_json=as_json):
        name, path = _name(profile), config_path()
        target = checked_url(url or profiles(path).get(name, Profile()).url or DEFAULT_URL)
        key = checked_key(_read_key(target) or None)
        # Only the values that are saved are tried, not those of the environment or of another profile.
        with Client(transport=Transport(target, api_key=key, team=team)) as client:
            caller = client.me()
        save_profile(path, name, Profile(target, key, team))
        if as_json:
            print_json({"profile": name, "url": target, "actor": caller.actor, "team": caller.team, "path": str(path)})
        else:
            print(f"Profile {name}: {caller.actor} in team {caller.team} of {target}")


@app.command()
def logout(*, profile: ProfileOption = None, as_json: AsJson = False) -> None:
    """Delete a profile with its key. The key itself stays valid until `craft keys revoke`."""
    with report_errors(as_json=as_json):
        name, path = _name(profile), config_path()
        known = name in profiles(path)
        if known:
            save_profile(path, name, None)
        if as_json:
            print_json({"profile": name, "forgotten": known})
        else:
            print(f"Profile {name} is forgotten." if known else f"There was no profile {name}.")


def _name(profile: str | None) -> str:
    return profile or os.environ.get("CRAFT_PROFILE") or DEFAULT_PROFILE


def _read_key(url: str) -> str:
    if sys.stdin.isatty():
        key = typer.prompt(f"API key for {url}", default="", hide_input=True, show_default=False, err=True)
        return str(key).strip()
    return sys.stdin.readline().strip()
