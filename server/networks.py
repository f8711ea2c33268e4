"""Addresses and networks: of this machine, and of the setting `trusted_proxies`."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from server.settings import SettingsError


def networks(given: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    """Return them. Raises SettingsError."""
    return [_network(one) for one in given]


def _network(given: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(given, strict=False)
    except ValueError:
        raise SettingsError(f"Setting 'trusted_proxies': {given!r} is not an address or a network.") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
