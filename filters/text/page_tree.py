"""From the bytes of a page to its tree, at a cost that is in proportion to its size."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from .charset import decode_utf8
from .page_limits import check_markup, check_tree, count_tags

if TYPE_CHECKING:
    from resiliparse.parse.html import HTMLTree


def read_html(payload: bytes, content_type: str | None) -> tuple[bytes, str]:
    """The page in UTF-8, without null characters, and the character set that it came in."""
    html, charset = decode_utf8(payload, content_type)
    # Null characters are dropped or replaced by every HTML parser, and some C code stops at them.
    return html.replace(b"\0", b"\xef\xbf\xbd") if b"\0" in html else html, charset


def parse_html(html: bytes) -> HTMLTree:
    """The tree of a page. Raises PageTooLarge, and whatever the parser does."""
    tags = count_tags(html)
    check_markup(html, tags)
    tree = _parser()(html, "utf-8", "replace")
    check_tree(tree, tags)
    return tree


@cache
def _parser() -> Callable[[bytes, str, str], HTMLTree]:
    from resiliparse.parse.html import HTMLTree

    return HTMLTree.parse_from_bytes
