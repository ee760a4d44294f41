"""Addresses: what is asked for, what is no address, and which hosts are no place for images of the web."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from thresher.pipeline.download.address import (
    BadAddress,
    RefusedAddress,
    check_literal,
    follow,
    parse,
)
from thresher.pipeline.download.networks import kind_of

pytest.importorskip("idna", reason="needs thresher[images]")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTPS://Example.COM:443/a", "https://example.com/a"),
        ("http://example.com:8080/a?b=c#d", "http://example.com:8080/a?b=c"),
        ("http://example.com:/a", "http://example.com/a"),
        ("http://example.com?q", "http://example.com/?q"),
        ("  http://example.com/a b.jpg\n", "http://example.com/a%20b.jpg"),
        ("http://example.com/a\tb", "http://example.com/ab"),
        ("http://example.com/100%25/%e4?x=%zz", "http://example.com/100%25/%e4?x=%zz"),
        ("http://example.com/käse.jpg?ö", "http://example.com/k%C3%A4se.jpg?%C3%B6"),
        ("http://käse.example/", "http://xn--kse-qla.example/"),
        ("http://例え.テスト/画像.png", "http://xn--r8jz45g.xn--zckzah/%E7%94%BB%E5%83%8F.png"),
        ("http://example.com./a", "http://example.com/a"),
        ("http://a_b.example.com/", "http://a_b.example.com/"),
        ("http://example.com\\@evil.test/", "http://example.com/@evil.test/"),
        ("http:\\\\example.com\\a", "http://example.com/a"),
        ('http://example.com/<a>"{b}|^`', "http://example.com/%3Ca%3E%22%7Bb%7D%7C%5E%60"),
        ("http://[2606:4700::0001]:81/a", "http://[2606:4700::1]:81/a"),
    ],
)
def test_an_address_becomes_what_a_browser_would_ask_for(text: str, url: str) -> None:
    assert parse(text).url == url
    assert parse(url).url == url


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "example.com/a.jpg",
        "//example.com/a.jpg",
        "/a.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AA==",
        "ftp://example.com/",
        "gopher://example.com/",
        "javascript:alert(1)",
        "http:example.com",
        "http:/example.com",
        "http://",
        "http:///a",
        "http://user@example.com/",
        "http://example.com@127.0.0.1/",
        "http://user:secret@example.com/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:80x/",
        "http://example.com:٨٠/",
        "http://exa mple.com/",
        "http://.example.com/",
        "http://a..b/",
        "http://-a.com/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 130 + "com/",
        "http://256.1.1.1/",
        "http://1.2.3.4.5/",
        "http://1.2.3.08/",
        "http://foo.0x1g.1/x",
        "http://4294967296/",
        "http://[::1",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[1.2.3.4]/",
        "http://[::1]x/",
        "http://a%00b.com/",
        "http://%e4.com/",
        "http://example.com/" + "a" * 9000,
    ],
)
def test_what_is_no_address_of_the_web_is_told_so(text: str | None) -> None:
    with pytest.raises(BadAddress):
        parse(text)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "１２７.０.０.１",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "%31%32%37.0.0.1",
        "0.0.0.0",
        "0",
        "10.1.2.3",
        "172.31.255.255",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:8.8.8.8]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[ff02::1]",
    ],
)
def test_no_spelling_of_an_address_that_is_not_public_passes(host: str) -> None:
    target = parse(f"http://{host}/a.jpg")
    with pytest.raises(RefusedAddress):
        check_literal(target, ())


def test_public_addresses_pass_and_allowed_ones_too() -> None:
    for host in ("8.8.8.8", "0x08080808", "[2606:4700:4700::1111]", "[64:ff9b::8.8.8.8]", "example.com"):
        check_literal(parse(f"http://{host}/"), ())
    check_literal(parse("http://127.0.0.1:81/"), ("127.0.0.1",))
    check_literal(parse("http://0x7f000001:81/"), ("127.0.0.1:81",))
    check_literal(parse("http://[::1]:81/"), ("[::1]:81",))
    check_literal(parse("http://[::1]:81/"), ("::1",))
    with pytest.raises(RefusedAddress):
        check_literal(parse("http://127.0.0.1:82/"), ("127.0.0.1:81",))


@given(st.ip_addresses(v=4))
@example(ipaddress.IPv4Address("192.88.99.1"))
def test_an_ipv4_address_that_passes_is_global_by_the_standard_library(ip: ipaddress.IPv4Address) -> None:
    if kind_of(ip) is None:
        assert ip.is_global
        assert not ip.is_multicast
        assert not ip.is_reserved
    elif ip.is_global:
        # Stricter than the library in these alone.
        assert any(
            ip in ipaddress.IPv4Network(net) for net in ("224.0.0.0/4", "192.88.99.0/24", "192.0.0.0/24")
        )


@given(st.ip_addresses(v=6))
@example(ipaddress.IPv6Address("2606:4700::1111"))
@example(ipaddress.IPv6Address("64:ff9b::a00:1"))
@example(ipaddress.IPv6Address("64:ff9b::808:808"))
def test_an_ipv6_address_that_passes_is_global_and_hides_no_private_one(ip: ipaddress.IPv6Address) -> None:
    if kind_of(ip) is not None:
        return
    assert not any((ip.is_private, ip.is_multicast, ip.is_link_local, ip.is_loopback))
    assert ip.ipv4_mapped is None
    assert ip.sixtofour is None
    assert ip.teredo is None
    if ip in ipaddress.IPv6Network("64:ff9b::/96"):
        assert ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF).is_global


_LAST = {1: 32, 2: 24, 3: 16, 4: 8}  # bits of the last part


@given(
    st.ip_addresses(v=4), st.integers(1, 4), st.lists(st.sampled_from(["{}", "0x{:x}", "0{:o}"]), min_size=4)
)
def test_every_way_to_write_an_ipv4_address_is_read_as_that_address(
    ip: ipaddress.IPv4Address, parts: int, forms: list[str]
) -> None:
    last = _LAST[parts]
    values = [int(ip) >> (24 - 8 * at) & 255 for at in range(parts - 1)] + [int(ip) & (1 << last) - 1]
    host = ".".join(form.format(value) for form, value in zip(forms, values, strict=False))
    assert parse(f"http://{host}/").ip == ip
    assert parse(f"http://{host}/").host == str(ip)


@given(st.text(max_size=40), st.text(max_size=40))
@example("example.com\\", "@evil")
@example("a", "/[x")
def test_what_is_parsed_is_plain_and_parses_to_itself(host: str, rest: str) -> None:
    try:
        target = parse(f"http://{host}/{rest}")
    except BadAddress:
        return
    assert target.url.isascii()
    assert not set(target.url) & set(' "<>\\^`{|}#\t\r\n')
    assert parse(target.url) == target


@given(st.text(max_size=60))
@example("http://[::1")
@example("//[")
@example("\udce4.jpg")
def test_a_redirect_leads_to_an_address_or_is_refused(location: str) -> None:
    try:
        target = follow(parse("https://example.com/a/b?c"), location)
    except BadAddress:
        return
    assert target.scheme in ("http", "https")
    assert target.url.isascii()


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("c.jpg", "https://example.com/a/c.jpg"),
        ("../c d.jpg", "https://example.com/c%20d.jpg"),
        ("/c", "https://example.com/c"),
        ("//other.test/c", "https://other.test/c"),
        ("?d", "https://example.com/a/b?d"),
        ("http://127.0.0.1/c#d", "http://127.0.0.1/c"),
        ("/k\udce4se", "https://example.com/k%E4se"),
    ],
)
def test_a_redirect_is_read_relative_to_where_it_stands(location: str, url: str) -> None:
    assert follow(parse("https://example.com/a/b?c"), location).url == url


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "data:image/png,", "http://a@b/", "ftp://example.com/"]
)
def test_a_redirect_away_from_the_web_is_refused(location: str) -> None:
    with pytest.raises(BadAddress):
        follow(parse("https://example.com/"), location)
