"""`python -m craft_training.api`: the service's HTTP server."""

from craft.infra.http.server.serve import serve
from craft.infra.observe import log, telemetry
from craft.infra.settings.settings import Settings
from craft_training import wiring


def main() -> None:
    """Serve until a signal stops the process."""
    settings = Settings()
    log.configure(settings, "training")
    telemetry.configure(settings, "training")
    serve(wiring.app(settings), settings.training, settings)


if __name__ == "__main__":
    main()
