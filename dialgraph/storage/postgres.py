"""PostgreSQL connections that notice when the server stops answering.

TCP does not notice a frozen server, because its kernel still acknowledges every byte. This module is imported only
where PostgreSQL is used, because the driver is an extra.
"""

import asyncio
import os
import socket
from typing import Any

from psycopg import AsyncConnection, OperationalError
from psycopg.abc import PQGen

from dialgraph.storage.statement_timeout import seconds_to_answer

CONNECT_SECONDS = 2
"""The shortest time that libpq accepts: it treats a smaller value as two seconds."""
_UNACKNOWLEDGED_MILLISECONDS = 2000
_PASSING = ("57P", "53", "08")
"""The first characters of an SQLSTATE that may pass: the server is starting, stopping or full, or the connection broke.
"""


class WatchedConnection(AsyncConnection[Any]):
    """Closes its own socket when a statement is not answered in time, so that the statement fails immediately.

    A cancellation is not enough: the driver then asks the same server to cancel the statement, and waits for that.
    """

    async def wait(self, gen: PQGen[Any], *arguments: Any, **options: Any) -> Any:
        """Wait for the network, but not longer than a statement may take. psycopg calls this for every wait."""
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
    """Return the options with which every connection is opened."""
    return {
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": _UNACKNOWLEDGED_MILLISECONDS,
        "keepalives_idle": 5,
        "keepalives_interval": 1,
        "keepalives_count": 3,
    }


def may_come_back(error: BaseException | None) -> bool:
    """Return whether a connection that failed with this error may succeed later: the server is away, starting or full.

    A wrong password, an unknown database or the address of a wrong server needs a change by the operator.
    """
    if not isinstance(error, OperationalError):
        return False
    state = error.sqlstate or ""
    said = str(error)
    if "FATAL:" in said and not state:
        return "starting up" in said or "shutting down" in said or "too many" in said or "recovery" in said
    return not state or state.startswith(_PASSING)
