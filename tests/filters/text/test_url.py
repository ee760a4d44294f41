from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.text.url import Address, HashSet, UrlFilter
from thresher.schemas.contracts import AssetError


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    for category, domains, urls in (
        ("adult", "example.com\nbad.co.uk\n\n# a comment\nmünchen.de\n192.0.2.1\n", "geo.org/foo/bar\n"),
        ("gambling", "casino.net\n", "www.shop.org/q?a=1\nhost.org\nhome.org/~me/\n"),
    ):
        (tmp_path / category).mkdir()
        (tmp_path / category / "domains").write_text(domains, encoding="utf-8")
        (tmp_path / category / "urls.gz").write_bytes(gzip.compress(urls.encode()))
    (tmp_path / "README").write_text("not a category")
    (tmp_path / "empty").mkdir()
    return tmp_path


def check(blocker: UrlFilter, url: str | None) -> tuple[str | None, str | None]:
    reason, value = blocker.check(pa.array([url], pa.string()))
    assert (reason.type, value.type) == (pa.string(), pa.string())
    return reason[0].as_py(), value[0].as_py()


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("http://example.com", "example.com"),
        ("https://a.b.Example.COM:8080/path", "example.com"),
        ("http://user:secret@bad.co.uk/", "bad.co.uk"),
        ("//example.com/x", "example.com"),
        ("example.com/x", "example.com"),
        ("example.com:80", "example.com"),
        ("http://example.com.", "example.com"),
        ("http://münchen.de/", "xn--mnchen-3ya.de"),
        ("http://xn--mnchen-3ya.de/", "xn--mnchen-3ya.de"),
        ("http://ex%61mple.com/", "example.com"),
        ("http://example.com\\@good.org/", "example.com"),
        ("ftp://192.0.2.1/x", "192.0.2.1"),
        ("http://casino.net?x", "casino.net"),
    ],
)
def test_a_domain_blocks_itself_and_all_below_it(url: str, domain: str, lists: Path) -> None:
    assert check(UrlFilter(lists), url) == ("blocked_domain", domain)


@pytest.mark.parametrize(
    "url",
    [
        "http://notexample.com/",
        "http://example.com.evil.org/",
        "http://co.uk/",
        "http://good.org/example.com",
        "http://good.org/?u=http://example.com/",
        "mailto:me@example.com",
        "http://[::1]:80/",
        "http:///example.com",
        "http://" + "a" * 300 + ".example.com/",
    ],
)
def test_other_hosts_are_not_blocked(url: str, lists: Path) -> None:
    assert check(UrlFilter(lists), url) == (None, None)


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("http://geo.org/foo/bar", "geo.org/foo/bar"),
        ("https://www.geo.org/foo/bar/baz", "geo.org/foo/bar"),
        ("http://geo.org/foo/bar?x=1#y", "geo.org/foo/bar"),
        ("http://shop.org/q?a=1&b=2", "shop.org/q?a=1"),
        ("http://host.org/anything", "host.org"),
        ("http://home.org/~me", "home.org/~me"),
        ("http://home.org/~me/x.html", "home.org/~me"),
        ("http://geo.org/foobar", None),
        ("http://geo.org/foo/barn", None),
        ("http://sub.geo.org/foo/bar", None),
        ("http://home.org/~meg/", None),
        ("http://shop.org/q?a=12", None),
    ],
)
def test_a_listed_url_blocks_what_begins_with_it_up_to_a_boundary(
    url: str, entry: str | None, lists: Path
) -> None:
    assert check(UrlFilter(lists), url) == (("blocked_url", entry) if entry else (None, None))


@pytest.mark.parametrize(
    ("url", "value"),
    [
        ("http://a.org/online-POKER.html", "poker"),
        ("http://poker.a.org/", "poker"),
        ("http://a.org/p%6Fker", "poker"),
        ("http://a.org/pokerface", None),
        ("http://a.org/free/prize", "free prize"),
        ("http://a.org/free-free", None),
        ("http://a.org/xanalyticsx", "analytics"),
        ("/relative/poker", "poker"),
    ],
)
def test_words_are_whole_soft_words_come_together_and_subwords_anywhere(url: str, value: str | None) -> None:
    blocker = UrlFilter(words=["Poker"], soft_words=["free", "prize", "win"], subwords=["analytics"])
    assert check(blocker, url) == (("blocked_word", value) if value else (None, None))


def test_categories_choose_among_the_lists(lists: Path) -> None:
    blocker = UrlFilter(lists, categories=["gambling"])
    assert check(blocker, "http://casino.net/")[0] == "blocked_domain"
    assert check(blocker, "http://example.com/") == (None, None)


def test_the_domain_is_asked_before_the_url_and_that_before_words(lists: Path) -> None:
    blocker = UrlFilter(lists, words=["foo", "x"])
    reasons, _ = blocker.check(
        pa.array(["http://example.com/x", "http://geo.org/foo/bar", "http://a.org/foo"])
    )
    assert reasons.to_pylist() == ["blocked_domain", "blocked_url", "blocked_word"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_nulls_empty_strings_and_slices_have_their_place(kind: pa.DataType, lists: Path) -> None:
    urls = pa.array(["http://a.org", None, "", "http://example.com", "http://b.org"], kind)
    reasons, values = UrlFilter(lists).check(urls[1:])
    assert reasons.to_pylist() == [None, None, "blocked_domain", None]
    assert values.to_pylist() == [None, None, "example.com", None]


@given(url=st.text(max_size=60) | st.text("htp:/.@[]%a?#&\\", max_size=40))
def test_any_string_is_an_address(url: str) -> None:
    address = Address.parse(url)
    assert all(address.host.endswith(domain) for domain in address.domains)
    assert len(list(address.prefixes)) <= 34
    assert UrlFilter(words=["a"]).check(pa.array([url]))[0].type == pa.string()


LABELS = st.lists(st.text("ab-1", min_size=1, max_size=3), min_size=1, max_size=4).map(".".join)


@given(listed=st.sets(LABELS, max_size=8), host=LABELS)
def test_a_host_is_blocked_when_it_or_a_parent_is_listed(listed: set[str], host: str) -> None:
    blocker = UrlFilter()
    blocker.open()
    blocker._domains = HashSet(listed)
    reason, value = check(blocker, f"http://{host}/")
    parents = [entry for entry in listed if host == entry or host.endswith("." + entry)]
    assert (reason is not None) == bool(parents)
    assert value == max(parents, key=len, default=None)


@given(names=st.sets(st.text(max_size=8)), asked=st.lists(st.text(max_size=8)))
def test_a_hash_set_answers_as_a_set(names: set[str], asked: list[str]) -> None:
    hashed = HashSet(names)
    assert len(hashed) == len(names)
    assert hashed.contains(asked).tolist() == [name in names for name in asked]


def test_missing_folders_and_categories_are_refused_with_the_nearest_name(lists: Path) -> None:
    with pytest.raises(AssetError, match="no such folder"):
        UrlFilter(lists / "none")
    with pytest.raises(AssetError, match="no category here has a file"):
        UrlFilter(lists / "empty")
    with pytest.raises(AssetError, match="no category 'gambing'; did you mean gambling"):
        UrlFilter(lists, categories=["gambing"])
    with pytest.raises(ValueError, match="not a single word"):
        UrlFilter(words=["two words"])
