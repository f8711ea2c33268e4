"""Runs the migrations that a database has not had yet, in one transaction."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

FOLDER = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """Run the missing migrations. If two processes start together, only one runs them: the transaction holds a lock."""
    if _taken(connection) == newest():
        return  # without importing Alembic: it takes 12 MB and 0.1 s
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def newest() -> str:
    """Return the number of the newest migration, from the names of the files."""
    return max(file.name.partition("_")[0] for file in (FOLDER / "versions").glob("[0-9]*.py"))


def _taken(connection: Connection) -> str | None:
    """Return the number of the last migration that the database has had; None if it has had none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found
