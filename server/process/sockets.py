"""Opens the listening socket before anything else is loaded, so that a port in use is reported early and clearly."""

import socket

from server.settings import Settings, SettingsError

UNACKNOWLEDGED_MILLISECONDS = 35_000
"""The time after which the kernel closes the connection of a client that acknowledges nothing.

The kernel also counts the time in which a connected client reads nothing. That is allowed for `send_timeout_seconds`.
A client that has vanished is noticed sooner (server.connection.vanished)."""


def listen(settings: Settings) -> socket.socket:
    """Return a socket that is bound to the address of the settings. Raises SettingsError with the reason."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named so that asyncio sends small chunks immediately (TCP_NODELAY), as uvloop always does.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Accepted connections inherit it, so that a client that vanishes without closing is noticed.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        reason = (error.strerror or "it cannot be used").lower()
        raise SettingsError(f"Cannot listen on {settings.host}:{settings.port}: {reason}.") from None
    return listener
