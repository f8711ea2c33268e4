"""Reads addresses and networks: of this machine, and of the setting `trusted_proxies`."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from server.settings import SettingsError


def networks(given: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    """Return the networks that the texts name. Raises SettingsError."""
    return [_network(one) for one in given]


def _network(given: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(given, strict=False)
    except ValueError:
        raise SettingsError(f"Setting 'trusted_proxies': {given!r} is not an address or a network.") from None


def address_of(host: str) -> IPv4Address | IPv6Address:
    """Return the address that a text names. An IPv4 address in IPv6 form becomes IPv4. Raises ValueError."""
    address = ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return address_of(host).is_loopback
    except ValueError:
        return False
