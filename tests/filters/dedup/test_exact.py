"""Exact keys against Python's own string methods, and canonical URLs against the standards' examples."""

from __future__ import annotations

from urllib.parse import urljoin

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import example, given
from hypothesis import strategies as st
from thresher.filters.dedup.exact import canonical_url, row_slices, text_key, url_key

SPACES = "".join(chr(point) for point in range(0x110000) if chr(point).isspace())
ALMOST_SPACES = "\u200b\u180e\u00a1\u1681\u200b\u2030\u2060\u3001\ufeff\u2090\u205e"

texts = st.lists(
    st.none() | st.text() | st.text(st.sampled_from("aÉ" + SPACES + ALMOST_SPACES), max_size=40), max_size=8
)


def hash_of(text: str | None) -> int | None:
    return None if text is None else xxhash.xxh3_128_intdigest(text.encode())


def as_integers(keys: tuple[pa.Array, pa.Array]) -> list[int | None]:
    key, low = (column.to_pylist() for column in keys)
    return [None if a is None else a << 64 | b for a, b in zip(key, low, strict=True)]


def canonical(url: str | None, **options: object) -> str | None:
    made: str | None = canonical_url(pa.array([url], pa.string()), **options)[0].as_py()
    return made


@given(texts)
def test_the_key_of_a_text_is_its_128_bit_xxh3(documents: list[str | None]) -> None:
    made = text_key(pa.array(documents, pa.string()), "none")
    assert as_integers(made) == [hash_of(text) for text in documents]
    assert made[0].type == made[1].type == pa.uint64()


@given(texts)
@example([SPACES + "a" + SPACES + "b" + SPACES, ALMOST_SPACES, " ".join(ALMOST_SPACES)])
def test_white_space_is_normalised_as_python_splits(documents: list[str | None]) -> None:
    made = text_key(pa.array(documents, pa.string()), "whitespace")
    expected = [None if text is None else " ".join(text.split()) for text in documents]
    assert as_integers(made) == [hash_of(text) for text in expected]


@given(texts)
def test_lower_case_is_taken_character_by_character(documents: list[str | None]) -> None:
    def lower(character: str) -> str:
        return character.lower() if len(character.lower()) == 1 else character

    known = [None if text is None else "".join(c for c in text if ord(c) < 0x530) for text in documents]
    made = text_key(pa.array(known, pa.string()), "lower")
    expected = [None if text is None else " ".join("".join(map(lower, text)).split()) for text in known]
    # Arrow maps the one letter whose lower case is two characters (U+0130) to a plain i.
    expected = [text and text.replace("\u0130", "i") for text in expected]
    assert as_integers(made) == [hash_of(text) for text in expected]


@given(texts, st.data())
def test_keys_depend_neither_on_type_nor_on_offset(documents: list[str | None], data: st.DataObject) -> None:
    normalize = data.draw(st.sampled_from(["none", "whitespace", "lower"]))
    start = data.draw(st.integers(0, len(documents)))
    whole = as_integers(text_key(pa.array(documents, pa.string()), normalize))
    for kind in (pa.string(), pa.large_string()):
        sliced = pa.array(["x", *documents, "y"], kind).slice(1 + start, len(documents) - start)
        assert as_integers(text_key(sliced, normalize)) == whole[start:]


def test_large_batches_are_worked_on_in_pieces_that_do_not_show() -> None:
    documents = [f"{i}  " * (1 + 90_000 * (i % 7)) for i in range(20)]  # up to 2 MB each
    made = text_key(pa.array(documents), "whitespace")
    assert as_integers(made) == [hash_of(" ".join(text.split())) for text in documents]


def test_null_text_and_no_text_have_defined_keys() -> None:
    for normalize in ("none", "whitespace", "lower"):
        assert [column.to_pylist() for column in text_key(pa.nulls(2), normalize)] == [[None] * 2] * 2
        assert [len(column) for column in text_key(pa.array([], pa.string()), normalize)] == [0, 0]
    assert as_integers(text_key(pa.array(["", " \n"]), "whitespace")) == [hash_of("")] * 2
    with pytest.raises(TypeError):
        text_key(pa.array([1]), "none")
    with pytest.raises(ValueError, match="normalize"):
        text_key(pa.array(["a"]), "words")  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 40))
