"""`python -m craft_inference.model_server`: starts vLLM where it is needed, watches it and stands before it."""

from craft.infra import log
from craft.infra.http import serve
from craft.infra.settings import Settings
from craft_inference import server_wiring


def main() -> None:
    """Serve until told to stop."""
    settings = Settings()
    log.configure(settings, "model-server")
    serve(server_wiring.app(settings), settings.model_server, settings)


if __name__ == "__main__":
    main()
