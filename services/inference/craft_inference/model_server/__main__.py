"""`python -m craft_inference.model_server`: starts vLLM on demand, watches it and relays to it."""

from craft.infra.http.server.serve import serve
from craft.infra.observe import log, telemetry
from craft.infra.settings.settings import Settings
from craft.infra.settings.tokens import require_token
from craft_inference.model_server import wiring


def main() -> None:
    """Serve until a signal stops the process."""
    settings = Settings()
    require_token(settings, "model_server_token")
    log.configure(settings, "model-server")
    telemetry.configure(settings, "model-server")
    serve(wiring.app(settings), settings.model_server, settings)


if __name__ == "__main__":
    main()
