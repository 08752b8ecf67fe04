"""`python -m craft_inference.worker`: runs the service's stages."""

from craft.contracts.stages.kinds import Service
from craft.infra.settings.settings import Settings
from craft.infra.storage.served_adapters import ServedAdapters
from craft.infra.worker.worker import run

_LEFT_BEHIND_SECONDS = 2 * 24 * 3600.0
"""The age of an adapter folder that no stage can still use: longer than any stage may run."""


def main() -> None:
    """Work until a signal stops the process."""
    settings = Settings()
    if settings.inference.engine == "vllm":
        adapters = ServedAdapters(settings.resolved_adapters_dir)
        adapters.ensure_root()
        adapters.remove_leftovers(older_than_seconds=_LEFT_BEHIND_SECONDS)
    run(Service.INFERENCE, "craft_inference.wiring:stage_functions", settings)


if __name__ == "__main__":
    main()
