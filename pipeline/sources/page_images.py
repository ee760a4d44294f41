"""The images that a page shows, with what it says of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from ...filters.text.page_limits import PageTooLarge
from ...filters.text.page_metadata import read_metadata
from ...filters.text.page_tree import parse_html, read_html

if TYPE_CHECKING:
    from resiliparse.parse.html import HTMLTree

# Attributes in which pages keep addresses until a script moves them (lazysizes, WordPress plug-ins).
_LAZY: Final = ("data-src", "data-original", "data-lazy-src")
_LAZY_SETS: Final = ("data-srcset", "data-lazy-srcset")
# The parts of a srcset (HTML Standard, section 4.8.4.2.2): an address ends in a comma or has descriptors.
_CANDIDATE: Final = re.compile(r"[\s,]*(\S+)")
_DESCRIPTORS: Final = re.compile(r"[^,(]*(?:\([^)]*\)?[^,(]*)*")
_DESCRIPTOR: Final = re.compile(r"(\d+|\d*\.\d+)([wx])")
_OPEN_GRAPH: Final = (
    'meta[property="og:image" i], meta[property="og:image:url" i], meta[property="og:image:secure_url" i], '
    'meta[name="og:image" i], meta[name="twitter:image" i], meta[name="twitter:image:src" i], '
    'meta[property="twitter:image" i]'
)
_ALTERNATIVES: Final = (
    'meta[property="og:image:alt" i], meta[name="twitter:image:alt" i], meta[property="twitter:image:alt" i]'
)
_TITLE: Final = 'meta[property="og:title" i]'
_BREAKS: Final = re.compile(r"[\t\n\r]")  # taken out of every URL (URL Standard, section 4.4)
# Kept as they are in a URL, an escape that is there already among them.
_SAFE: Final = "!$%&'()*+,-./:;=?@[]_~|^"
_FORBIDDEN: Final = re.compile(
    r"[\x00-\x20#%/:<>?@\[\\\]^|\x7f\"`{}]"
)  # in a host (URL Standard, section 3.2)
_PORTS: Final = {"http": 80, "https": 443}
_MOST_URL: Final = 8_000  # characters; a choice of ours: servers refuse longer ones
_MOST_CAPTION: Final = 5_000  # characters; a choice of ours


@dataclass(frozen=True)
class PageImage:
    """An image's address, its caption if there is one, and where it stands: img, source or open_graph."""

    url: str
    caption: str | None
    via: str


