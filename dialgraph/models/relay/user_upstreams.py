"""Upstreams at addresses that users give. Only public ones are accepted, checked when the connection is made.

A name is resolved once, and the connection goes to the very address that was checked. So a second answer of a name
server cannot lead elsewhere. Redirects are not followed (the relay never follows them).
"""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from dialgraph.http_client import KEEP_ALIVE_SECONDS
from dialgraph.models.port import ModelAddress
from dialgraph.models.relay.relay import RelayModel

LONGEST_URL = 2048
MOST_OPEN = 64
"""The most open upstreams of users, each with its own session. The least recently used one is closed first."""
_TRANSLATED = IPv6Network("64:ff9b::/96")
_GLOBAL = IPv6Network("2000::/3")
"""The range for the public internet. Everything else is local, or carries an IPv4 address in an old form."""


_SPECIAL = tuple(
    ip_network(one)
    for one in (
        "192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24",
        "2001::/23", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip
"""IANA's special-purpose registries: the networks that `ipaddress` calls global in some versions of Python."""


class AddressError(Exception):
    """An address is refused. The message is for the user who gave it."""


class UserUpstreams:
    """The models at users' addresses. They have none of the server's keys, so no key can leak to them."""

    def __init__(self, private_hosts: Collection[str] = ()) -> None:
        self._private = {host.lower() for host in private_hosts}
        self._closing: set[asyncio.Future[None]] = set()
        self._open: OrderedDict[tuple[str, bool], RelayModel] = OrderedDict()

    def check(self, url: str) -> str:
        """Return the normalised address. Raise AddressError if it can never be valid."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            raise AddressError("The address is not a valid URL.") from None
        plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
        plain = plain and all(0 < len(label) < 64 for label in host.rstrip(".").split("."))
        if (
            not plain
            or len(url) > LONGEST_URL
            or not host
            or parts.username is not None
            or parts.query
            or parts.fragment
        ):
            raise AddressError(
                "The address must have the form `https://host/path`, without a user name, password or query."
            )
        if parts.scheme != "https" and not (parts.scheme == "http" and host in self._private):
            raise AddressError("The address must begin with https://.")
        if host not in self._private:
            self._refuse_private(host)
        authority = f"[{host}]" if ":" in host else host
        return f"{parts.scheme}://{authority}{f':{port}' if port else ''}{parts.path.rstrip('/')}"

    def model(self, url: str) -> RelayModel:
        """Return the model at an address that a user gave and that was checked."""
        return self._model(url, lambda: self._connector(url))

    def trusted(self, url: str) -> RelayModel:
        """Return the model at an address that the operator set, for users' own keys."""
        return self._model(url, None)

    def _model(self, url: str, connector: Callable[[], aiohttp.TCPConnector] | None) -> RelayModel:
        key = (url, connector is None)
        if key not in self._open:
            self._open[key] = RelayModel("own", ModelAddress(url), *([connector] if connector else []))
            self._close_idle()
        self._open.move_to_end(key)
        return self._open[key]

    def _close_idle(self) -> None:
        """Close the least recently used sessions of users, except those that are in use."""
        idle = [place for place, model in self._open.items() if not place[1] and not model.running]
        for place in idle[: max(0, len(self._open) - MOST_OPEN)]:
            closing = asyncio.ensure_future(self._open.pop(place).aclose())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close every session."""
        for model in self._open.values():
            await model.aclose()
        self._open.clear()

    def _refuse_private(self, host: str) -> None:
        """Raise AddressError if the host is an IP address that is not public."""
        try:
            literal = ip_address(host)
        except ValueError:
            return
        if not is_public(literal):
            raise AddressError("The address is not public.")

    def _connector(self, url: str) -> aiohttp.TCPConnector:
        private = (urlsplit(url).hostname or "").lower() in self._private
        return aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            use_dns_cache=False,
            socket_factory=None if private else _public_socket,
        )


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return whether the address is public. This also checks an IPv4 address that an IPv6 address contains."""
    if isinstance(address, IPv6Address):
        if address in _TRANSLATED:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address.ipv4_mapped is None and address not in _GLOBAL:
            return False
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is not None and not is_public(inner):
            return False
    special = any(address.version == network.version and address in network for network in _SPECIAL)
    return address.is_global and not address.is_multicast and not special


def _public_socket(found: Any) -> socket.socket:
    """Return a socket for a resolved address. Raise OSError if it is not public: the last check before connecting."""
    family, kind, protocol, _, place = found
    if not is_public(ip_address(str(place[0]).partition("%")[0])):
        raise OSError("the address is not public")
    return socket.socket(family, kind, protocol)
