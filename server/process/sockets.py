"""A listening socket of our own: a port that is taken is one clear line, known before anything is loaded."""

import socket

from server.settings import Settings, SettingsError

UNACKNOWLEDGED_MILLISECONDS = 35_000
"""After which the kernel gives a client up. It also counts the time in which a client that is there takes nothing,
which may be `send_timeout_seconds`; one that has vanished is noticed sooner (server.connection.vanished)."""


def listen(settings: Settings) -> socket.socket:
    """Raises SettingsError with the address and the reason."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named asyncio sends small chunks at once, as uvloop always does.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Accepted connections inherit it: a client that vanished is noticed although nobody says goodbye.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        reason = (error.strerror or "it cannot be used").lower()
        raise SettingsError(f"Cannot listen on {settings.host}:{settings.port}: {reason}.") from None
    return listener
