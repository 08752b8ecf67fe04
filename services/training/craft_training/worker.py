"""`python -m craft_training.worker`: runs the service's stages."""

from craft.contracts.stages.kinds import Service
from craft.infra.settings.settings import Settings
from craft.infra.worker.worker import run
from craft_training.quantized import HOW, MISSING, has_bitsandbytes


def main() -> None:
    """Work until a signal stops the process. Ends at once where the settings promise what is not installed."""
    settings = Settings()
    if settings.training.nf4 and not has_bitsandbytes():
        raise SystemExit(f"CRAFT_TRAINING__NF4 is set, but {MISSING} {HOW}")
    run(Service.TRAINING, "craft_training.wiring:stage_functions", settings)


if __name__ == "__main__":
    main()
