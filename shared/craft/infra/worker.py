"""The worker process of a service."""

from craft.contracts.stages import Service
from craft.infra.settings import Settings


def run(service: Service, stage_functions_path: str, settings: Settings) -> None:
    """Work on the service's queue until SIGTERM. `stage_functions_path` is `package.module:callable`."""
    raise NotImplementedError
