"""`python -m craft_datasets.api`: the service's HTTP server."""

from craft.infra.http.server.serve import serve
from craft.infra.observe import log, telemetry
from craft.infra.settings.settings import Settings
from craft.infra.settings.tokens import require_token
from craft_datasets import wiring


def main() -> None:
    """Serve until told to stop."""
    settings = Settings()
    require_token(settings, "service_token")
    log.configure(settings, "datasets")
    telemetry.configure(settings, "datasets")
    serve(wiring.app(settings), settings.datasets, settings)


if __name__ == "__main__":
    main()
