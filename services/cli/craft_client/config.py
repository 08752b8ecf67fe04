"""Finds the server and the credentials: from arguments, the environment, and ~/.config/craft/config.toml."""

import json
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from craft.contracts.base import NAME
from craft_client.errors import ConfigError

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_PROFILE = "default"
_FIELDS = ("url", "api_key", "team")


@dataclass(frozen=True, slots=True)
class Profile:
    """The fields of a profile; None if the profile does not set one."""

    url: str | None = None
    api_key: str | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """A server's address, with the key and the team of the caller."""

    url: str
    api_key: str | None = None
    team: str | None = None


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The path of the file with the profiles."""
    base = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or Path.home()) / ".config"
    return Path(base) / "craft" / "config.toml"


def connection(
    *,
    url: str | None = None,
    api_key: str | None = None,
    team: str | None = None,
    profile: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Connection:
    """The connection for a client, from four sources in this order:

    1. the arguments; 2. the profile that the argument `profile` names; 3. CRAFT_URL, CRAFT_API_KEY and CRAFT_TEAM;
    4. the profile that CRAFT_PROFILE names, or `default`.
    A profile's key and team are sent to that profile's own server only. Raises ConfigError.
    """
    named = profile or environ.get("CRAFT_PROFILE") or None
    saved = _profile(named, config_path(environ))
    variables = Profile(*(environ.get(name) or None for name in ("CRAFT_URL", "CRAFT_API_KEY", "CRAFT_TEAM")))
    first, second = (saved, variables) if profile else (variables, saved)
    target = checked_url(url or first.url or second.url or DEFAULT_URL)
    if _origin(target) != _origin(saved.url or DEFAULT_URL):
        first, second = variables, Profile()
    return Connection(
        target, checked_key(api_key or first.api_key or second.api_key), team or first.team or second.team
    )


def profiles(path: Path) -> dict[str, Profile]:
    """All profiles of the file, by name. Raises ConfigError if it is unreadable, or if others may read a key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    try:
        tables = tomllib.loads(text).get("profiles", {})
        loaded = {name: Profile(**table) for name, table in tables.items()}
    except (tomllib.TOMLDecodeError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no file of profiles: {error}", hint="Write it with `craft login`.") from None
    if not all(
        value is None or isinstance(value, str) for p in loaded.values() for value in (p.url, p.api_key, p.team)
    ):
        raise ConfigError(f"{path} has a value in a profile that is no text.", hint="Write it with `craft login`.")
    if any(p.api_key for p in loaded.values()) and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path} has keys in it, and others may read it.", hint=f"chmod 600 {path}")
    return loaded


def save_profile(path: Path, name: str, profile: Profile | None) -> None:
    """Save a profile, or delete it (None). The file is replaced as a whole, and only its owner may read it."""
    if re.fullmatch(NAME, name) is None:
        raise ConfigError(f"{name!r} is no name for a profile.", hint="Use lower-case letters, digits and . _ -")
    saved = profiles(path)
    saved.pop(name, None)
    if profile is not None:
        saved[name] = profile
    text = "\n".join(_table(key, saved[key]) for key in sorted(saved))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".config-")  # only its owner may read it
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None


def _table(name: str, profile: Profile) -> str:
    values = ((field, getattr(profile, field)) for field in _FIELDS)
    lines = [f"{field} = {_text(value)}" for field, value in values if value is not None]
    return "\n".join([f"[profiles.{_text(name)}]", *lines, ""])


def _text(value: str) -> str:
    # A JSON string is a TOML string, but for one character that TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _profile(named: str | None, path: Path) -> Profile:
    saved = profiles(path)
    if named is not None and named not in saved:
        known = ", ".join(sorted(saved)) or "none"
        raise ConfigError(
            f"{path} has no profile {named}; there is {known}.", hint=f"Make it: craft login --profile {named}"
        )
    return saved.get(named or DEFAULT_PROFILE, Profile())


def checked_url(url: str) -> str:
    """The address without a slash at its end. Raises ConfigError if it is no address of a server."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{url!r} is no address: {error}") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigError(f"{url!r} is no address of a server.", hint=f"It looks like {DEFAULT_URL}.")
    return url.rstrip("/")


def checked_key(key: str | None) -> str | None:
    """The key. Raises ConfigError if it cannot be the value of a header."""
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(
            "The API key has characters that no key has.", hint="Copy it again; it looks like craft_sk_…."
        )
    return key


def _origin(url: str) -> tuple[str, str, int | None]:
    parsed = httpx.URL(url)
    ports = {"http": 80, "https": 443}
    return parsed.scheme, parsed.host, parsed.port or ports.get(parsed.scheme)
