"""`python -m craft_gateway.api`: the public API's HTTP server."""

import gc
import sys

from craft.infra import log, telemetry
from craft.infra.http import is_loopback, serve
from craft.infra.settings import Settings
from craft_gateway import wiring

_SWITCH_SECONDS = 0.001


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
    log.configure(settings, "gateway")
    telemetry.configure(settings, "gateway")
    app = wiring.app(settings)
    _answer_evenly()
    serve(app, settings.gateway, settings)


def _answer_evenly() -> None:
    """Keep what one caller asks for from holding up all others."""
    # A full collection over all that was imported stops every thread for a tenth of a second, and finds nothing.
    gc.collect()
    gc.freeze()
    # A thread that builds a long list hands the interpreter on sooner than after the 5 ms that Python would let it.
    sys.setswitchinterval(_SWITCH_SECONDS)


if __name__ == "__main__":
    main()
