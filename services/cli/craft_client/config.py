"""Which server to speak to and as whom: arguments, the environment, and profiles in ~/.config/craft/config.toml."""

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
_MEMBERS = ("url", "api_key", "team")


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile says; None where it says nothing."""

    url: str | None = None
    api_key: str | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """A server, and who asks it."""

    url: str
    api_key: str | None = None
    team: str | None = None


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where profiles are kept."""
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
    """Arguments first, then a profile that is named by argument, then CRAFT_URL, CRAFT_API_KEY and CRAFT_TEAM, then the
    profile that CRAFT_PROFILE names or `default`.

    A profile's key and team go to the profile's own server and to no other. Raises ConfigError.
    """
    named = profile or environ.get("CRAFT_PROFILE") or None
    kept = _profile(named, config_path(environ))
    given = Profile(*(environ.get(name) or None for name in ("CRAFT_URL", "CRAFT_API_KEY", "CRAFT_TEAM")))
    first, second = (kept, given) if profile else (given, kept)
    target = checked_url(url or first.url or second.url or DEFAULT_URL)
    if _origin(target) != _origin(kept.url or DEFAULT_URL):
        first, second = given, Profile()
    return Connection(
        target, checked_key(api_key or first.api_key or second.api_key), team or first.team or second.team
    )


def profiles(path: Path) -> dict[str, Profile]:
    """All that is kept there, by name. Raises ConfigError where it cannot be read, or others could read a key in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    try:
        tables = tomllib.loads(text).get("profiles", {})
        found = {name: Profile(**table) for name, table in tables.items()}
    except (tomllib.TOMLDecodeError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} does not hold profiles: {error}", hint="Write it with `craft login`.") from None
    if not all(value is None or isinstance(value, str) for p in found.values() for value in (p.url, p.api_key, p.team)):
        raise ConfigError(f"{path} has something else than texts in a profile.", hint="Write it with `craft login`.")
    if any(p.api_key for p in found.values()) and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path} holds keys, and others may read it.", hint=f"chmod 600 {path}")
    return found


def save_profile(path: Path, name: str, profile: Profile | None) -> None:
    """Keep a profile, or forget it (None); the file is replaced whole, and only its owner may read it."""
    if re.fullmatch(NAME, name) is None:
        raise ConfigError(f"{name!r} is no name for a profile.", hint="Use lower-case letters, digits and . _ -")
    kept = profiles(path)
    kept.pop(name, None)
    if profile is not None:
        kept[name] = profile
    text = "\n".join(_table(each, kept[each]) for each in sorted(kept))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".config-")  # for its owner only
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None


def _table(name: str, profile: Profile) -> str:
    values = ((member, getattr(profile, member)) for member in _MEMBERS)
    lines = [f"{member} = {_text(value)}" for member, value in values if value is not None]
    return "\n".join([f"[profiles.{_text(name)}]", *lines, ""])


def _text(value: str) -> str:
    # JSON's text is TOML's, but for one mark that TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _profile(named: str | None, path: Path) -> Profile:
    kept = profiles(path)
    if named is not None and named not in kept:
        known = ", ".join(sorted(kept)) or "none"
        raise ConfigError(
            f"{path} has no profile {named}; there is {known}.", hint=f"Make it: craft login --profile {named}"
        )
    return kept.get(named or DEFAULT_PROFILE, Profile())


def checked_url(url: str) -> str:
    """The address without a slash at its end. Raises ConfigError."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{url!r} is no address: {error}") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigError(f"{url!r} is no address of a server.", hint=f"It looks like {DEFAULT_URL}.")
    return url.rstrip("/")


def checked_key(key: str | None) -> str | None:
    """The key as it may stand in a header. Raises ConfigError."""
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError("The API key has marks that no key has.", hint="Copy it again; it looks like craft_sk_….")
    return key


def _origin(url: str) -> tuple[str, str, int | None]:
    parsed = httpx.URL(url)
    ports = {"http": 80, "https": 443}
    return parsed.scheme, parsed.host, parsed.port or ports.get(parsed.scheme)
