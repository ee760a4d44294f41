"""robots.txt against RFC 9309 and a matcher that tries everything."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.pipeline.download.robots import Robots

# The example of RFC 9309, section 5.1.
SIMPLE = b"""User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""


@pytest.mark.parametrize(
    ("agent", "path", "allowed"),
    [
        ("anybot", "/a.gif", False),
        ("anybot", "/a.gif?x", True),
        ("anybot", "/example/page.html", False),
        ("anybot", "/publications/a.gif", True),
        ("foobot", "/", False),
        ("foobot", "/example/page.html", True),
        ("foobot", "/example/allowed.gif", True),
        ("FOOBOT", "/example/other.gif", False),
        ("barbot", "/example/page.html", False),
        ("bazbot", "/example/page.html", False),
        ("bazbot", "/a.gif", True),
        ("quxbot", "/example/page.html", True),
        ("foobot", "/robots.txt", True),
    ],
)
def test_the_example_of_the_rfc(agent: str, path: str, allowed: bool) -> None:
    assert Robots(SIMPLE, agent).allows(path) is allowed


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        ("Disallow: /\nAllow: /example/page/disallowed.gif", "/example/page/disallowed.gif", True),
        ("Allow: /a\nDisallow: /a", "/a", True),
        ("Disallow: /a\nAllow: /a", "/a", True),
        ("Allow: /a\nDisallow: /ab", "/abc", False),
        ("Disallow:", "/a", True),
        ("disallow : /a # not this", "/a#", False),
        ("Disallow: /a b", "/a%20b", False),
        ("Disallow: /foo/bar/ツ", "/foo/bar/%E3%83%84", False),
        ("Disallow: /foo/bar/%E3%83%84", "/foo/bar/ツ", False),
        ("Disallow: /foo/bar/%62%61%7A", "/foo/bar/baz", False),
        ("Disallow: /foo/bar/baz", "/foo/bar/%62%61%7a", False),
        ("Disallow: /path/file-with-a-%2A.html", "/path/file-with-a-*.html", True),
        ("Disallow: /path/file-with-a-%2A.html", "/path/file-with-a-%2a.html", False),
        ("Disallow: /a%2Fb", "/a/b", True),
        ("Disallow: /*.jpg$", "/x/y.jpg", False),
        ("Disallow: /*.jpg$", "/x/y.jpg?z", True),
        ("Disallow: /*?", "/x?y", False),
        ("Disallow: /$", "/", False),
        ("Disallow: /$", "/a", True),
        ("Disallow: /a*$", "/ab", False),
        ("Disallow: /a**b", "/axxb", False),
        ("Disallow: a", "/a", True),
        ("Crawl-delay: 5\nDisallow: /a", "/a", False),
        ("<html>Disallow: /a</html>", "/a", True),
    ],
)
def test_rules_by_the_longest_match(rules: str, path: str, allowed: bool) -> None:
    content = f"User-agent: thresher\n{rules}\n".encode()
    assert Robots(content, "thresher").allows(path) is allowed
    assert Robots(content, "other").allows(path)


@pytest.mark.parametrize(
    ("content", "allowed"),
    [
        ("User-agent: thresher/1.0\nDisallow: /", False),
        ("User-agent: thresher-images\nDisallow: /", True),
        ("User-agent: thresherbot\nDisallow: /", True),
        ("User-agent: *\nDisallow: /\n\nUser-agent: thresher\nAllow: /", True),
        (
            "User-agent: thresher\nDisallow: /a\n\nUser-agent: b\nDisallow:\n\n"
            "User-agent: Thresher\nDisallow: /x",
            False,
        ),
        ("User-agent: a\nUser-agent: thresher\nSitemap: s\nUser-agent: b\nDisallow: /", False),
        ("User-agent: thresher\nAllow: /y\nUser-agent: b\nDisallow: /", True),
        ("\ufeffUser-agent: *\r\nDisallow: /\r", False),
        ("User-agent: *\rDisallow: /", False),
        ("Disallow: /", True),
        ("", True),
        ("\0\0\0", True),
    ],
)
def test_which_group_is_ours(content: str, allowed: bool) -> None:
    assert Robots(content.encode(), "thresher").allows("/x.jpg") is allowed


def tries_everything(pattern: str, path: str) -> bool:
    """The definition, by trying every length that a * may have."""

    @cache
    def rest(at: int, place: int) -> bool:
        if at == len(pattern):
            return True
        if pattern[at] == "$" and at == len(pattern) - 1:
            return place == len(path)
        if pattern[at] == "*":
            return any(rest(at + 1, later) for later in range(place, len(path) + 1))
        return place < len(path) and pattern[at] == path[place] and rest(at + 1, place + 1)

    return rest(0, 0)


@given(
    st.lists(st.tuples(st.booleans(), st.text("ab*$/", max_size=6)), max_size=5),
    st.text("ab$/", max_size=8),
)
def test_rules_decide_as_the_definition_does(rules: list[tuple[bool, str]], path: str) -> None:
    rules = [(allow, f"/{pattern}") for allow, pattern in rules]
    lines = [f"{'Allow' if allow else 'Disallow'}: {pattern}" for allow, pattern in rules]
    content = "\n".join(["User-agent: *", *lines]).encode()
    found = [(len(p), allow) for allow, p in rules if tries_everything(p, f"/{path}")]
    assert Robots(content, "thresher").allows(f"/{path}") is max(found, default=(0, True))[1]


@given(st.binary(max_size=200))
def test_whatever_a_robots_txt_holds_it_is_read(content: bytes) -> None:
    assert Robots(content, "thresher").allows("/a") in (True, False)


def test_a_pattern_made_to_cost_is_matched_at_once() -> None:
    content = b"User-agent: *\n" + b"Disallow: /" + b"a*" * 200_000 + b"b\n"
    assert Robots(content, "thresher").allows("/" + "a" * 7000)
