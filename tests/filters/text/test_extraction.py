from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.filters.text.extraction import EXTRACTED, LIBRARIES, Method, extract

METHODS: list[Method] = [
    "resiliparse",
    "resiliparse_plain",
    "trafilatura",
    "trafilatura_precise",
    "hybrid",
]
ARTICLE = " ".join(f"This is sentence number {number} of the article." for number in range(30))
PAGE = f"""<!doctype html><html><head><title> A
 title </title></head><body><nav><ul><li><a href="/">Home</a></li><li><a href="/x">Contact us</a></li></ul>
</nav><article><h1>Heading</h1><p>{ARTICLE}</p></article><footer>Copyright notice</footer></body></html>"""


def one(
    payload: bytes | str | None, content_type: str | None = None, url: str | None = None, **options: Any
) -> dict:
    """The row that a single page gives."""
    data = payload.encode() if isinstance(payload, str) else payload
    batch = extract(
        pa.array([data], pa.binary()),
        pa.array([content_type], pa.string()),
        pa.array([url], pa.string()),
        **options,
    )
    assert batch.schema == EXTRACTED
    batch.validate(full=True)
    return dict(batch.to_pylist()[0])


def head(elements: str, url: str | None = None) -> dict:
    return one(f"<html><head>{elements}</head><body><p>{ARTICLE}</p></body></html>", url=url)


@pytest.mark.parametrize("method", METHODS)
def test_the_article_is_kept(method: Method) -> None:
    row = one(PAGE, method=method)
    assert ARTICLE in " ".join(row["text"].split())
    assert (row["title"], row["charset"], row["error"]) == ("A title", "utf-8", None)


@pytest.mark.parametrize("method", ["resiliparse", "trafilatura", "hybrid"])
def test_main_content_leaves_the_navigation_out(method: Method) -> None:
    assert "Contact us" not in one(PAGE, method=method)["text"]


def test_plain_extraction_keeps_all_that_is_visible() -> None:
    row = one(PAGE + "<script>var hidden = 1</script>", method="resiliparse_plain")
    assert "Contact us" in row["text"]
    assert "Copyright notice" in row["text"]
    assert "hidden" not in row["text"]


def test_resiliparse_gives_what_resiliparse_gives() -> None:
    from resiliparse.extract.html2text import extract_plain_text

    expected = extract_plain_text(PAGE, main_content=True, comments=False, post_meta=False, alt_texts=False)
    assert one(PAGE)["text"] == expected
    assert one(PAGE, method="resiliparse_plain")["text"] == extract_plain_text(PAGE)


def test_hybrid_asks_trafilatura_where_its_own_result_is_in_doubt() -> None:
    aside = f"<html><body><div class=teaser><p>Short.</p></div><div class=x>{ARTICLE}</div></body></html>"
    assert one(aside, method="hybrid")["text"] == one(aside, method="trafilatura")["text"]
    assert ARTICLE in one(aside, method="hybrid")["text"]


def test_hybrid_answers_for_itself_on_a_page_of_very_many_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    import trafilatura

    monkeypatch.setattr(trafilatura, "extract", lambda *_, **__: "asked")
    assert one("<p>short</p>" * 10, method="hybrid")["text"] == "asked"
    assert one("<p>short</p>" * 6000, method="hybrid")["text"] != "asked"


def test_every_method_names_the_libraries_that_it_needs() -> None:
    from importlib.metadata import version

    assert set(LIBRARIES) == set(METHODS)
    assert all(version(library) for libraries in LIBRARIES.values() for library in libraries)


def test_main_content_leaves_comments_and_alternative_texts_out() -> None:
    page = PAGE.replace(
        "</article>", "<img src=x alt='A cat'></article><div class=comments><p>First!</p></div>"
    )
    assert "First!" not in one(page)["text"]
    assert "A cat" not in one(page)["text"]
    assert "First!" in one(page, method="resiliparse_plain")["text"]


