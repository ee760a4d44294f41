from __future__ import annotations

import gzip
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from thresher.pipeline.sources.limits import ReadLimits
from thresher.pipeline.sources.page_images import PageError, absolute_url, page_images
from thresher.pipeline.sources.reader import count

from . import crawl
from .image_records import plan_images, read_images_of, read_split

ALL = ("img", "source", "open_graph")
PAGE = "https://example.org/news/today.html"


def found(
    html: str, links: tuple[str, ...] = ALL, url: str | None = PAGE
) -> list[tuple[str, str | None, str]]:
    return [(i.url, i.caption, i.via) for i in page_images(html.encode(), "text/html", url, links)]


def one(html: str, url: str | None = PAGE) -> str | None:
    images = found(html, url=url)
    return images[0][0] if images else None


def test_an_img_gives_its_address_and_alternative_text() -> None:
    html = '<img src="/a.jpg" alt=" A  cat\n&amp; dog "><img src=b.jpg><img src=c.jpg alt=""><img alt=none>'
    assert found(html) == [
        ("https://example.org/a.jpg", "A cat & dog", "img"),
        ("https://example.org/news/b.jpg", None, "img"),
        ("https://example.org/news/c.jpg", None, "img"),
    ]


@pytest.mark.parametrize(
    ("attributes", "chosen"),
    [
        ('src=s srcset="a 320w, b 1280w, c 640w"', "b"),
        ('src=s srcset="a, b 2x, c 1.5x"', "b"),
        ('src=s srcset="a,b.jpg 3x"', "a,b.jpg"),
        ('src=s srcset="a 1x,b 2x"', "b"),
        ('src=s srcset="  a.jpg  "', "a.jpg"),
        ('src=s srcset="a 100w 50h, b 50w 90h"', "a"),
        ('src=s srcset="data:image/gif;base64,R0lGOD 9w"', "s"),
        ('src=s srcset=""', "s"),
        ('src=s srcset=", ,"', "s"),
        ("src=spacer.gif data-src=real.jpg", "real.jpg"),
        ('src="data:image/gif;base64,R0" data-original=real.jpg', "real.jpg"),
        ('src=s data-srcset="l 900w"', "l"),
        ('src="data:image/gif;base64,R0"', None),
        ("src=javascript:alert(1)", None),
        ("src=blob:abc", None),
        ("src=ftp://h/a.jpg", None),
        ("src=http://", None),
        ("src=http://[::1", None),
    ],
)
def test_of_many_candidates_the_largest_is_chosen(attributes: str, chosen: str | None) -> None:
    assert one(f"<img {attributes}>") == (chosen and f"https://example.org/news/{chosen}")


def test_a_picture_gives_its_img_and_the_largest_of_its_sources() -> None:
    html = (
        "<picture><source srcset='a.webp 100w, b.webp 900w'><source srcset='c.jpg 400w'>"
        "<img src=d.jpg alt=fox></picture><video><source src=e.mp4></video>"
    )
    assert found(html) == [
        ("https://example.org/news/b.webp", "fox", "source"),
        ("https://example.org/news/d.jpg", "fox", "img"),
    ]
    assert [via for _, _, via in found(html, ("img",))] == ["img"]
    assert [via for _, _, via in found(html, ("source",))] == ["source"]


def test_open_graph_gives_its_text_or_else_the_title() -> None:
    image = '<meta property="og:image" content="/a.jpg"><meta name="twitter:image" content="/b.jpg">'
    title = '<meta property="og:title" content="The title">'
    text = '<meta property="og:image:alt" content="A cat">'
    assert found(image + title + text)[0] == ("https://example.org/a.jpg", "A cat", "open_graph")
    assert [(url[-6:], caption) for url, caption, _ in found(image + title)] == [
        ("/a.jpg", "The title"),
        ("/b.jpg", "The title"),
    ]
    assert found(image + "<title>t</title>")[0][1] is None
    assert found(image, ("img",)) == []


