"""`python -m craft_gateway.migrate`: brings the database's schema up to date, before a new version starts."""

import logging

from craft.infra.settings.settings import Settings
from craft_gateway.store.database import Database
from craft_gateway.store.schema import upgrade

# Below this level it writes two lines at every readiness check.
logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)


def main() -> None:
    """Upgrade the database that the settings name."""
    database = Database(Settings().resolved_database_url)
    try:
        upgrade(database)
    finally:
        database.close()


if __name__ == "__main__":
    main()
