"""Bring the database's schema up to date: `python -m craft_gateway.migrate`, before a new version starts."""

import logging

from craft.infra.settings.settings import Settings
from craft_gateway.store.database import Database
from craft_gateway.store.schema import upgrade

# It would write two lines at every readiness check.
logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)


def main() -> None:
    """Upgrade the database of the settings."""
    database = Database(Settings().resolved_database_url)
    try:
        upgrade(database)
    finally:
        database.close()


if __name__ == "__main__":
    main()