class PageError(Exception):
    """A page that cannot be read; `reason` in snake_case."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def page_images(
    payload: bytes, content_type: str | None, url: str | None, links: Collection[str]
) -> list[PageImage]:
    """The images of a page that `links` asks for, in the page's order, each address with each caption once.

    `img`: the largest candidate of `srcset` (by width, else by density), else an address that waits for a
    script (`data-src` and its like), else `src`; the caption is `alt`. `source`: of all `source` elements of
    a `picture` the one largest candidate, with the `alt` of the picture's `img`. `open_graph`: `og:image` and
    `twitter:image`, with their alternative text, else `og:title`. Addresses are resolved against `base`, then
    `url`, then what the page says its address is; only http and https count. Raises PageError.
    """
    html, _ = read_html(payload, content_type)
    try:
        tree = parse_html(html)
        base = _base(tree, html, url)
        found: list[PageImage] = []
        seen: set[tuple[str, str | None]] = set()
        for address, caption, via in _found(tree, links):
            whole = absolute_url(base, address)
            if whole is not None and (whole, caption) not in seen:
                seen.add((whole, caption))
                found.append(PageImage(whole, caption, via))
        return found
    except PageTooLarge as refusal:
        raise PageError(refusal.reason) from refusal
    except Exception as error:  # whatever a parser says about a page is that page's error
        raise PageError("parse_error") from error


def _base(tree: HTMLTree, html: bytes, url: str | None) -> str | None:
    url = url or read_metadata(tree, html, None).canonical_url
    element = tree.document.query_selector("base[href]") if tree.document is not None else None
    if element is None:
        return url
    return absolute_url(url, element.getattr("href")) or url


def _found(tree: HTMLTree, links: Collection[str]) -> Iterator[tuple[str, str | None, str]]:
    """Addresses as they stand, captions and where they stand."""
    document = tree.document
    if document is None:
        return
    if "open_graph" in links:
        yield from _open_graph(document)
    if "img" in links or "source" in links:
        for element in document.query_selector_all("img, picture"):
            if element.tag == "img":
                address = _of_img(element) if "img" in links else None
                if address:
                    yield address, _caption(element.getattr("alt")), "img"
            elif "source" in links:
                address = _of_sources(element)
                if address:
                    inner = element.query_selector("img")
                    yield address, _caption(inner.getattr("alt") if inner else None), "source"


def _open_graph(document: Any) -> Iterator[tuple[str, str | None, str]]:
    addresses = [element.getattr("content") for element in document.query_selector_all(_OPEN_GRAPH)]
    if not addresses:
        return
    said = [_caption(element.getattr("content")) for element in document.query_selector_all(_ALTERNATIVES)]
    caption = next(filter(None, said), None)
    if caption is None:
        title = document.query_selector(_TITLE)
        caption = _caption(title.getattr("content")) if title is not None else None
    for address in addresses:
        if address:
            yield address, caption, "open_graph"


def _of_img(element: Any) -> str | None:
    sets = (element.getattr(name) for name in ("srcset", *_LAZY_SETS))
    largest = _largest_of(sets)
    if largest is not None:
        return largest
    for name in (*_LAZY, "src"):
        value = (element.getattr(name) or "").strip()
        if value and not value[:5].lower().startswith("data:"):
            return str(value)
    return None


def _of_sources(picture: Any) -> str | None:
    sets = (
        element.getattr(name)
        for element in picture.query_selector_all("source")
        for name in ("srcset", *_LAZY_SETS)
    )
    return _largest_of(sets)


def _largest_of(sets: Iterator[str | None]) -> str | None:
    found = [_largest(value) for value in sets if value]
    return max(found, key=lambda one: one[:2])[2] or None if found else None


def _largest(srcset: str) -> tuple[float, float, str]:
    """Width (0 if not given), density and address of the largest candidate, the first of equals."""
    best = (0.0, 0.0, "")
    at = 0
    while (match := _CANDIDATE.match(srcset, at)) is not None:
        address, at, descriptors = match[1].rstrip(","), match.end(), ""
        if address == match[1]:
            described = _DESCRIPTORS.match(srcset, at)
            if described is not None:
                descriptors, at = described[0], described.end()
        if not address or address[:5].lower() == "data:":
            continue
        width, density = 0.0, 1.0
        for word in descriptors.split():
            number = _DESCRIPTOR.fullmatch(word)
            if number is not None and number[2] == "w":
                width = float(number[1])
            elif number is not None:
                density = float(number[1])
        if (width, density) > best[:2]:
            best = (width, density, address)
    return best


def _caption(value: str | None) -> str | None:
    """Without white space around it, and on one line; None for none."""
    return " ".join((value or "").split())[:_MOST_CAPTION] or None


def absolute_url(base: str | None, address: str | None) -> str | None:
    """The address as an absolute http or https URL in one spelling; None where it is no such.

    Scheme and host are in lower case, the host in its ASCII form, the scheme's own port and the fragment left
    out, and what no URL may hold is percent-encoded as UTF-8.
    """
    text = _BREAKS.sub("", (address or "").strip())
    if not text or len(text) > _MOST_URL:
        return None
    try:
        parts = urlsplit(urljoin(base or "", text))
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not host:
        return None
    place = _ascii_host(host)
    if place is None:
        return None
    if port is not None and port != _PORTS[parts.scheme]:
        place = f"{place}:{port}"
    user, at, _ = parts.netloc.rpartition("@")
    path = quote(parts.path or "/", safe=_SAFE, errors="replace")
    query = quote(parts.query, safe=_SAFE, errors="replace")
    return urlunsplit(
        (parts.scheme, f"{quote(user, safe=_SAFE, errors='replace')}{at}{place}", path, query, "")
    )


@lru_cache(maxsize=4096)
def _ascii_host(host: str) -> str | None:
    if ":" in host:
        return f"[{host}]"
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return None
    return None if _FORBIDDEN.search(name) else name
