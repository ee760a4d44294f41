from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.text.page_names import _NAMES, Part, parts
from thresher.filters.text.page_outline import Attribute, outline


def said(attribute: str, value: str) -> Part:
    """What one element's attribute says."""
    return Part(int(parts(outline(f'<div {attribute}="{value}"></div>'.encode()))[1]))


@pytest.mark.parametrize(
    ("attribute", "value", "part"),
    [
        ("class", "sidebar-left", Part.BOILERPLATE),
        ("class", "related-posts", Part.BOILERPLATE),
        ("class", "share-buttons", Part.BOILERPLATE),
        ("id", "site-Footer", Part.BOILERPLATE),
        ("class", "entry-content", Part.BODY),
        ("class", "post__text", Part(0)),
        ("class", "post_text", Part.BODY),
        ("class", "post", Part.BODY),
        ("class", "post wide", Part(0)),
        ("class", "article wide", Part.STORY),
        ("class", "article\nwide", Part.STORY),
        ("class", "box hidden", Part.HIDDEN),
        ("class", "hidden", Part(0)),
        ("id", "main-content", Part.CONTENT | Part.MAIN),
        ("class", "Comments", Part.COMMENTS),
        ("class", "commentary", Part(0)),
        ("class", "prose", Part(0)),
        ("role", "navigation", Part.BOILERPLATE),
        ("role", "main", Part.MAIN),
        ("role", "article", Part.STORY),
        ("itemprop", "articleBody", Part.BODY),
        ("style", "color: red; display: none", Part.HIDDEN),
        ("aria-hidden", "true", Part.HIDDEN),
        ("aria-hidden", "false", Part(0)),
        ("title", "sidebar", Part(0)),
    ],
)
def test_what_a_name_says(attribute: str, value: str, part: Part) -> None:
    assert said(attribute, value) == part


def pattern(token: str) -> str:
    """The regular expression of a stretch of a name in the notation of the tables."""
    return re.sub(r"(.)/(.)", r"[\1\2]", re.escape(token).replace("\\", "")).replace("~", " ")


_PIECES = sorted(
    {token for tables in _NAMES.values() for tokens in tables.values() for token in tokens.split()}
)


@given(
    attribute=st.sampled_from([Attribute.CLASS, Attribute.ID]),
    value=st.lists(
        st.sampled_from(_PIECES).map(lambda token: re.sub(r"[\^$?]|/.", "", token).replace("~", " "))
        | st.text("abehst-_ ", max_size=4),
        max_size=4,
    ).map("".join),
)
def test_the_automaton_finds_what_regular_expressions_find(attribute: Attribute, value: str) -> None:
    expected = Part(0)
    for part, tokens in _NAMES[attribute].items():
        if value and any(re.search(pattern(token), value) for token in tokens.split()):
            expected |= part
    assert said(attribute.name.lower(), value) == expected


def test_an_element_s_attributes_are_taken_together() -> None:
    found = parts(outline(b'<div class="entry-content" id="nav"><p>x</p></div>'))
    assert found.tolist() == [0, Part.BODY | Part.BOILERPLATE, 0]
