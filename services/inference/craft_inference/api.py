"""`python -m craft_inference.api`: the service's HTTP server."""

from craft.infra.http.server.serve import serve
from craft.infra.observe import log, telemetry
from craft.infra.settings.settings import Settings
from craft.infra.settings.tokens import require_token
from craft_inference import wiring


def main() -> None:
    """Serve until a signal stops the process."""
    settings = Settings()
    require_token(settings, "service_token")
    log.configure(settings, "inference")
    telemetry.configure(settings, "inference")
    serve(wiring.app(settings), settings.inference, settings)


if __name__ == "__main__":
    main()
