"""The proxy settings of the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`."""

from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp


def proxy_options(url: str) -> dict[str, Any]:
    """Return the proxy options of a request to this address. Loopback addresses never use a proxy.

    aiohttp's own `trust_env` is not used, because it reads the file .netrc for every request, in a thread.
    """
    parts = urlsplit(url)
    host, known = parts.hostname or "", getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    if not proxy or _is_here(host) or proxy_bypass(f"{host}:{parts.port}" if parts.port else host):
        return {}
    through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = urlunsplit((through.scheme, through.netloc.rpartition("@")[2], "", "", ""))
    if through.username is None:
        return {"proxy": address}
    login = aiohttp.BasicAuth(unquote(through.username), unquote(through.password or ""))
    return {"proxy": address, "proxy_auth": login}


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
