"""Whose a request is, where shares are counted."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=1024)
def client_of(address: str) -> str:
    """The name under which an address' shares are counted: of IPv6 its network of 64 bits.

    Whoever has one address of such a network has them all.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
