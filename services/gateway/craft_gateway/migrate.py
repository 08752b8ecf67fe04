"""`python -m craft_gateway.migrate`: brings the database's schema up to date, before a new version starts."""

from craft.infra.settings.settings import Settings
from craft_gateway.store.database import Database
from craft_gateway.store.schema import upgrade_or_exit


def main() -> None:
    """Upgrade the database that the settings name."""
    database = Database(Settings().resolved_database_url)
    try:
        upgrade_or_exit(database)
    finally:
        database.close()


if __name__ == "__main__":
    main()