def test_a_plain_text_is_only_decoded() -> None:
    row = one("a < b\n\n<p>not & markup".encode("utf-16-le"), "text/plain; charset=utf-16le")
    assert (row["text"], row["title"], row["charset"]) == ("a < b\n\n<p>not & markup", None, "utf-16le")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("payload", [b"", b" \n", b"<html></html>", b"<script>x</script>", b"\x00\x00"[:0]])
def test_a_page_without_text_is_an_empty_extraction(payload: bytes, method: Method) -> None:
    row = one(payload, method=method)
    assert (row["text"], row["error"]) == (None, "empty_extraction")


def test_a_missing_payload_is_an_error_of_its_row() -> None:
    assert one(None)["error"] == "missing_payload"


@pytest.mark.parametrize(
    ("elements", "title"),
    [
        ("<title>One &amp; two</title>", "One & two"),
        ("<title> </title><meta property='og:title' content='From graph'>", "From graph"),
        ("<meta property=og:title content=Graph><title>Element</title>", "Element"),
        ("", None),
    ],
)
def test_the_title(elements: str, title: str | None) -> None:
    assert head(elements)["title"] == title


META = '<meta {}="{}" content="{}">'
JSON_LD = '<script type="application/ld+json">{"@type": "Article", "datePublished" : "2024-05-02"}</script>'
TIMES = '</head><body><time datetime="2024-05-03">May</time><time datetime="2023-01-01">x</time>'


@pytest.mark.parametrize(
    ("elements", "date"),
    [
        (META.format("property", "article:published_time", "2024-05-01T10:00:00Z"), "2024-05-01T10:00:00Z"),
        (
            META.format("name", "date", "1") + META.format("property", "Article:Published_Time", "2024"),
            "2024",
        ),
        (META.format("name", "DC.date.issued", " 2024-05-01 "), "2024-05-01"),
        (META.format("itemprop", "datePublished", "2024-05-01"), "2024-05-01"),
        (META.format("name", "date", "yesterday") + JSON_LD + TIMES, "2024-05-02"),
        (TIMES, "2024-05-03"),
        (META.format("name", "date", "2" * 500), None),
        ("", None),
    ],
)
def test_the_date(elements: str, date: str | None) -> None:
    assert head(elements)["date"] == date


@pytest.mark.parametrize(
    ("elements", "url", "canonical"),
    [
        ('<link rel="canonical" href="https://a.org/x">', None, "https://a.org/x"),
        ('<link rel="CANONICAL nofollow" href="/x?a=1&amp;b=2">', "https://a.org/y/z", "https://a.org/x?a=1&b=2"),
        ('<meta property="og:url" content="http://a.org/g"><link rel=canonical href="http://a.org/l">', None,
         "http://a.org/l"),
        ('<meta property="og:url" content="http://a.org/g"><link rel=canonical href="">', None, "http://a.org/g"),
        ('<link rel=canonical href="/relative">', None, None),
        ('<link rel=canonical href="javascript:alert(1)">', "http://a.org", None),
        ('<link rel=canonical href="http://[broken">', "http://a.org", None),
        ('<link rel=stylesheet href="http://a.org/x.css">', "http://a.org", None),
    ],
)  # fmt: skip
def test_the_canonical_url(elements: str, url: str | None, canonical: str | None) -> None:
    assert head(elements, url)["canonical_url"] == canonical


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_slices_and_large_arrays_keep_their_rows(kind: pa.DataType) -> None:
    pages = pa.array([b"<p>skipped", b"<p>one", None, b"", b"<p>two"], kind)
    types = pa.array([None] * 5, pa.large_string())
    batch = extract(pages[1:], types[1:], None, "resiliparse_plain")
    assert batch["text"].to_pylist() == ["one", None, None, "two"]
    assert batch["error"].to_pylist() == [None, "missing_payload", "empty_extraction", None]


def test_an_unknown_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=f"there are {', '.join(METHODS)}"):
        one(PAGE, method="readability")


