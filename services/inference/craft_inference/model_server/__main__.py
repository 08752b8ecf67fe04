"""`python -m craft_inference.model_server`: starts vLLM on demand, watches it and relays to it."""

import sys

from craft.infra.http.server.serve import serve
from craft.infra.observe import log, telemetry
from craft.infra.settings.addresses import is_loopback
from craft.infra.settings.settings import Settings
from craft_inference.model_server import wiring


def main() -> None:
    """Serve until a signal stops the process."""
    settings = Settings()
    if not is_loopback(settings.model_server.host) and "model_server_token" not in settings.model_fields_set:
        sys.exit("The model server listens beyond loopback only with a token of its own: set CRAFT_MODEL_SERVER_TOKEN.")
    log.configure(settings, "model-server")
    telemetry.configure(settings, "model-server")
    serve(wiring.app(settings), settings.model_server, settings)


if __name__ == "__main__":
    main()
