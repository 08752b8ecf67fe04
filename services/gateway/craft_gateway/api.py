"""`python -m craft_gateway.api`: the public API's HTTP server."""

import sys

from craft.infra.http import is_loopback, serve
from craft.infra.log import configure
from craft.infra.settings import Settings
from craft_gateway import wiring


def main() -> None:
    """Serve until told to stop. Refuses any address but loopback unless told so: the API asks for no key yet."""
    settings = Settings()
    host = settings.gateway.host
    if not (is_loopback(host) or settings.gateway.allow_insecure_bind):
        sys.exit(
            f"The gateway refuses to listen on {host}: it asks for no key, so everybody who reaches it owns it.\n"
            "Listen on 127.0.0.1 (CRAFT_GATEWAY__HOST) and put a proxy that asks for credentials before it. Where the\n"
            "network itself keeps others out, CRAFT_GATEWAY__ALLOW_INSECURE_BIND=true says that you know."
        )
    configure(settings, "gateway")
    serve(wiring.app(settings), settings.gateway, settings)


if __name__ == "__main__":
    main()
