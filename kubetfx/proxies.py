"""Proxies that the environment names, and who is asked without one."""

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def is_loopback(address: str) -> bool:
    """Return whether a server is on this machine, where no proxy is asked whatever the environment says.

    Args:
        address: a URL, or `HOST:PORT`.
    """
    host = _host(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def proxy_of(address: str) -> str | None:
    """Find the proxy that requests to a server go through.

    Args:
        address: a URL, or `HOST:PORT`.

    Returns:
        `HOST:PORT` of the proxy; None if there is none, or the server is on this machine.
    """
    proxies = getproxies()
    proxy = proxies.get(urlsplit(address).scheme if "://" in address else "http") or proxies.get("all")
    if not proxy or is_loopback(address) or proxy_bypass(_host(address)):
        return None
    found = urlsplit(proxy if "://" in proxy else f"//{proxy}")
    return f"{found.hostname}:{found.port}" if found.port else found.hostname


def _host(address: str) -> str:
    return urlsplit(address if "://" in address else f"//{address}").hostname or ""
