"""E-mail addresses against a regular expression and by example; IP addresses against the module ipaddress."""

from __future__ import annotations

import gzip
import html
import ipaddress
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.text.pii.find import find_pii

# The usual simplification of RFC 5322: an atom with dots, at, a domain name that ends in letters.
EMAIL = re.compile(
    r"(?<![\w.%+'-])[A-Za-z0-9_][A-Za-z0-9_%+'-]*(?:\.[A-Za-z0-9_%+'-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}(?![A-Za-z0-9@])"
)


def found_in(text: str, kind: str, private_ips: bool = False) -> list[str]:
    data = text.encode()
    spans = find_pii(pa.array([text]), [kind], private_ips).to_pylist()
    return [data[span["start"] : span["stop"]].decode() for span in spans]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Write to Jane.Doe+news@Mail.Example.co.uk.", "Jane.Doe+news@Mail.Example.co.uk"),
        ("<mailto:jane@example.com>", "jane@example.com"),
        ("'jane@example.com'", "jane@example.com"),
        ("o'brien_99@example.museum!", "o'brien_99@example.museum"),
        ("?email=jane@example.com&x=1", "jane@example.com"),
        ("请联系jane@qq.com谢谢", "jane@qq.com"),
        ("이메일 jane@naver.com로", "jane@naver.com"),
        ("jürgen@müller.de", "jürgen@müller.de"),
        ("иван@почта.рф", "иван@почта.рф"),
        ("jane@xn--mller-kva.xn--p1ai", "jane@xn--mller-kva.xn--p1ai"),
        ("jane@example.com-based", "jane@example.com"),
        ("jane@example.com_", "jane@example.com"),
        ("x..jane@example.com", "jane@example.com"),
        ("...jane@example.com...", "jane@example.com"),
        ("jane-@example.com", "jane-@example.com"),
    ],
)
def test_an_address_is_found_without_what_surrounds_it(text: str, address: str) -> None:
    assert found_in(text, "email") == [address]


@pytest.mark.parametrize(
    "text",
    [
        "@jane",
        "jane@",
        "jane@localhost",
        "jane @ example.com",
        "jane.@example.com",
        "npm i left-pad@1.3.0",
        "icon@2x.png",
        "jane@example.c",
        "jane@-example.com",
        "jane@.com",
        "a" * 65 + "@example.com",
        "jane@" + "a" * 64 + ".com",
    ],
)
def test_what_is_no_address_is_left_alone(text: str) -> None:
    assert found_in(text, "email") == []


@given(
    st.from_regex(
        r"[a-z0-9_]([a-z0-9_+%-]|\.[a-z0-9]){0,20}", fullmatch=True, alphabet=st.characters(codec="ascii")
    ),
    st.from_regex(r"([a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\.){1,3}(com|org|de|museum)", fullmatch=True),
    st.sampled_from(["", " ", "(", "<", ", ", "mailto:", "“", "国"]),
    st.sampled_from(["", " ", ")", ">", ", ", ". ", "”", "国"]),
)
def test_every_ordinary_address_is_found_whole(local: str, domain: str, before: str, after: str) -> None:
    address = f"{local}@{domain}"
    assert found_in(before + address + after, "email") == [address]


def test_real_pages_have_the_addresses_that_a_regular_expression_finds(shared_data: Path) -> None:
    seen = 0
    for path in sorted((shared_data / "web" / "articles").glob("*.html.gz")):
        page = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        text = html.unescape(re.sub(r"(?s)<(script|style).*?</\1>|<[^>]+>", " ", page))
        pictures = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")
        expected = [m.group() for m in EMAIL.finditer(text) if not m.group().lower().endswith(pictures)]
        found = found_in(text, "email")
        assert [address for address in found if address.isascii()] == expected, path.name
        seen += len(expected)
    assert seen > 20


