"""PostgreSQL connections that notice when the server stops answering: a frozen server acknowledges every byte for ever.

Imported only where a PostgreSQL is used: the driver is an extra.
"""

import asyncio
import os
import socket
from typing import Any

from psycopg import AsyncConnection, OperationalError
from psycopg.abc import PQGen

from dialgraph.storage.statement_timeout import seconds_to_answer

CONNECT_SECONDS = 2
"""libpq takes less for two all the same."""
_UNACKNOWLEDGED_MILLISECONDS = 2000
_PASSING = ("57P", "53", "08")
"""How the SQLSTATE of a server begins that is starting, stopping, full, or behind a broken connection."""


class WatchedConnection(AsyncConnection[Any]):
    """Breaks its own connection when a statement is not answered in time, so that the statement fails at once.

    A cancellation would not do: the driver then asks the same server to cancel the statement, and waits for that.
    """

    async def wait(self, gen: PQGen[Any], *arguments: Any, **options: Any) -> Any:
        """See psycopg: every wait for the network passes here."""
        if (seconds := seconds_to_answer()) is None:
            return await super().wait(gen, *arguments, **options)
        timer = asyncio.get_running_loop().call_later(seconds, self._give_up)
        try:
            return await super().wait(gen, *arguments, **options)
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        with socket.socket(fileno=os.dup(self.pgconn.socket)) as connection:
            connection.shutdown(socket.SHUT_RDWR)


def connect_options() -> dict[str, Any]:
    """What every connection of a server's is opened with."""
    return {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": _UNACKNOWLEDGED_MILLISECONDS,
        "keepalives_idle": 5,
        "keepalives_interval": 1,
        "keepalives_count": 3,
    }


def may_come_back(error: BaseException | None) -> bool:
    """Return whether a connection that failed so may succeed later: the server is away, starting or full.

    A wrong password, an unknown database and a wrong address of a database that answers do not pass by themselves.
    """
    if not isinstance(error, OperationalError):
        return False
    state = error.sqlstate or ""
    said = str(error)
    if "FATAL:" in said and not state:
        return "starting up" in said or "shutting down" in said or "too many" in said or "recovery" in said
    return not state or state.startswith(_PASSING)