def test_slices_of_rows_cover_all_rows_within_the_size(lengths: list[int], size: int) -> None:
    offsets = np.cumsum([7, *lengths]).astype(np.int64)
    slices = list(row_slices(offsets, size))
    assert [row for part in slices for row in range(part.start, part.stop)] == list(range(len(lengths)))
    for part in slices:
        assert part.stop > part.start
        assert part.stop == part.start + 1 or offsets[part.stop] - offsets[part.start] <= size


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        # RFC 3986, section 6.2.2, with a scheme of the web
        ("hTTp://a/./b/../b/%63/%7bfoo%7d", "http://a/b/c/%7Bfoo%7D"),
        ("HTTP://www.EXAMPLE.com/", "http://www.example.com/"),
        # section 6.2.3: four ways to write one address
        ("http://example.com", "http://example.com/"),
        ("http://example.com/", "http://example.com/"),
        ("http://example.com:/", "http://example.com/"),
        ("http://example.com:80/", "http://example.com/"),
        ("https://example.com:0443/", "https://example.com/"),
        ("https://example.com:80/", "https://example.com:80/"),
        ("ftp://example.com:21/a", "ftp://example.com/a"),
        ("  http://example.com/a\tb\n", "http://example.com/ab"),
        ("http://example.com./a#part", "http://example.com/a"),
        ("http://example.com?#", "http://example.com/"),
        ("http://example.com/?a#b?c", "http://example.com/?a"),
        ("http://example.com\\a\\b?c\\d", "http://example.com/a/b?c%5Cd"),
        ("http://Ben:s%65cret@example.com/", "http://Ben:secret@example.com/"),
        ("http://bücher.example/ä b", "http://xn--bcher-kva.example/%C3%A4%20b"),
        ("http://B%C3%BCcher.example/%c3%a4", "http://xn--bcher-kva.example/%C3%A4"),
        ("http://[2001:DB8:0:0::1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://example.com/100%", "http://example.com/100%25"),
        ("http://example.com/%2541", "http://example.com/%2541"),
        ("http://example.com/a%2Fb", "http://example.com/a%2Fb"),
        ("http://example.com/a//b/", "http://example.com/a//b/"),
        ("http://example.com/\x00a\x00", "http://example.com/%00a"),
        ("http://example.com/?b=2&a=1&&b=1", "http://example.com/?a=1&b=2&b=1"),
        ("http://example.com/?utm_source=x&id=7&FBCLID=y", "http://example.com/?id=7"),
        ("http://example.com/?utm_source=x", "http://example.com/"),
        ("http://example.com/?utm=x&u=gclid", "http://example.com/?u=gclid&utm=x"),
        ("http://a_b.example.com/", "http://a_b.example.com/"),
    ],
)
def test_a_url_has_one_spelling(url: str, expected: str) -> None:
    assert canonical(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        None, "", " ", "example.com/a", "//example.com/a", "/a", "mailto:a@example.com", "data:text/plain,a",
        "file:///etc/passwd", "http://", "http:///a", "http://?a", "http://:80/", "http://a:b/", "http://a:65536/",
        "http://a:" + "9" * 5000, "http://a b/", "http://a..b/", "http://.a/", "http://a\x00b/", "http://[::1/",
        "http://[::g]/", "http://[fe80::1%25eth0]/", "http://a]b/", "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 130 + "com/", "http://%ff/", "http://\u2024.com/", "http://" + "ä" * 100_000,
        "javascript:alert(1)", "http//a.com",
    ],
)  # fmt: skip
def test_what_is_no_url_of_the_web_has_no_canonical_form(url: str | None) -> None:
    assert canonical(url) is None


@given(st.lists(st.sampled_from([".", "..", "a", "b.c", "..."]), min_size=1, max_size=8), st.booleans())
def test_dot_segments_are_resolved_as_python_joins_urls(segments: list[str], slash: bool) -> None:
    path = "/" + "/".join(segments) + "/" * slash
    assert canonical("http://h" + path) == urljoin("http://h/", path)


@given(
    st.text(max_size=30) | st.text(st.sampled_from("a/.%4e1?&=#\\:@[]ä \x00"), max_size=30),
    st.booleans(),
    st.sampled_from(["keep", "drop"]),
)
def test_a_canonical_url_is_its_own_canonical_form(rest: str, sort_query: bool, slash: str) -> None:
    for start in ("", "http://", "http://h.example/", "https://h:80/?"):
        once = canonical(start + rest, sort_query=sort_query, trailing_slash=slash)
        assert once is None or canonical(once, sort_query=sort_query, trailing_slash=slash) == once


def test_what_counts_as_the_same_page_can_be_chosen() -> None:
    assert canonical("http://h/a//", trailing_slash="drop") == "http://h/a"
    assert canonical("http://h//", trailing_slash="drop") == "http://h/"
    assert canonical("http://h/?b&a", sort_query=False) == "http://h/?b&a"
    assert canonical("http://h/?sid=1&utm_id=2&SIDE=3", tracking=("sid",)) == "http://h/?SIDE=3&utm_id=2"
    assert canonical("http://h/?sid=1&utm_id=2&SIDE=3", tracking=("sid*",)) == "http://h/?utm_id=2"
    assert canonical("http://h/?a&utm_id=2", tracking=()) == "http://h/?a&utm_id=2"
    with pytest.raises(ValueError, match="trailing_slash"):
        canonical("http://h/", trailing_slash="both")


def test_pages_meet_by_their_canonical_url_and_records_without_one_do_not() -> None:
    urls = pa.array(["http://H/?b=1&a=2#x", "http://h/?a=2&b=1&gclid=3", "http://h/", None, "nonsense"])
    keys = as_integers(url_key(urls))
    assert keys == [hash_of("http://h/?a=2&b=1")] * 2 + [hash_of("http://h/"), None, None]
