"""Addresses of images: how what stands in a list becomes what is asked for, or is refused."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urljoin

from .networks import IP, kind_of

_PORTS: Final = {"http": 80, "https": 443}
_LONGEST: Final = 8000  # characters; RFC 9110, section 4.1, asks servers for as many at least
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
# Browsers take a backslash for a slash; whoever reads it as a letter sees another host (`http://a\@b/`).
_PARTS: Final = re.compile(r"[/\\]{2}([^/\\?#]*)([^?#]*)(\?[^#]*)?", re.DOTALL)
_PORT: Final = re.compile(r"[0-9]{0,5}", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_TRIMMED: Final = "".join(map(chr, range(33)))
_REMOVED: Final = str.maketrans("", "", "\t\n\r")
# Reserved characters and escapes stay as they are; RFC 3986, section 2.2.
_KEPT: Final = "%:/?#[]@!$&'()*+,;="


class BadAddress(Exception):
    """No address of the web; the message says why."""


class RefusedAddress(Exception):
    """An address at which no image of the web is, such as a private one."""


@dataclass(frozen=True, slots=True)
class Target:
    """One request's address in its only spelling: `url` is made of the parts that were looked at."""

    scheme: str
    host: str  # lower case, IDNA; of an IP address its canonical form, without brackets
    port: int
    path: str  # with the query
    ip: IP | None = None  # where the host is an address itself

    @property
    def origin(self) -> str:
        """Scheme, host and port, as in `https://example.com:8443`."""
        host = f"[{self.host}]" if isinstance(self.ip, ipaddress.IPv6Address) else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def url(self) -> str:
        """The address as it is asked for."""
        return self.origin + self.path


def parse(text: str | None) -> Target:
    """What an address asks for. Spaces and other characters that have no place in a URL are escaped, names
    written in IDNA, numbers for hosts read as browsers read them; a fragment is dropped.

    Raises BadAddress.
    """
    if text is None or not (text := text.strip(_TRIMMED).translate(_REMOVED)):
        raise BadAddress("no address")
    if len(text) > _LONGEST:
        raise BadAddress(f"{len(text)} characters are more than {_LONGEST}")
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise BadAddress("does not begin with http:// or https://")
    name = scheme[1].lower()
    if name not in _PORTS:
        raise BadAddress(f"{name[:20]} is neither http nor https")
    parts = _PARTS.match(text, scheme.end())
    if parts is None:
        raise BadAddress(f"no // behind {name}:")
    authority, path, query = parts[1], parts[2].replace("\\", "/") or "/", parts[3] or ""
    if "@" in authority:
        raise BadAddress("a user name or password in the address")
    host, port = _split(authority)
    if not _PORT.fullmatch(port) or int(port or 1) > 65535 or (port and not int(port)):
        raise BadAddress(f"{port[:20]!r} is no port")
    name_, ip = _ip6(host) if host.startswith("[") else _host(host)
    return Target(name, name_, int(port or _PORTS[name]), _escape(path + query), ip)


def follow(target: Target, location: str) -> Target:
    """Where a redirect leads. Raises BadAddress."""
    text = location.strip(_TRIMMED).translate(_REMOVED)
    try:
        return parse(urljoin(target.url, text))
    except ValueError as error:  # urljoin's, of brackets that do not match
        raise BadAddress(str(error)) from error


def allowed(target: Target, hosts: Collection[str]) -> bool:
    """Whether the host is one of those that may be anywhere, named as host or as host:port."""
    host = f"[{target.host}]" if isinstance(target.ip, ipaddress.IPv6Address) else target.host
    return any(name in hosts for name in (target.host, host, f"{host}:{target.port}"))


def check_literal(target: Target, hosts: Collection[str]) -> None:
    """Raises RefusedAddress where the host is written as an IP address that is not public."""
    if target.ip is None or allowed(target, hosts):
        return
    kind = kind_of(target.ip)
    if kind is not None:
        raise RefusedAddress(f"{target.host} is {kind}")


def _split(authority: str) -> tuple[str, str]:
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadAddress("an IPv6 address takes brackets")
        return host + bracket, rest[1:]
    host, _, port = authority.partition(":")
    return host, port


def _ip6(host: str) -> tuple[str, IP]:
    if "%" in host:
        raise BadAddress("an IPv6 address with a zone")
    try:
        ip = ipaddress.IPv6Address(host[1:-1])
    except ValueError as error:
        raise BadAddress(f"{host[:60]} is no IPv6 address") from error
    return str(ip), ip


def _host(host: str) -> tuple[str, IP | None]:
    name = _ascii(host).lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        ip = _ip4(labels)
        return str(ip), ip
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise BadAddress(f"{host[:60]!r} is no host")
    return name, None


def _ascii(host: str) -> str:
    if "%" in host:
        try:
            host = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), host).encode("latin-1").decode()
        except ValueError as error:
            raise BadAddress(f"{host[:60]!r} is no host") from error
    if host.isascii():
        return host
    import idna

    try:
        return idna.encode(host, uts46=True).decode()
    except (idna.IDNAError, UnicodeError) as error:
        raise BadAddress(f"{host[:60]!r} is no host: {error}") from error


def _ip4(labels: list[str]) -> ipaddress.IPv4Address:
    """What getaddrinfo and browsers make of numbers: parts may be octal or hexadecimal, and the last one
    fills the bytes that are left (url.spec.whatwg.org, IPv4 parser)."""
    written = ".".join(labels)[:60]
    try:
        values = [_number(label) for label in labels]
    except ValueError as error:
        raise BadAddress(f"{written!r} is no host") from error
    *high, last = values
    if len(values) > 4 or any(value > 255 for value in high) or last >= 256 ** (5 - len(values)):
        raise BadAddress(f"{written!r} is no IPv4 address")
    return ipaddress.IPv4Address(sum(value << (24 - 8 * at) for at, value in enumerate(high)) + last)


def _number(label: str) -> int:
    if not _NUMBER.fullmatch(label):
        raise ValueError(label)
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") and len(label) > 1 else 10)


def _escape(text: str) -> str:
    try:
        # What aiohttp could not decode of a header are surrogates that stand for the bytes.
        return quote(text, safe=_KEPT, encoding="utf-8", errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise BadAddress("characters that no encoding has") from error
