"""Run tests without a network except loopback: `unshare -rn python -m tests.support.alone FILES`.

The last line printed says how many packets had no route. The kernel counts each attempt to look up a name and each
attempt to connect.
"""

import fcntl
import socket
import struct
import sys
from pathlib import Path

import pytest

_SET_FLAGS, _UP = 0x8914, 0x1


def bring_up_loopback() -> None:
    """Bring up the loopback device, as `ip link set lo up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP))


def without_a_way() -> int:
    """Return the number of packets refused for lack of a route since the namespace was created."""
    names, values = Path("/proc/net/snmp").read_text(encoding="ascii").splitlines()[:2]
    old = int(dict(zip(names.split(), values.split(), strict=True))["OutNoRoutes"])
    pairs = (line.split() for line in Path("/proc/net/snmp6").read_text(encoding="ascii").splitlines())
    return old + sum(int(count) for name, count in pairs if name == "Ip6OutNoRoutes")


if __name__ == "__main__":
    bring_up_loopback()
    before = without_a_way()
    with socket.socket() as away:
        away.connect_ex(("192.0.2.1", 443))
    counted = without_a_way() - before
    # Only packets count here. `make test` reports what a test leaves unclosed.
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    status = pytest.main([*options, *sys.argv[1:]])
    print(f"exit {int(status)} counted {counted} away {without_a_way() - before - counted}")  # noqa: T201
