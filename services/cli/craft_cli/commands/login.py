"""`craft login` and `craft logout`: profiles in ~/.config/craft/config.toml, for their owner's eyes only."""

import os
import sys

import typer

from craft_cli.session import AsJson, ProfileOption, TeamOption, Url, reported, show_json
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


def login(*, url: Url = None, team: TeamOption = None, profile: ProfileOption = None, as_json: AsJson = False) -> None:
    """Keep an address, a key and a team as a profile, once the server has taken the key.

    The key is asked for on a terminal and read from standard input elsewhere, never from the command line.
    """
    with reported(as_json=as_json):
        name, path = _name(profile), config_path()
        target = checked_url(url or profiles(path).get(name, Profile()).url or DEFAULT_URL)
        key = checked_key(_asked_key(target) or None)
        # What the environment or another profile says is not what is kept, so it is not tried either.
        with Client(transport=Transport(target, api_key=key, team=team)) as client:
            found = client.me()
        save_profile(path, name, Profile(target, key, team))
        if as_json:
            show_json({"profile": name, "url": target, "actor": found.actor, "team": found.team, "path": str(path)})
        else:
            print(f"Profile {name}: {found.actor} in team {found.team} of {target}")


def logout(*, profile: ProfileOption = None, as_json: AsJson = False) -> None:
    """Forget a profile and its key. The key itself goes on working: `craft keys revoke` ends it."""
    with reported(as_json=as_json):
        name, path = _name(profile), config_path()
        known = name in profiles(path)
        if known:
            save_profile(path, name, None)
        if as_json:
            show_json({"profile": name, "forgotten": known})
        else:
            print(f"Profile {name} is forgotten." if known else f"There was no profile {name}.")


def _name(profile: str | None) -> str:
    return profile or os.environ.get("CRAFT_PROFILE") or DEFAULT_PROFILE


def _asked_key(url: str) -> str:
    if sys.stdin.isatty():
        asked = typer.prompt(f"API key for {url}", default="", hide_input=True, show_default=False, err=True)
        return str(asked).strip()
    return sys.stdin.readline().strip()