def counts_as_ip(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return not (address.is_multicast or address.is_reserved or site_local) and address.is_global


# Blocks in which the releases of Python 3.11 disagree with each other or with IANA's registry.
DISPUTED = [
    ipaddress.ip_network(name) for name in ("192.0.0.0/24", "2001::/23", "3fff::/20", "192.88.99.0/24")
]


def is_disputed(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address in network for network in DISPUTED)


# The first and last addresses of special blocks, and their neighbours.
EDGES = st.sampled_from(
    [
        *("0.255.255.255", "1.0.0.10", "9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.10"),
        *("100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0", "126.255.255.255", "127.0.0.10"),
        *("128.0.0.10", "169.253.255.255", "169.254.0.0", "169.255.0.0", "172.15.255.255", "172.16.0.0"),
        *("172.31.255.255", "172.32.0.0", "192.0.1.255", "192.0.2.0", "192.0.3.0", "192.167.255.255"),
        *("192.168.0.0", "192.169.0.0", "198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"),
        *("198.51.99.255", "198.51.100.0", "198.51.101.0", "203.0.112.255", "203.0.113.0", "203.0.114.0"),
        *("223.255.255.255", "224.0.0.10", "239.255.255.255", "240.0.0.0", "255.255.255.255"),
    ]
).map(ipaddress.IPv4Address)


@given(st.one_of(EDGES, st.ip_addresses(v=4)))
def test_public_ipv4_addresses_are_those_of_the_standard_library(address: ipaddress.IPv4Address) -> None:
    text = str(address)
    if is_disputed(address) or len(text) == 7:
        return
    assert found_in(f"from {text}, port 80", "ip") == [text] * counts_as_ip(address)
    assert found_in(f"http://{text}:8080/", "ip", private_ips=True) == [text]


@given(
    st.lists(
        st.one_of(st.integers(0, 300).map(str), st.sampled_from(["01", "007", ""])), min_size=4, max_size=4
    )
)
def test_four_numbers_are_an_ipv4_address_if_the_standard_library_reads_them(numbers: list[str]) -> None:
    text = ".".join(numbers)
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        expected = []
    else:
        expected = [text] if len(text) > 7 else []
    assert found_in(text, "ip", private_ips=True) == expected


IPV6 = st.one_of(
    st.ip_addresses(v=6),
    st.integers(0, 2**125 - 1).map(lambda n: ipaddress.IPv6Address(n | 1 << 125)),
    st.builds(
        lambda high, low: ipaddress.IPv6Address(high << 112 | low),
        st.sampled_from([0x2001, 0x2600, 0x2A00, 0x3FFE, 0xFE80, 0xFC00, 0xFDFF, 0xFF02, 0xFEC0, 0x4000]),
        st.integers(0, 2**20),
    ),
)


@given(IPV6, st.booleans())
def test_public_ipv6_addresses_are_those_of_the_standard_library(
    address: ipaddress.IPv6Address, exploded: bool
) -> None:
    text = address.exploded if exploded else str(address)
    if is_disputed(address) or text.startswith("::"):
        return
    assert found_in(f"from {text}, port 80", "ip") == [text] * counts_as_ip(address)
    assert found_in(f"[{text.upper()}]", "ip") == [text.upper()] * counts_as_ip(address)


@pytest.mark.parametrize("text", ["2001:db8::1", "2001:0:4136:e378::1", "3fff:fff:1::9"])
def test_documentation_and_protocol_blocks_are_not_public(text: str) -> None:
    assert found_in(text, "ip") == []
    assert found_in(text, "ip", private_ips=True) == [text]


@pytest.mark.parametrize("private_ips", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4",
        "v10.20.30.40",
        "10.20.30.40.50",
        "at 12:30:45",
        "00:1b:44:11:3a:b7",
        "x[::1] and std::vector and dead::beef",
        "2606:2800:220:1:248:1893:25c8",
        "2606:2800:220:1:248:1893:25c8:1946:1",
        "2606::2800::1",
        "2606:12345::1",
        "2606:::1",
    ],
)
def test_versions_times_and_code_are_no_ip_addresses(text: str, private_ips: bool) -> None:
    assert found_in(text, "ip", private_ips) == []


def test_the_ipv4_part_of_a_mapped_address_is_found() -> None:
    assert found_in("::ffff:93.184.216.34", "ip") == ["93.184.216.34"]
