"""Who asks: the address of a client, also behind proxies, as the key of its rate limit.

`X-Forwarded-For` is read from the right, and only through addresses of trusted networks: what stands left of the first address that is
not trusted was written by anybody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from litestar.types import Scope

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
SITE_BITS = 64
"""What one customer of a provider has of IPv6, at least: addresses within it cost nothing."""
HEADER_BYTES_MAX = 4096
UNKNOWN = "unknown"


class Callers:
    """Lives as long as the application."""

    def __init__(self, trusted: Sequence[str]) -> None:
        self._trusted = [ipaddress.ip_network(network) for network in trusted]

    def name(self, scope: Scope) -> str:
        """The address of IPv4, the /64 network of IPv6, or UNKNOWN for a client without one."""
        client = scope.get("client")
        address = _parse(client[0]) if client else None
        if address is not None and self._trusts(address):
            address = self._behind(address, scope["headers"])
        return _group(address)

    def _behind(self, proxy: Address, headers: Iterable[tuple[bytes, bytes]]) -> Address:
        """The first address from the right that is not a proxy of ours, or the last one before something that is no address."""
        sent = b",".join(value for name, value in headers if name == b"x-forwarded-for")
        nearest = proxy
        for part in reversed(sent[-HEADER_BYTES_MAX:].decode("latin-1").split(",")):
            address = _parse(part)
            if address is None:
                break
            nearest = address
            if not self._trusts(address):
                break
        return nearest

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def _parse(text: str) -> Address | None:
    """Also with a port, and in brackets, as some proxies write it."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _group(address: Address | None) -> str:
    if address is None:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, SITE_BITS), strict=False))
