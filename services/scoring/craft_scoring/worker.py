"""`python -m craft_scoring.worker`: runs the service's stages."""

from craft.contracts.stages.kinds import Service
from craft.infra.settings.settings import Settings
from craft.infra.worker.worker import run


def main() -> None:
    """Work until a signal stops the process."""
    run(Service.SCORING, "craft_scoring.wiring:stage_functions", Settings())


if __name__ == "__main__":
    main()
