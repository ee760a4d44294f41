"""Pages whose markup would cost a parser time or memory out of proportion to its size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from resiliparse.parse.html import HTMLTree

# Chromium's parser stops nesting there (`kMaximumHTMLParserDOMTreeDepth` in its html_construction_site.cc).
MAX_DEPTH: Final = 512
# The rest are ours, from measurements of resiliparse 2.0: see each check.
MAX_TAGS: Final = 150_000
MAX_ATTRIBUTES: Final = 20_000
MAX_REOPENED: Final = 2_000_000

# Pages with fewer tags cannot cost more than a few hundredths of a second, so they are not looked at more
# closely.
_FEW_TAGS: Final = 3_000
_MANY_TAGS: Final = 4_000
_FEW_KINDS: Final = 12
_LONG_TAG: Final = 20_000  # bytes
_TAG: Final = re.compile(rb"<[a-zA-Z]")

# If any element is that deep, so is the first of its siblings: asking only those halves the work.
_TOO_DEEP: Final = "*>" * (MAX_DEPTH - 1) + "*:first-child"
# The elements that a parser opens again in every block until they are closed (HTML Standard, section
# 13.2.4.3, "list of active formatting elements"; `a` and `nobr` close themselves).
_FORMATTING: Final = re.compile(
    rb"<(/?)(b|big|code|em|font|i|s|small|strike|strong|tt|u)(?=[\s/>])[^>]*>", re.IGNORECASE
)
# The same, opening, with attributes; written out because ignoring case makes the search many times slower.
_WITH_ATTRIBUTES: Final = re.compile(
    rb"<(?:[bB](?:[iI][gG])?|[cC][oO][dD][eE]|[eE][mM]|[fF][oO][nN][tT]|[iI]|[uU]|[tT][tT]"
    rb"|[sS](?:[mM][aA][lL][lL]|[tT][rR](?:[iI][kK][eE]|[oO][nN][gG]))?)[\s/][^>]*>"
)
_QUOTED: Final = re.compile(rb"\"[^\"]*\"|'[^']*'")


class PageTooLarge(Exception):
    """The page is refused; `reason` is `too_deep` or `too_large`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def count_tags(html: bytes) -> int:
    """How many tags (or other `<`) a page has."""
    return int(np.count_nonzero(np.frombuffer(html, np.uint8) == ord("<")))


def check_markup(html: bytes, tags: int) -> None:
    """Looks at a page (UTF-8) with `tags` tags before it is parsed. Raises PageTooLarge.

    `too_large`: more than MAX_TAGS tags, or long tags with more than MAX_ATTRIBUTES attributes (each is
    compared with all before it: 100,000 take 15 seconds). `too_deep`: unclosed formatting elements that a
    parser would open again more than MAX_REOPENED times (10,000 unlike `font` and `p` elements make 10
    million nodes).
    """
    if tags > MAX_TAGS:
        raise PageTooLarge("too_large")
    if sum(map(_attributes, _long_parts(html))) > MAX_ATTRIBUTES:
        raise PageTooLarge("too_large")
    if tags > _MANY_TAGS and _most_open(html) * tags > MAX_REOPENED:
        raise PageTooLarge("too_deep")


def check_tree(tree: HTMLTree, tags: int) -> None:
    """Raises PageTooLarge("too_deep") if elements nest deeper than MAX_DEPTH.

    Extraction takes time that grows with the square of the depth: 10,000 nested `div` take a second.
    """
    if tags > _FEW_TAGS and tree.document is not None and tree.document.query_selector(_TOO_DEEP) is not None:
        raise PageTooLarge("too_deep")


def _long_parts(html: bytes) -> Iterator[bytes]:
    """The stretches of at least _LONG_TAG bytes without a `>`, found without reading the others."""
    at = 0
    while at + _LONG_TAG < len(html):
        close = html.rfind(b">", at, at + _LONG_TAG)
        if close < 0:
            close = html.find(b">", at + _LONG_TAG)
            close = len(html) if close < 0 else close
            yield html[at:close]
        at = close + 1


def _attributes(part: bytes) -> int:
    """About how many attributes the tag has that begins in a part: words outside quotes."""
    tag = _TAG.search(part)
    return len(_QUOTED.sub(b" ", part[tag.start() :]).split(None, MAX_ATTRIBUTES)) if tag else 0


def _most_open(html: bytes) -> int:
    """The most formatting elements that are open at once; of identical ones a parser reopens three."""
    kinds = set(_WITH_ATTRIBUTES.findall(html))
    if len(kinds) < _FEW_KINDS:
        return 0
    open_now = most = 0
    for match in _FORMATTING.finditer(html):
        if match[1]:
            open_now = max(0, open_now - 1)
        else:
            open_now += 1
            most = max(most, open_now)
    return min(most, 3 * len(kinds) + 3 * _FEW_KINDS)
