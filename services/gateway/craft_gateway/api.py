"""`python -m craft_gateway.api`: the public API's HTTP server."""

import gc
import sys

from craft.infra.http.server.serve import serve
from craft.infra.observe import log, telemetry
from craft.infra.settings.addresses import is_loopback
from craft.infra.settings.settings import Settings
from craft.infra.settings.tokens import require_token
from craft.infra.storage.state_folder import exit_without_database
from craft_gateway import wiring_api

_SWITCH_SECONDS = 0.001


def main() -> None:
    """Serve until a signal stops it. Beyond loopback every caller needs a key; the settings hold the first one."""
    settings = Settings()
    host = settings.gateway.host
    if not (is_loopback(host) or settings.gateway.operator_key or settings.gateway.oidc):
        sys.exit(
            f"The gateway refuses to listen on {host} without keys.\n"
            "Set CRAFT_GATEWAY__OPERATOR_KEY (32 characters or more, such as `openssl rand -hex 32` prints), or\n"
            "CRAFT_GATEWAY__OIDC__ISSUER and CRAFT_GATEWAY__OIDC__AUDIENCE; or listen on 127.0.0.1."
        )
    require_token(settings, "service_token")
    log.configure(settings, "gateway")
    telemetry.configure(settings, "gateway")
    exit_without_database(settings)
    app = wiring_api.app(settings)
    _limit_pauses()
    serve(app, settings.gateway, settings)


def _limit_pauses() -> None:
    """Keep one caller's request from delaying all others."""
    # A full collection over all imported objects stops every thread for a tenth of a second, and finds nothing.
    gc.collect()
    gc.freeze()
    # A thread that builds a long list releases the interpreter sooner than after Python's default of 5 ms.
    sys.setswitchinterval(_SWITCH_SECONDS)


if __name__ == "__main__":
    main()