def test_each_address_with_each_caption_counts_once() -> None:
    html = '<img src=a alt=x><img src=a alt=x><img src=a alt=y><img src="./a#f" alt=x>'
    assert [caption for _, caption, _ in found(html)] == ["x", "y"]


def test_addresses_are_resolved_against_base_and_page() -> None:
    assert one("<base href=/img/><img src=a>") == "https://example.org/img/a"
    assert one("<base href='https://cdn.example/x/'><img src=a>", None) == "https://cdn.example/x/a"
    assert one("<base href='javascript:x'><img src=a>") == "https://example.org/news/a"
    assert one("<img src=a>", None) is None
    assert one("<link rel=canonical href='https://c.example/p/'><img src=a>", None) == "https://c.example/p/a"
    assert one("<img src=//cdn.example/a>", PAGE) == "https://cdn.example/a"


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("HTTP://Example.ORG:80/A b.jpg", "http://example.org/A%20b.jpg"),
        ("https://h:443/a#f", "https://h/a"),
        ("https://h:8443/a", "https://h:8443/a"),
        ("https://h", "https://h/"),
        ("https://bücher.example/é?q=ü x", "https://xn--bcher-kva.example/%C3%A9?q=%C3%BC%20x"),
        ("https://h/a%20b%zz", "https://h/a%20b%zz"),
        (" https://h/a\n\tb ", "https://h/ab"),
        ("https://[2001:DB8::1]:80/a", "https://[2001:db8::1]:80/a"),
        ('https://h/a\\b"<>', "https://h/a%5Cb%22%3C%3E"),
        ("https://h:99999/a", None),
        ("https://h:x/a", None),
        ("https://ho st/a", None),
        ("https:///a", None),
        ("https://h/" + "a" * 9000, None),
        ("", None),
    ],
)
def test_addresses_have_one_spelling(address: str, url: str | None) -> None:
    assert absolute_url(None, address) == url


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_address_raises_and_each_is_its_own_spelling(base: str, address: str) -> None:
    for text in (address, "http://" + address, "https://h/" + address):
        url = absolute_url(base, text)
        assert url is None or absolute_url(None, url) == url


@given(st.text("<imgsrctpeu =\"/>'\0é&;,wx0123", max_size=200))
def test_no_page_raises(text: str) -> None:
    page_images(f"<picture><source srcset='{text}'><img {text}>".encode(), None, PAGE, ALL)


def test_pages_that_would_cost_too_much_are_refused() -> None:
    with pytest.raises(PageError) as refusal:
        page_images(b"<div>" * 10_000 + b"<img src=a>", None, PAGE, ALL)
    assert refusal.value.reason == "too_deep"


