"""`python -m craft_training.api`: the service's HTTP server."""

from craft.infra.http.server.serve import serve
from craft.infra.observe import log, telemetry
from craft.infra.settings.settings import Settings
from craft.infra.settings.tokens import require_token
from craft_training import wiring


def main() -> None:
    """Serve until a signal stops the process."""
    settings = Settings()
    require_token(settings, "service_token")
    log.configure(settings, "training")
    telemetry.configure(settings, "training")
    serve(wiring.app(settings), settings.training, settings)


if __name__ == "__main__":
    main()
