"""Title, date of publication and canonical URL of a parsed page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

if TYPE_CHECKING:
    from resiliparse.parse.html import HTMLTree
    from resiliparse.parse.html.node import ElementNode

# Where pages say when they were published, the surest first: Open Graph's article vocabulary (ogp.me),
# schema.org, Parsely, Dublin Core (dublincore.org/specifications/dublin-core/dcq-html), Highwire
# (scholar.google.com).
DATE_NAMES: Final = (
    "article:published_time",
    "og:article:published_time",
    "datepublished",
    "parsely-pub-date",
    "dc.date.issued",
    "dcterms.issued",
    "dc.date",
    "dcterms.date",
    "citation_publication_date",
    "date",
    "pubdate",
)
_HINTS: Final = ("canonical", "og:", "date", "publish", "issued")  # each name above has one of them
_RANK: Final = {name: rank for rank, name in enumerate(DATE_NAMES)}
_JSON_LD_DATE: Final = re.compile(r"\"datePublished\"\s*:\s*\"([^\"\\]{4,40})\"")
_MAX_DATE: Final = 40  # characters; longer ones are not dates
_MAX_TITLE: Final = 1000


@dataclass(frozen=True)
class Metadata:
    """What a page says about itself; None where it says nothing."""

    title: str | None = None
    date: str | None = None
    canonical_url: str | None = None


NO_METADATA: Final = Metadata()


def read_metadata(tree: HTMLTree, html: str, url: str | None) -> Metadata:
    """Title: og:title if there is no title element. Date: the first of DATE_NAMES among the meta elements,
    then `datePublished` in JSON-LD, then the first `time` element with a `datetime`. Canonical URL: link
    rel=canonical, then og:url, resolved against `url`; only http and https count.
    """
    found = _Found()
    head = tree.head if _has_hints(html) else None
    node: Any = head.first_child if head is not None else None
    while node is not None:  # far cheaper than a selector or a list of nodes
        tag = node.tag
        if tag == "meta":
            found.meta(node)
        elif tag == "link" and "canonical" in (node.getattr("rel") or "").lower().split():
            found.link = found.link or node.getattr("href")
        node = node.next_element
    return Metadata(
        _one_line(tree.title) or _one_line(found.og_title),
        found.date or _date_in_body(tree, html),
        _absolute(found.link, url) or _absolute(found.og_url, url),
    )


def _has_hints(html: str) -> bool:
    """Whether the part of a page that can hold its head has a word without which `_Found` finds nothing."""
    body = html.find("<body")
    head = (html if body < 0 else html[:body]).lower()
    return any(hint in head for hint in _HINTS)


class _Found:
    """What the elements of a head say so far."""

    def __init__(self) -> None:
        self.og_title: str | None = None
        self.og_url: str | None = None
        self.link: str | None = None
        self.date: str | None = None
        self._rank = len(DATE_NAMES)

    def meta(self, node: ElementNode) -> None:
        name = (node.getattr("property") or node.getattr("name") or node.getattr("itemprop") or "").lower()
        if name == "og:title":
            self.og_title = self.og_title or node.getattr("content")
        elif name == "og:url":
            self.og_url = self.og_url or node.getattr("content")
        elif _RANK.get(name, self._rank) < self._rank and (date := _date(node.getattr("content"))):
            self.date, self._rank = date, _RANK[name]


def _date_in_body(tree: HTMLTree, html: str) -> str | None:
    if "date" not in html:
        return None
    if "datePublished" in html and (found := _JSON_LD_DATE.search(html)):
        return _date(found[1])
    if "datetime" in html and "<time" in html and tree.document is not None:
        element = tree.document.query_selector("time[datetime]")
        return _date(element.getattr("datetime")) if element is not None else None
    return None


def _date(value: str | None) -> str | None:
    value = (value or "").strip()
    return value if 4 <= len(value) <= _MAX_DATE and any(character.isdigit() for character in value) else None


def _one_line(value: str | None) -> str | None:
    return " ".join((value or "").split())[:_MAX_TITLE] or None


def _absolute(href: str | None, url: str | None) -> str | None:
    href = (href or "").strip()
    if not href:
        return None
    try:
        joined = urljoin(url or "", href)
    except ValueError:
        return None
    return joined if joined.lower().startswith(("http://", "https://")) else None
