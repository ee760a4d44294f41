"""Exact duplicates: 128-bit hashes of normalised text and of canonical URLs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..kernels import kernel
from ..text.buffers import text_buffers
from ..text.characters import BYTES_TYPE

Normalization = Literal["none", "whitespace", "lower"]

VERSION: Final = 1  # changes whenever the key of some text or address does

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


# Parameters by which advertisers, newsletters and counters recognise a click; a name that ends in * stands
# for all that begin like it. Google Analytics (utm_*, _ga, _gl) and Ads (gclid, dclid, gbraid, wbraid,
# gad_source), Meta (fbclid, igshid), Microsoft (msclkid), Yandex (yclid, ysclid), Mailchimp (mc_cid, mc_eid),
# HubSpot (_hsenc, _hsmi), Twitter (twclid), TikTok (ttclid), Matomo (mtm_*, pk_campaign, pk_kwd). A choice
# that a job may change, no standard.
TRACKING_PARAMETERS: Final = (
    "utm_*", "_ga", "_gl", "gclid", "dclid", "gbraid", "wbraid", "gad_source", "fbclid", "igshid", "msclkid",
    "yclid", "ysclid", "mc_cid", "mc_eid", "_hsenc", "_hsmi", "twclid", "ttclid", "mtm_*", "pk_campaign",
    "pk_kwd",
)  # fmt: skip

_PIECE = 1 << 20  # bytes of text that are normalised at once

_DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21}
_MAX_HOST, _MAX_LABEL = 253, 63  # RFC 1035, section 2.3.4, less the root's octets

# RFC 3986, appendix B, with an authority that must be there and a fragment that is left out.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\\]*)([^?#]*)(?:\?([^#]*))?")
_AUTHORITY = re.compile(r"(?:(.*)@)?(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_PLAIN = re.compile(
    r"[A-Za-z0-9._~/?:@!$&'()*+,;=-]*"
)  # what a path or query may hold as it is: section 3.3 and 3.4
_TO_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9._~/?:@!$&'()*+,;=-]")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")  # section 2.3


def text_key(
    text: pa.Array, normalize: Normalization = "whitespace"
) -> tuple[pa.UInt64Array, pa.UInt64Array]:
    """The 128-bit xxh3 of each text, as (key, low): its upper and lower 64 bits, uint64, null for null.

    `key` is for the exchange, `low` for equality beyond it. `normalize` says which texts are equal:

    - `none`: those of the same bytes;
    - `whitespace`: those that are once the ends are stripped and each run of white space (as `str.split` has
      it) is one space;
    - `lower`: those that are then equal in lower case (character by character, as Arrow's utf8_lower).

    Texts without any character are equal to each other. `text` is string or large_string. Raises ValueError
    for another normalization and TypeError for another type.
    """
    if normalize not in ("none", "whitespace", "lower"):
        raise ValueError(f"normalize must be none, whitespace or lower, not {normalize!r}")
    if normalize == "lower":
        text = pc.utf8_lower(text.cast(pa.string()) if pa.types.is_null(text.type) else text)
    buffers = text_buffers(text)
    if normalize == "none":
        digests = _digests(buffers.data, buffers.offsets)
    else:
        digests = b"".join(_squeezed_digests(buffers.data, buffers.offsets))
    halves = np.frombuffer(digests, ">u8").astype(np.uint64).reshape(-1, 2)
    return pa.array(halves[:, 0], mask=~buffers.valid), pa.array(halves[:, 1], mask=~buffers.valid)


def url_key(
    urls: pa.Array,
    *,
    tracking: Sequence[str] = TRACKING_PARAMETERS,
    sort_query: bool = True,
    trailing_slash: Literal["keep", "drop"] = "keep",
) -> tuple[pa.UInt64Array, pa.UInt64Array]:
    """(key, low) of the canonical form of each URL, as `text_key` gives them; null where `canonical_url` is.

    So a record without a usable URL is never a duplicate by URL.
    """
    canonical = canonical_url(urls, tracking=tracking, sort_query=sort_query, trailing_slash=trailing_slash)
    return text_key(canonical, "none")


def canonical_url(
    urls: pa.Array,
    *,
    tracking: Sequence[str] = TRACKING_PARAMETERS,
    sort_query: bool = True,
    trailing_slash: Literal["keep", "drop"] = "keep",
) -> pa.StringArray:
    """One spelling for the addresses of a page; null for null and for what is no http, https or ftp URL.

    The normalizations of RFC 3986, sections 6.2.2 and 6.2.3, and of the WHATWG URL standard for the web:

    - control characters and spaces at the ends, tabs and line ends anywhere are left out;
    - scheme and host are in lower case; a host is decoded from percent escapes, loses a final dot, and
      becomes punycode where it is not ASCII (IDNA 2003); an IPv6 address takes its shortest form;
    - the port goes where it is the scheme's own; user and password stay;
    - in path and query, escapes of unreserved characters are decoded, the others are in upper case, and
      characters that may not stand there are escaped as UTF-8; `\\` in the path is `/`; dot segments are
      resolved; an empty path is `/`; with `trailing_slash="drop"` other paths lose the slashes at their end;
    - of the query, empty parameters go, and those named in `tracking` (whatever their case; a final `*`
      stands for any ending); `sort_query` sorts by name and keeps the order of equal names;
    - the fragment goes.

    Invalid are a missing or impossible host (empty label, label over 63 or host over 253 characters, other
    characters than letters, digits, `-` and `_`) and a port over 65535. Canonical URLs stay as they are.
    Raises ValueError for another `trailing_slash`.
    """
    if trailing_slash not in ("keep", "drop"):
        raise ValueError(f"trailing_slash must be keep or drop, not {trailing_slash!r}")
    names = frozenset(name.lower() for name in tracking if not name.endswith("*"))
    prefixes = tuple(name[:-1].lower() for name in tracking if name.endswith("*"))

    def canonical(url: str) -> str | None:
        parts = _URL.match(url.strip(_ENDS).translate(_LINE_ENDS))
        if parts is None:
            return None
        scheme, authority, path, query = parts.groups()
        origin = _origin(scheme.lower(), authority)
        if origin is None:
            return None
        path = _resolve(_escape(path.replace("\\", "/")))
        if trailing_slash == "drop":
            path = path.rstrip("/") or "/"
        if not query:
            return origin + path
        kept = [
            (name, parameter)
            for parameter in _escape(query).split("&")
            if parameter
            and (name := parameter.partition("=")[0]).lower() not in names
            and not name.lower().startswith(prefixes)
        ]
        if sort_query:
            kept.sort(key=lambda pair: pair[0])
        return f"{origin}{path}?{'&'.join(parameter for _, parameter in kept)}" if kept else origin + path

    return pa.array((None if url is None else canonical(url) for url in urls.to_pylist()), pa.string())


def row_slices(offsets: Int64s, size: int) -> Iterator[slice]:
    """Consecutive slices of rows of at most `size` bytes; a larger row is alone."""
    start = 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + size, "right")) - 1
        stop = max(stop, start + 1)
        yield slice(start, stop)
        start = stop


def _digests(data: Bytes, offsets: Int64s) -> bytes:
    from xxhash import xxh3_128_digest

    view = data.data
    return b"".join([xxh3_128_digest(view[start:stop]) for start, stop in pairwise(offsets.tolist())])


def _squeezed_digests(data: Bytes, offsets: Int64s) -> Iterator[bytes]:
    # In pieces, for a buffer that is used again stays in the cache.
    squeezed = np.empty(0, np.uint8)
    for rows in row_slices(offsets, _PIECE):
        edges = offsets[rows.start : rows.stop + 1]
        if len(squeezed) < edges[-1] - edges[0]:
            squeezed = np.empty(edges[-1] - edges[0], np.uint8)
        starts = np.empty_like(edges)
        _squeeze(data, edges, _KINDS, squeezed, starts)
        yield _digests(squeezed, starts)


_ENDS = "".join(map(chr, range(0x21)))
_LINE_ENDS = {ord(character): None for character in "\t\n\r"}


@lru_cache(maxsize=1 << 14)
def _origin(scheme: str, authority: str) -> str | None:
    """`scheme://user@host:port` in canonical form, None where it is invalid."""
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or scheme not in _DEFAULT_PORTS:
        return None
    user, name, port = parts.groups()
    host = _host(name)
    if host is None:
        return None
    if port:
        number = int(port) if len(port) < 20 else 1 << 16
        if number > 0xFFFF:
            return None
        port = "" if number == _DEFAULT_PORTS[scheme] else f":{number}"
    return f"{scheme}://{_escape(user) + '@' if user else ''}{host}{port or ''}"


def _host(name: str) -> str | None:
    if name.startswith("["):
        if "%" in name:  # a zone, which means something on one machine only
            return None
        try:
            return f"[{ipaddress.IPv6Address(name[1:-1]).compressed}]"
        except ValueError:
            return None
    name = unquote(name) if "%" in name else name
    if len(name) > _MAX_HOST + 1:
        return None
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    name = name.lower().removesuffix(".")
    if not _HOST.fullmatch(name) or len(name) > _MAX_HOST or max(map(len, name.split("."))) > _MAX_LABEL:
        return None
    return name


def _escape(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else _TO_ESCAPE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    found = match[0]
    if len(found) == 3:
        character = chr(int(found[1:], 16))
        return character if _UNRESERVED.fullmatch(character) else found.upper()
    return "".join(f"%{byte:02X}" for byte in found.encode())


def _resolve(path: str) -> str:
    """The path without `.` and `..` segments: RFC 3986, section 5.2.4."""
    if "/." not in path:
        return path or "/"
    segments = path.split("/")
    resolved: list[str] = []
    for segment in segments[1:]:
        if segment == "..":
            del resolved[-1:]
        elif segment != ".":
            resolved.append(segment)
    if segments[-1] in (".", ".."):
        resolved.append("")
    return "/" + "/".join(resolved)


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def _wide_space(data: Bytes, at: int, stop: int) -> int:
    """The number of bytes of the white space character beyond ASCII at `at`, 0 if there is another one."""
    byte = data[at]
    if byte == 0xC2 and at + 1 < stop:  # U+0085, U+00A0
        return 2 if data[at + 1] == 0x85 or data[at + 1] == 0xA0 else 0
    if byte < 0xE1 or byte > 0xE3 or at + 2 >= stop:
        return 0
    second, third = data[at + 1], data[at + 2]
    if byte == 0xE1:  # U+1680
        return 3 if second == 0x9A and third == 0x80 else 0
    if byte == 0xE3:  # U+3000
        return 3 if second == 0x80 and third == 0x80 else 0
    if second == 0x80:  # U+2000 to U+200A, U+2028, U+2029, U+202F
        return 3 if (0x80 <= third <= 0x8A) or third == 0xA8 or third == 0xA9 or third == 0xAF else 0
    return 3 if second == 0x81 and third == 0x9F else 0  # U+205F


_KINDS = np.zeros(256, np.uint8)  # 1: white space; 2: the first byte of what may be white space
_KINDS[[0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x1F, 0x20]] = 1
_KINDS[[0xC2, 0xE1, 0xE2, 0xE3]] = 2


@kernel(f"void({BYTES_TYPE}, int64[::1], uint8[::1], uint8[::1], int64[::1])")
def _squeeze(data: Bytes, offsets: Int64s, kinds: Bytes, squeezed: Bytes, starts: Int64s) -> None:
    """Copies each text without white space at its ends, and with one space for each run of it inside."""
    one = np.uint64(1)  # unsigned, so that no index is taken for one from the end
    end = np.uint64(0)
    starts[0] = 0
    for row in range(len(offsets) - 1):
        text = data[offsets[row] : offsets[row + 1]]
        begin, after_space, resume = end, one, 0
        for at in range(len(text)):
            byte = text[at]
            kind = kinds[byte]
            if kind == 2:
                width = _wide_space(text, at, len(text))
                kind = np.uint8(width > 0)
                resume = at + width
            elif at < resume:
                continue
            # Always written, kept only where it counts: words are short, and branches on them mispredict.
            squeezed[end] = 0x20 if kind else byte
            space = np.uint64(kind)
            end += one - (space & after_space)
            after_space = space
        if after_space and end > begin:
            end -= one
        starts[row + 1] = np.int64(end)
