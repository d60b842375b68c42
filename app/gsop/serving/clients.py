"""Whose a request is, where shares are counted."""

import ipaddress
from functools import lru_cache
from urllib.parse import unquote


@lru_cache(maxsize=1024)
def client_of(address: str) -> str:
    """The name under which an address' shares are counted: of IPv6 its network of 64 bits.

    Whoever has one address of such a network has them all.

    Args:
        address: as it is, or as gRPC tells it (``ipv4:192.0.2.1``, ``ipv6:%5B2001:db8::1%5D``).
    """
    plain = unquote(address).removeprefix("ipv4:").removeprefix("ipv6:").strip("[]")
    try:
        found = ipaddress.ip_address(plain.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
