"""The coordinator process: the workers' calls over HTTP, and the loops beside them."""

from craft.infra.broker.celery import CeleryQueues, celery_app
from craft.infra.http.server.serve import serve
from craft.infra.observe import log, telemetry
from craft.infra.settings.settings import Settings
from craft.infra.settings.tokens import require_token
from craft.infra.storage.artifacts import FolderStore
from craft.infra.storage.state_folder import exit_without_database
from craft_gateway.store import schema
from craft_gateway.store.database import Database
from craft_gateway.wiring_coordinator import coordinator_app


def main() -> None:
    """Run the coordinator until SIGTERM. Only the local default (SQLite) migrates by itself."""
    settings = Settings()
    require_token(settings, "worker_token")
    log.configure(settings, "coordinator")
    telemetry.configure(settings, "coordinator")
    database = Database(settings.resolved_database_url)
    if database.is_sqlite:
        exit_without_database(settings)
        schema.upgrade_or_exit(database)
    queues = CeleryQueues(celery_app(settings))
    store = FolderStore(settings.resolved_artifacts_dir)
    app = coordinator_app(database, exists=store.holds, queues=queues, settings=settings)
    serve(app, settings.coordinator, settings)


if __name__ == "__main__":
    main()
