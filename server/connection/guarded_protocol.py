"""Our HTTP protocol for a server that strangers can reach, with a connection limit and the PROXY protocol."""

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any, ClassVar

from server.connection.crowd import ConnectionLimit, most_connections, raise_file_limit
from server.connection.extensions import KNOWN
from server.connection.limited_protocol import LimitedProtocol
from server.connection.networks import address_of, networks
from server.connection.proxy_protocol import ProxyHeaderError, may_begin, read_header
from server.settings import Settings


class GuardedProtocol(LimitedProtocol):
    """One connection that counts towards the limit. It accepts the PROXY header of a trusted proxy."""

    crowd: ClassVar[ConnectionLimit]
    proxies: ClassVar[Sequence[IPv4Network | IPv6Network]] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Take a place for the connection, or close it if there is none."""
        super().connection_made(transport)
        self._known = False
        self._early = bytearray()
        self._may_have_proxy_header = bool(self.proxies) and self._is_trusted()
        if not self.crowd.enter(self):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self.crowd.leave(self)
        super().connection_lost(exc)

    def close_idle(self) -> None:
        """Close the connection to make room for another."""
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Read the proxy's header if there may be one, then handle the bytes as usual."""
        if not self._may_have_proxy_header:
            super().data_received(data)
            return
        self._early += data
        early = bytes(self._early)
        try:
            found = read_header(early) if may_begin(early) else (0, None)
        except ProxyHeaderError:
            self.transport.close()
            return
        if found is not None:
            length, client = found
            self.client = client or self.client
            self._may_have_proxy_header = False
            self._early.clear()
            if early[length:]:
                super().data_received(early[length:])

    def on_message_begin(self) -> None:
        """Start a request. Authentication then reports whether it has a valid key."""
        super().on_message_begin()
        self.scope["extensions"][KNOWN] = self._note_key  # type: ignore[assignment]  # our extension is not a table

    def on_message_complete(self) -> None:
        """Mark the connection as busy: the request is complete.

        Until then a client without a valid key counts as idle, because its body may never come.
        """
        super().on_message_complete()
        if self.parser.should_upgrade() or not self.cycle.response_complete:
            self.crowd.busy(self)

    def handle_websocket_upgrade(self) -> None:
        """Continue as a WebSocket, which keeps its place until it is closed."""
        super().handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        lost = protocol.connection_lost

        def connection_lost(exc: Exception | None) -> None:
            self.crowd.leave(self)
            lost(exc)

        protocol.connection_lost = connection_lost  # type: ignore[method-assign]  # uvicorn offers no other place

    def on_response_complete(self) -> None:
        """Mark the connection as idle: the request is answered."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self.crowd.idle(self, known=self._known)

    def _note_key(self) -> None:
        self._known = True
        self.crowd.busy(self)

    def _is_trusted(self) -> bool:
        try:
            address = address_of(str(self.client[0] if self.client else ""))
        except ValueError:
            return False
        return any(address in network for network in self.proxies)


def guarded(settings: Settings, most: int | None = None) -> type[GuardedProtocol]:
    """Return the protocol of a server with these settings. `most`: the largest number of connections at the same time;
    None or 0: as many as the system allows.
    """
    fields: dict[str, Any] = {
        "crowd": ConnectionLimit(most or most_connections(raise_file_limit())),
        "proxies": networks(settings.trusted_proxies),
    }
    return type("GuardedProtocol", (GuardedProtocol,), fields)