NESTED = {
    "div": "<div>" * 100_000 + "x",
    "div with text": "<div>hello " * 100_000,
    "table": "<table><tr><td>" * 50_000,
    "list": "<ul><li>x" * 50_000,
    "svg": "<svg><g>" * 50_000,
    "unlike font elements": "".join(f"<font color={number}>x<p>" for number in range(30_000)),
    "forms": "<form><div>x</form>" * 10_000,
    "lists within the depth": ("<ul><li>x" * 200 + "</ul>" * 200) * 100,
    "attributes": "<div " + " ".join(f"a{number}" for number in range(100_000)) + ">x",
    "many long tags": ("<p " + "a " * 15_000 + ">x") * 3,
    "tags": "<br>" * 200_000,
    "comments": "<!--" * 100_000,
    "brackets": "<" * 100_000,
    "quotes": "<a href='" + "x" * 1_000_000,
    "formatting": "<b><p>x" * 30_000,
    "templates": "<template>" * 20_000,
}


@pytest.mark.parametrize("name", NESTED)
def test_hostile_markup_costs_little_and_never_crashes(name: str) -> None:
    start = time.process_time()
    rows = [one(NESTED[name], method=method) for method in ("resiliparse", "resiliparse_plain", "hybrid")]
    assert time.process_time() - start < 8
    assert {row["error"] for row in rows} <= {"too_deep", "too_large", "empty_extraction", None}
    if name in ("div", "table", "list", "svg", "forms", "unlike font elements"):
        assert {row["error"] for row in rows} == {"too_deep"}
    if name in ("attributes", "many long tags", "tags"):
        assert {row["error"] for row in rows} == {"too_large"}


def test_a_real_page_s_depth_long_tags_and_scripts_are_no_offence() -> None:
    deep = "<div>" * 500 + f"<p>{ARTICLE}</p>" + "</div>" * 500 + "<br>" * 4000
    assert one(deep, method="resiliparse_plain")["error"] is None
    assert one("<div>" * 520 + deep, method="resiliparse_plain")["error"] == "too_deep"
    data = (
        "<img src='data:image/png;base64,"
        + "A" * 300_000
        + "'><script>"
        + "a b 'c' < d \n" * 1500
        + "</script>"
    )
    assert one(data + f"<p>{ARTICLE}</p>")["error"] is None


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(payload=st.binary(max_size=300) | st.text("<>/!-abp =\"'&#;x0\ud800\x00", max_size=120).map(
    lambda text: text.encode("utf-8", "surrogatepass")))  # fmt: skip
def test_any_bytes_have_a_row(method: Method, payload: bytes) -> None:
    row = one(payload, method=method)
    assert (row["text"] is None) == (row["error"] is not None)


@pytest.mark.parametrize("method", METHODS)
def test_a_page_has_the_same_row_alone_and_among_others(method: Method) -> None:
    pages = [PAGE.encode(), b"<p>" + ARTICLE.encode(), b"\xff\xfe", PAGE.replace("Heading", "Other").encode()]
    together = extract(pa.array(pages, pa.binary()), pa.nulls(4, pa.string()), None, method).to_pylist()
    assert together == [one(page, method=method) for page in pages]


def test_importing_extraction_imports_no_parser() -> None:
    code = (
        "import sys; from thresher.filters.text import extraction, language, url;"
        "print([m for m in ('resiliparse', 'trafilatura', 'lxml', 'fasttext', 'xxhash') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_real_pages_all_have_text(shared_data: Path) -> None:
    folder = shared_data / "web" / "articles"
    truth = json.loads((folder / "ground-truth.json").read_text("utf-8"))
    keys = sorted(truth)[:40]
    pages = [gzip.decompress((folder / f"{key}.html.gz").read_bytes()) for key in keys]
    batch = extract(pa.array(pages), pa.nulls(40, pa.string()), pa.array([truth[key]["url"] for key in keys]))
    assert batch["error"].null_count == 40
    for key, text in zip(keys, batch["text"].to_pylist(), strict=True):
        words = truth[key]["articleBody"].split()
        assert sum(word in text for word in words) > 0.6 * len(words)