class ImagesByHtmlParser(HTMLParser):
    """Plain `img` elements as the standard library finds them, outside what a browser shows no images of."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self._apart = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("template", "iframe", "noembed", "noframes", "textarea", "svg", "select"):
            self._apart += 1
        elif tag == "img" and not self._apart:
            given: dict[str, str | None] = {}
            for name, value in attrs:
                given.setdefault(name, value)
            self.images.append(given)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("template", "iframe", "noembed", "noframes", "textarea", "svg", "select"):
            self._apart = max(0, self._apart - 1)


def test_real_pages_have_the_images_that_another_parser_finds(shared_data: Path) -> None:
    pages = sorted((shared_data / "web" / "articles").glob("*.html.gz"))[:60]
    both = theirs_alone = 0
    for path in pages:
        html = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        parser = ImagesByHtmlParser()
        parser.feed(html)
        plain = [
            image
            for image in parser.images
            if not any(name in image for name in ("srcset", "data-src", "data-srcset", "data-original"))
            and not any(name.startswith("data-lazy") for name in image)
        ]
        theirs = {
            (urljoin(PAGE, (image["src"] or "").strip()), " ".join((image.get("alt") or "").split()))
            for image in plain
            if (image.get("src") or "").startswith(("http", "/"))
            and " " not in (image["src"] or "")
            and "#" not in (image["src"] or "")
        }
        ours = {(url, caption or "") for url, caption, _ in found(html.replace("<base ", "<bass "), ("img",))}
        both += len(ours & theirs)
        theirs_alone += len(theirs - ours)
    assert both > 500
    assert theirs_alone <= both / 50


def write_warc(path: Path, *blocks: bytes) -> Path:
    records = [crawl.record("response", block, number) for number, block in enumerate(blocks)]
    path.write_bytes(b"".join(crawl.members(records)))
    return path


def test_each_image_of_a_page_in_a_crawl_is_a_record_and_each_page_a_container(tmp_path: Path) -> None:
    path = write_warc(
        tmp_path / "a.warc.gz",
        crawl.http(b"<img src=/a.jpg alt=one><img src=/b.jpg>"),
        crawl.http(b"<p>no image"),
        crawl.http(b"<img src=/c.jpg>", content_type="text/plain"),
        crawl.http(b"<div>" * 10_000 + b"<img src=/d.jpg>"),
        crawl.http(b"<img src=/e.jpg>" + bytes(2000)),
        crawl.http(
            "<img src=/f.jpg alt=\u00e9>".encode("latin-1"), content_type="text/html; charset=latin-1"
        ),
    )
    limits = ReadLimits(max_payload_bytes=60_000)
    records, counts = read_images_of(path, "warc", links=ALL, limits=limits)
    assert [(r["url"], r["text"]) for r in records] == [
        ("https://example.org/a.jpg", "one"),
        ("https://example.org/b.jpg", None),
        ("https://example.org/e.jpg", None),
        ("https://example.org/f.jpg", "\u00e9"),
    ]
    assert [r["source"] for r in records[:2]] == [f"{path}:0#0", f"{path}:0#1"]
    assert records[0]["id"] == xxhash.xxh3_128_hexdigest(b"https://example.org/a.jpg\0one")
    assert json.loads(records[0]["meta"]) == {"page": "https://example.org/0", "via": "img"}
    assert records[0]["date"] == "2024-01-02T03:04:05Z"
    assert counts.accounts()["page"] == {
        "in": 6,
        "read": 3,
        "skipped": {"no_images": 1, "not_markup": 1},
        "errors": {"too_deep": 1},
    }
    assert counts.accounts()["warc_record"]["read"] == 6


def test_a_page_that_cannot_be_decoded_is_a_container_with_an_error(tmp_path: Path) -> None:
    path = write_warc(tmp_path / "a.warc.gz", crawl.http(b"\x1f\x8bno", "Content-Encoding: gzip"))
    records, counts = read_images_of(path, "warc", links=ALL)
    assert (records, counts.outcomes["page", "error:bad_content_encoding"]) == ([], 1)


def test_a_limit_counts_images(tmp_path: Path) -> None:
    images = b"".join(b"<img src=/%d.jpg>" % n for n in range(3))
    path = write_warc(tmp_path / "a.warc.gz", *[crawl.http(images + b"<p>%d" % n) for n in range(4)])
    [split] = plan_images(path, None, target=1 << 20, links=["img"])
    assert count(split) == 12
    assert count(split, 4) == 4
    for limit in (0, 1, 3, 4, 12, 50):
        records, _ = read_images_of(path, "warc", links=("img",), limit=limit)
        assert len(records) == min(limit, 12)


def test_an_html_file_gives_its_images(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<meta property='og:url' content='https://h/x/'><img src=a.jpg alt=one>")
    [split] = plan_images(path, None, links=["img"])
    [record], counts = read_split(split)
    assert (record["url"], record["source"], record["meta"]) == (
        "https://h/x/a.jpg",
        f"{path}#0",
        '{"via":"img"}',
    )
    assert counts.outcomes == {("file", "read"): 1, ("page", "read"): 1}


def test_real_crawls_balance(shared_data: Path) -> None:
    for path in sorted((shared_data / "web" / "warc").glob("*.warc.gz")):
        records, counts = read_images_of(path, "warc", links=ALL)
        assert records
        assert all(r["url"].startswith("http") and r["payload"] is None for r in records)
        told: dict[str, Any] = counts.accounts()
        assert told["page"]["in"] == told["warc_record"]["read"]
