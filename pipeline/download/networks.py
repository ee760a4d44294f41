"""Which IP addresses are of the public internet."""

from __future__ import annotations

import ipaddress
from typing import Final

IP = ipaddress.IPv4Address | ipaddress.IPv6Address

# IANA's registries of special purpose addresses, for IPv4 and IPv6.
_V4: Final = tuple(
    (ipaddress.IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a provider's customers"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local, as metadata of clouds are"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a relay of 6to4"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
# Of IPv6 only what is given out as global unicast is public, less these; all else is refused.
_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
_V6: Final = tuple(
    (ipaddress.IPv6Network(network), kind)
    for network, kind in (
        ("::1/128", "loopback"),
        ("::/128", "unspecified"),
        ("::ffff:0:0/96", "an IPv4 address in IPv6"),
        ("64:ff9b:1::/48", "a translation within a network"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "reserved for protocols, such as Teredo"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "an IPv4 address in 6to4"),
        ("3fff::/20", "for documentation"),
    )
)
# In a network without IPv4 every public IPv4 address looks so (RFC 6052), and private ones do too.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def kind_of(ip: IP) -> str | None:
    """What an address is that is not public; None of a public one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return next((kind for network, kind in _V4 if ip in network), None)
    if ip in _NAT64:
        return kind_of(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    kind = next((kind for network, kind in _V6 if ip in network), None)
    return kind or (None if ip in _GLOBAL and ip.scope_id is None else "reserved")
