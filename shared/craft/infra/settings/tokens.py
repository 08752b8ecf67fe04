"""The tokens by which the system's own processes know one another."""

import sys

from craft.infra.settings.settings import Settings


def require_token(settings: Settings, name: str) -> None:
    """Exit in words unless the token of this name is set, such as "worker_token"."""
    if not getattr(settings, name).get_secret_value():
        variable = f"CRAFT_{name.upper()}"
        sys.exit(
            f"{variable} is not set.\n"
            "It is a secret text that all processes of an installation share; `openssl rand -hex 32` prints one.\n"
            "`craft up` makes one for each start."
        )
