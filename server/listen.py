"""A listening socket of our own: a port that is taken is one clear line, known before anything is loaded."""

import socket

from server.settings import Settings, SettingsError


def listen(settings: Settings) -> socket.socket:
    """Raises SettingsError with the address and the reason."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        reason = (error.strerror or "it cannot be used").lower()
        raise SettingsError(f"Cannot listen on {settings.host}:{settings.port}: {reason}.") from None
    return listener
