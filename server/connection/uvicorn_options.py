"""What every server of ours is started with."""

from typing import Any

from server.connection.limited_protocol import MAX_WAITING_BYTES, LimitedProtocol


def _websocket(**given: Any) -> Any:
    """uvicorn's WebSocket protocol, loaded by the first connection that needs it: only a mounted one is reached."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**given)


def uvicorn_options(protocol: type[LimitedProtocol] = LimitedProtocol) -> dict[str, Any]:
    """What every server of ours is started with."""
    return {
        "http": protocol,
        "ws": _websocket,
        "ws_max_size": MAX_WAITING_BYTES,
        "timeout_keep_alive": 75,  # a pause in a call must not cost the next turn a handshake
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": False,
        "proxy_headers": False,  # nothing that a client can write is believed
    }
