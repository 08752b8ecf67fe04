"""`make attacks`: one team attacks, another works; prints what the latter sees, and exits with 1 beyond the bounds."""

import argparse
import sys

from tests.security.two_teams.attacks import ATTACKS
from tests.security.two_teams.outcome import run


def main() -> None:
    """Run the attacks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attacks", nargs="*", choices=[*ATTACKS, []], help="by default all")
    names = parser.parse_args().attacks or list(ATTACKS)
    beyond = [f"{outcome.attack}: {words}" for outcome in run(names, _say) for words in outcome.beyond]
    sys.exit("\n".join(beyond) or None)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
