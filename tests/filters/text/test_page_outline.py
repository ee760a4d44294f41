from __future__ import annotations

import time
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.text.page_outline import Attribute, Kind, outline

_NAMES = ["div", "p", "span", "b", "section", "ul", "li", "article"]
_TEXTS = st.text("ab &<>\n\u00e9\u4e2d", max_size=12)
_TREES = st.recursive(
    _TEXTS,
    lambda inner: st.tuples(
        st.sampled_from(_NAMES), st.text("abc >\"'", max_size=5), st.lists(inner, max_size=4)
    ),
    max_leaves=25,
)


def serialise(tree: object) -> str:
    """As the HTML Standard serialises: text and attribute values are escaped."""
    if isinstance(tree, str):
        return tree.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    name, value, children = tree  # type: ignore[misc]
    escaped = value.replace('"', "&quot;")
    return f'<{name} class="{escaped}">{"".join(map(serialise, children))}</{name}>'


def elements(tree: object, parent: int, found: list[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
    if not isinstance(tree, str):
        name, value, children = tree  # type: ignore[misc]
        found.append((name, parent, value.replace('"', "&quot;")))
        place = len(found)
        for child in children:
            elements(child, place, found)
    return found


@given(tree=_TREES)
def test_elements_parents_and_classes_are_those_of_the_tree(tree: object) -> None:
    html = serialise(tree).encode()
    page = outline(html)
    expected = elements(tree, 0, [])
    kinds = {"div": "DIV", "p": "PARAGRAPH", "span": "SPAN", "b": "EMPHASIS", "section": "SECTION",
             "ul": "LIST", "li": "ITEM", "article": "ARTICLE"}  # fmt: skip
    assert [Kind(kind).name for kind in page.kind[1:]] == [kinds[name] for name, _, _ in expected]
    assert page.parent[1:].tolist() == [parent for _, parent, _ in expected]
    classes = {element: html[start:end].decode() for element, _, start, end in page.names.tolist()}
    assert classes == {place + 1: value for place, (_, _, value) in enumerate(expected) if value}
    for place in range(1, len(page.kind)):
        below = [
            other for other in range(1, len(page.kind)) if place in ancestors(page.parent.tolist(), other)
        ]
        assert list(range(place + 1, page.stop[place])) == below


def written(tree: object) -> str:
    return tree if isinstance(tree, str) else "".join(map(written, tree[2]))  # type: ignore[index]


def ancestors(parent: list[int], place: int) -> set[int]:
    found = set()
    while (place := parent[place]) >= 0:
        found.add(place)
    return found


@given(tree=_TREES)
def test_the_texts_are_those_between_the_tags(tree: object) -> None:
    html = serialise(tree).encode()
    page = outline(html)
    found = b"".join(html[start:end] for _, start, end, _ in page.text.tolist())
    assert unescape(found.decode()) == written(tree)


@pytest.mark.parametrize(
    ("text", "length"),
    [("a  b", 3), (" a ", 2), ("&amp;&nbsp;x", 3), ("\u00e9\u4e2d", 2), (" \n ", 0), ("& b", 3)],
)
def test_a_length_counts_characters_with_white_space_collapsed(text: str, length: int) -> None:
    assert outline(f"<p>{text}</p>".encode()).length[1] == length


def test_scripts_comments_and_void_elements_are_no_elements() -> None:
    page = outline(b"<div><!-- <p>no</p> --><script>if (a<b) x='</p>'</script><img alt='>'><p>yes</p></div>")
    assert [Kind(kind) for kind in page.kind] == [Kind.OTHER, Kind.DIV, Kind.PARAGRAPH]
    assert [page.data[start:end].tobytes() for _, start, end, _ in page.text.tolist()] == [b"yes"]


def test_a_line_break_marks_the_text_behind_it_in_the_same_block() -> None:
    page = outline(b"<div>one<br>two<span>three</span><p>four</p></div>")
    assert page.text[:, 3].tolist() == [0, 3, 1, 0]


def test_the_attributes_that_are_read_have_their_codes() -> None:
    page = outline(b'<p id="i" href="x" style="s" aria-hidden="true" itemprop="b" role="r" class="">x</p>')
    assert [Attribute(code).name for code in page.names[:, 1]] == [
        "ID",
        "STYLE",
        "HIDDEN",
        "ITEMPROP",
        "ROLE",
    ]


@given(html=st.binary(max_size=60) | st.text("<>/!-=\"' abp", max_size=60).map(str.encode))
def test_any_bytes_have_an_outline(html: bytes) -> None:
    page = outline(html)
    assert page.stop[0] == len(page.kind)
    assert all(parent < place for place, parent in enumerate(page.parent.tolist()))


@pytest.mark.parametrize("part", ["<", "<a ", "<!--", "<script>", "</p>", "<p>", "<p class='", "<div></p>"])
def test_time_grows_with_the_size_alone(part: str) -> None:
    html = (part * (2_000_000 // len(part))).encode()
    start = time.process_time()
    outline(html)
    assert time.process_time() - start < 2
