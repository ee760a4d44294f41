"""Title, date of publication and canonical URL of a parsed page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

if TYPE_CHECKING:
    from resiliparse.parse.html import HTMLTree
    from resiliparse.parse.html.node import ElementNode

# A few selectors that search the head natively cost a tenth of a walk over its nodes.
_CANONICAL: Final = 'link[rel~="canonical" i]'
_OG_URL: Final = 'meta[property="og:url" i]'
_OG_TITLE: Final = 'meta[property="og:title" i]'
# Where pages say when they were published: Open Graph's article vocabulary (ogp.me) first, since most do,
# then schema.org, Parsely, Dublin Core (dublincore.org/specifications/dublin-core/dcq-html) and Highwire
# (scholar.google.com/intl/en/scholar/inclusion.html).
_PUBLISHED: Final = 'meta[property="article:published_time" i]'
_DATES: Final = ", ".join(
    f'meta[{attribute}="{name}" i]'
    for attribute, name in (
        ("itemprop", "datePublished"),
        ("name", "article:published_time"),
        ("name", "parsely-pub-date"),
        ("name", "dc.date.issued"),
        ("name", "dcterms.issued"),
        ("name", "dc.date"),
        ("name", "dcterms.date"),
        ("name", "citation_publication_date"),
        ("name", "date"),
        ("name", "pubdate"),
    )
)
_JSON_LD_DATE: Final = re.compile(rb"\"datePublished\"\s*:\s*\"([^\"\\]{4,40})\"")
_MAX_DATE: Final = 40  # characters; longer ones are not dates
_MAX_TITLE: Final = 1000  # characters


@dataclass(frozen=True)
class Metadata:
    """What a page says about itself; None where it says nothing."""

    title: str | None = None
    date: str | None = None
    canonical_url: str | None = None


NO_METADATA: Final = Metadata()


def read_metadata(tree: HTMLTree, html: bytes, url: str | None) -> Metadata:
    """What the tree of a page with the source `html` (UTF-8), fetched from `url`, says.

    Title: the title element, or og:title. Date, as the page writes it: article:published_time, then the first
    of the other meta elements that give one, `datePublished` in JSON-LD, the first `time` element with a
    `datetime`. Canonical URL: link rel=canonical, or og:url, resolved against `url`; only http and https
    count.
    """
    head = tree.head
    if head is None:
        return Metadata(_one_line(tree.title), _date_in_body(tree, html))
    return Metadata(
        _one_line(tree.title) or _one_line(_attribute(head, _OG_TITLE, "content")),
        _date(_attribute(head, _PUBLISHED, "content"))
        or _date(_attribute(head, _DATES, "content"))
        or _date_in_body(tree, html),
        _absolute(_attribute(head, _CANONICAL, "href"), url)
        or _absolute(_attribute(head, _OG_URL, "content"), url),
    )


def _attribute(head: ElementNode, selector: str, name: str) -> str | None:
    element = head.query_selector(selector)
    return None if element is None else element.getattr(name)


def _date_in_body(tree: HTMLTree, html: bytes) -> str | None:
    if b"date" not in html:
        return None
    if b"datePublished" in html and (found := _JSON_LD_DATE.search(html)):
        return _date(found[1].decode("utf-8", "replace"))
    if b"datetime" in html and b"<time" in html and tree.document is not None:
        element = tree.document.query_selector("time[datetime]")
        return None if element is None else _date(element.getattr("datetime"))
    return None


def _date(value: str | None) -> str | None:
    value = (value or "").strip()
    return value if 4 <= len(value) <= _MAX_DATE and any(map(str.isdigit, value)) else None


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
    return joined if joined[:8].lower().startswith(("http://", "https://")) else None
