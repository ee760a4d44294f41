"""The text of web pages, with title, date and canonical URL, from one parse of each page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import pyarrow as pa

from .charset import decode
from .page_limits import PageTooLarge, count_tags
from .page_metadata import NO_METADATA, Metadata, read_metadata
from .page_tree import parse_html, read_html

if TYPE_CHECKING:
    from resiliparse.parse.html import HTMLTree

Method = Literal["resiliparse", "resiliparse_plain", "trafilatura", "trafilatura_precise", "hybrid"]

# The distributions whose versions decide what a method gives.
LIBRARIES: Final[dict[Method, tuple[str, ...]]] = {
    "resiliparse": ("resiliparse",),
    "resiliparse_plain": ("resiliparse",),
    "trafilatura": ("trafilatura",),
    "trafilatura_precise": ("trafilatura",),
    "hybrid": ("resiliparse", "trafilatura"),
}

# One row per page.
EXTRACTED: Final = pa.schema(
    [
        pa.field("text", pa.string()),  # null where `error` is not
        pa.field("title", pa.string()),
        pa.field("date", pa.string()),  # of publication, as the page gives it
        pa.field("canonical_url", pa.string()),  # absolute
        pa.field("charset", pa.string()),  # the Encoding Standard's name, lower case
        # empty_extraction | parse_error | too_deep | too_large | missing_payload
        pa.field("error", pa.string()),
    ]
)


# What main content means to us. Readers' comments, the bylines around an article and alternative texts of
# images are left out: on the 181 pages of the article extraction benchmark
# (github.com/scrapinghub/article-extraction-benchmark) that lifts F1 from .898 to .934, precision from .830
# to .891, at the same recall of .98 (benchmarks/extraction.py).
MAIN_CONTENT: Final[dict[str, Any]] = {
    "main_content": True,
    "comments": False,
    "post_meta": False,
    "alt_texts": False,
}

# Nested lists are indented, so that 280 KB of them can make 16 MB of plain text; a page whose text is larger
# than its markup by this much is nothing else. Choices of ours.
_MOST_TEXT: Final = 4
_FREE_TEXT: Final = 100_000

# Tags of a page that `hybrid` may still hand to trafilatura, which takes some 40 microseconds for each:
# 0.4 s. The 181 pages have at most 3,300. A choice of ours.
_MOST_ASKED: Final = 10_000


@dataclass(frozen=True)
class Page:
    """What became of one page."""

    text: str | None = None
    metadata: Metadata = NO_METADATA
    charset: str | None = None
    error: str | None = None


def extract(
    payload: pa.Array, content_type: pa.Array, url: pa.Array | None = None, method: Method = "resiliparse"
) -> pa.RecordBatch:
    """Text and metadata of pages: a batch of EXTRACTED, one row per payload (binary or large_binary).

    `resiliparse` keeps main content (Bevendorff et al., github.com/chatnoir-eu/chatnoir-resiliparse),
    `resiliparse_plain` all visible text, `trafilatura` main content more strictly and some ten times more
    slowly (Barbaresi 2021, doi:10.18653/v1/2021.acl-demo.15). `trafilatura_precise` is its
    option `favor_precision`, as datatrove's FineWeb asks for. `hybrid` keeps what the first of trafilatura's
    rules do (see main_content) and asks trafilatura itself about a page on which they leave doubt. A page
    whose content type is text/plain is only decoded. A page of white space alone has the error
    `empty_extraction`; one whose markup would cost time or memory out of proportion to its size has
    `too_deep` or `too_large`. There is no time limit: what a page gives depends on the page alone. Raises
    ValueError for another method.
    """
    if method not in get_args(Method):
        raise ValueError(f"no extraction method {method!r}; there are {', '.join(get_args(Method))}")
    urls = [None] * len(payload) if url is None else url.to_pylist()
    pages = [
        extract_page(body.as_py(), kind, address, method)  # one page's bytes at a time stay in the cache
        for body, kind, address in zip(payload, content_type.to_pylist(), urls, strict=True)
    ]
    columns = [
        [page.text for page in pages],
        [page.metadata.title for page in pages],
        [page.metadata.date for page in pages],
        [page.metadata.canonical_url for page in pages],
        [page.charset for page in pages],
        [page.error for page in pages],
    ]
    arrays = [pa.array(map(_encodable, column), pa.string()) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=EXTRACTED)


def extract_page(payload: bytes | None, content_type: str | None, url: str | None, method: Method) -> Page:
    """One page; `url` resolves a relative canonical link. Never raises for what a page holds."""
    if payload is None:
        return Page(error="missing_payload")
    if (content_type or "").lstrip()[:10].lower() == "text/plain":
        text, charset = decode(payload, content_type)
        return _page(text, NO_METADATA, charset)
    html, charset = read_html(payload, content_type)
    try:
        tree = parse_html(html)
        metadata = read_metadata(tree, html, url)
        text = _extractor(method)(tree, html)
    except PageTooLarge as refusal:
        return Page(charset=charset, error=refusal.reason)
    except Exception:  # whatever a parser says about a page is that page's error
        return Page(charset=charset, error="parse_error")
    if len(text) > _MOST_TEXT * len(html) + _FREE_TEXT:
        return Page(charset=charset, error="too_deep")
    return _page(text, metadata, charset)


def _page(text: str, metadata: Metadata, charset: str) -> Page:
    if not text or text.isspace():
        return Page(None, metadata, charset, "empty_extraction")
    return Page(text, metadata, charset)


@cache
def _extractor(method: Method) -> Callable[[HTMLTree, bytes], str]:
    """What makes text of a parsed page. Each library is imported when it is first asked for."""
    if method in ("trafilatura", "trafilatura_precise"):
        return lambda tree, html: _trafilatura(html, precise=method == "trafilatura_precise")
    if method == "hybrid":
        from .main_content import main_content

        def extract_or_ask(tree: HTMLTree, html: bytes) -> str:
            body = tree.body or tree.document
            if body is None:
                return ""
            text, doubt = main_content(body.html.encode("utf-8", "replace"))
            return (doubt and count_tags(html) <= _MOST_ASKED and _trafilatura(html)) or text

        return extract_or_ask
    from resiliparse.extract.html2text import extract_plain_text

    options = MAIN_CONTENT if method == "resiliparse" else {}
    return lambda tree, html: extract_plain_text(tree, **options)


def _trafilatura(html: bytes, precise: bool = False) -> str:
    import trafilatura

    page = html.decode("utf-8", "replace")
    return trafilatura.extract(page, include_comments=False, favor_precision=precise) or ""


def _encodable(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # a parser can let a character reference to a surrogate through
        return value.encode("utf-8", "replace").decode()
    return value
