"""`python -m craft_inference.worker`: does the service's stages."""

from craft.contracts.stages.kinds import Service
from craft.infra.settings.settings import Settings
from craft.infra.storage.served_adapters import ServedAdapters
from craft.infra.worker.worker import run

_LEFT_BEHIND_SECONDS = 2 * 24 * 3600.0
"""Longer than any stage may run."""


def main() -> None:
    """Work until told to stop."""
    settings = Settings()
    if settings.inference.engine == "vllm":
        adapters = ServedAdapters(settings.resolved_adapters_dir)
        adapters.ensure_root()
        adapters.sweep(older_than_seconds=_LEFT_BEHIND_SECONDS)
    run(Service.INFERENCE, "craft_inference.wiring:stage_functions", settings)


if __name__ == "__main__":
    main()
