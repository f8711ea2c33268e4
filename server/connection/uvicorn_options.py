"""The options with which every server is started."""

from typing import Any

from server.connection.limited_protocol import MAX_WAITING_BYTES, LimitedProtocol


def _websocket(**given: Any) -> Any:
    """Return uvicorn's WebSocket protocol. It is imported only for the first connection that needs it."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**given)


def uvicorn_options(protocol: type[LimitedProtocol] = LimitedProtocol) -> dict[str, Any]:
    """Return the options for uvicorn."""
    return {
        "http": protocol,
        "ws": _websocket,
        "ws_max_size": MAX_WAITING_BYTES,
        "timeout_keep_alive": 75,  # a pause in a call must not cost the next turn a handshake
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,  # a client could write these headers itself
    }
