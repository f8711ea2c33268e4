"""Bring a database to the present form: every step of the one tree that it has not taken yet, in one transaction."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

FOLDER = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """Take the steps. Two processes that begin at once take them once: the transaction holds the database."""
    if _taken(connection) == newest():
        return  # Alembic stays out of memory: 12 MB, 0.1 s
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def newest() -> str:
    """The last step of the tree: its files are named by their numbers."""
    return max(file.name.partition("_")[0] for file in (FOLDER / "versions").glob("[0-9]*.py"))


def _taken(connection: Connection) -> str | None:
    """The last step that the database has taken."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found
