"""The choice of the server and the credentials."""

import tomllib
from pathlib import Path

import pytest

from craft_client import ConfigError
from craft_client.config import DEFAULT_URL, Connection, Profile, config_path, connection, profiles, save_profile

WORK = Profile("https://craft.example.com", "craft_sk_work", "search")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    save_profile(config_path(environment), "work", WORK)
    return environment


def test_the_default_is_this_machine(tmp_path: Path) -> None:
    assert connection(environ={"HOME": str(tmp_path)}) == Connection(DEFAULT_URL)


def test_arguments_come_before_the_environment_and_that_before_the_default_profile(home: dict[str, str]) -> None:
    save_profile(config_path(home), "default", Profile("http://a", "craft_sk_a", "a"))
    assert connection(environ=home) == Connection("http://a", "craft_sk_a", "a")
    home |= {"CRAFT_TEAM": "b", "CRAFT_API_KEY": "craft_sk_b"}
    assert connection(environ=home) == Connection("http://a", "craft_sk_b", "b")
    assert connection(api_key="craft_sk_c", team="c", environ=home) == Connection("http://a", "craft_sk_c", "c")


def test_a_profile_named_by_argument_comes_before_the_environment(home: dict[str, str]) -> None:
    home |= {"CRAFT_URL": "http://other", "CRAFT_API_KEY": "craft_sk_other"}
    assert connection(profile="work", environ=home) == Connection(*_members(WORK))
    assert connection(environ=home | {"CRAFT_PROFILE": "work"}) == Connection("http://other", "craft_sk_other", None)


def _members(profile: Profile) -> tuple[str, str | None, str | None]:
    return profile.url or "", profile.api_key, profile.team


@pytest.mark.parametrize(
    "url", ["http://craft.example.com", "https://craft.example.com:444", "https://craft.example.com.evil.org"]
)
def test_a_profiles_key_goes_to_its_own_server_only(home: dict[str, str], url: str) -> None:
    assert connection(url=url, profile="work", environ=home) == Connection(url)
    assert connection(environ=home | {"CRAFT_URL": url, "CRAFT_PROFILE": "work"}) == Connection(url)


def test_another_spelling_of_the_same_server_is_the_same(home: dict[str, str]) -> None:
    target = connection(url="https://craft.example.com:443/", profile="work", environ=home)
    assert target.api_key == "craft_sk_work"


def test_a_file_of_keys_that_others_may_read_is_not_used(home: dict[str, str]) -> None:
    path = config_path(home)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        connection(environ=home)


def test_an_unknown_profile_names_the_known_ones(home: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"no profile play; there is work"):
        connection(profile="play", environ=home)


@pytest.mark.parametrize("text", ["profiles = 3", "[profiles.work]\ncolour = 'red'", "[profiles.work]\nurl = 3", "x ="])
def test_a_file_of_something_else_is_an_error(home: dict[str, str], text: str) -> None:
    config_path(home).write_text(text)
    with pytest.raises(ConfigError, match="craft login"):
        connection(environ=home)


@pytest.mark.parametrize("team", ['a"b', "a\\b", "Köln 🌊", "a\nb\x7f", "[profiles.x]"])
def test_every_text_is_read_back(home: dict[str, str], team: str) -> None:
    path = config_path(home)
    save_profile(path, "odd", Profile(None, None, team))
    assert profiles(path) == {"odd": Profile(None, None, team), "work": WORK}
    assert tomllib.loads(path.read_text(encoding="utf-8"))["profiles"]["odd"] == {"team": team}
    save_profile(path, "odd", None)
    assert profiles(path) == {"work": WORK}
    assert [file.name for file in path.parent.iterdir()] == ["config.toml"]


@pytest.mark.parametrize("url", ["craft.example.com", "ftp://x", "http://"])
def test_what_is_no_address_is_refused_before_anything_is_sent(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError):
        connection(url=url, environ={"HOME": str(tmp_path)})


def test_a_key_with_a_line_break_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Copy it again"):
        connection(api_key="craft_sk_a\nb", environ={"HOME": str(tmp_path)})
