"""`python -m craft_scoring.worker`: does the service's stages."""

from craft.contracts.stages.kinds import Service
from craft.infra.settings.settings import Settings
from craft.infra.worker.worker import run


def main() -> None:
    """Work until told to stop."""
    run(Service.SCORING, "craft_scoring.wiring:stage_functions", Settings())


if __name__ == "__main__":
    main()
