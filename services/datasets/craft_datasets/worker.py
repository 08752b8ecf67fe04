"""`python -m craft_datasets.worker`: runs the service's stages."""

from craft.contracts.stages.kinds import Service
from craft.infra.settings.settings import Settings
from craft.infra.worker.worker import run


def main() -> None:
    """Work until told to stop."""
    run(Service.DATASETS, "craft_datasets.wiring:stage_functions", Settings())


if __name__ == "__main__":
    main()
