"""Servers that lead elsewhere, never end, or send something else: each has its reason, none holds us up."""

from __future__ import annotations

import asyncio
import gzip
import time
import zlib

import pytest

pytest.importorskip("aiohttp", reason="needs thresher[images]")

from download.loopback import HERE, JPEG, Answer, Asked, Site, answer, fetch, options, redirect

BOMB = zlib.compressobj(9, wbits=31)
BOMB_BODY = BOMB.compress(bytes(30_000_000)) + BOMB.flush()


async def never(writer: asyncio.StreamWriter, asked: Asked) -> None:
    await asyncio.sleep(60)


async def drip(writer: asyncio.StreamWriter, asked: Asked) -> None:
    """A byte now and then: never silent for long, and never done."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + JPEG)
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip_headers(writer: asyncio.StreamWriter, asked: Asked) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def reset(writer: asyncio.StreamWriter, asked: Asked) -> None:
    writer.transport.abort()


async def breaks_off(writer: asyncio.StreamWriter, asked: Asked) -> None:
    writer.write(answer()[:-5])
    await writer.drain()
    writer.close()


async def chunks_break_off(writer: asyncio.StreamWriter, asked: Asked) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n114\r\n" + JPEG + b"\r\n")
    await writer.drain()
    writer.close()


async def endless(writer: asyncio.StreamWriter, asked: Asked) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + JPEG)
    while not writer.is_closing():
        writer.write(bytes(65536))
        await writer.drain()


CASES: dict[str, tuple[Answer, str]] = {
    "never answers": (never, "timeout"),
    "a byte now and then": (drip, "deadline"),
    "a header now and then": (drip_headers, "deadline"),
    "reset": (reset, "connection_failed"),
    "breaks off": (breaks_off, "connection_failed"),
    "chunks break off": (chunks_break_off, "connection_failed"),
    "endless": (endless, "too_large"),
    "large, and says so": (answer(bytes(300_000)), "too_large"),
    "large, and says otherwise": (answer(bytes(300_000)).replace(b"300000", b"900000000"), "too_large"),
    "no length but a word": (answer().replace(b"Length: 276", b"Length: many"), "bad_response"),
    "negative length": (answer().replace(b"Length: 276", b"Length: -1"), "bad_response"),
    "two lengths": (answer(headers={"content-length": "7"}), "bad_response"),
    "a huge header": (answer(headers={"X": "y" * 100_000}), "bad_response"),
    "many headers": (answer(headers=[(f"X-{n}", "y") for n in range(5000)]), "bad_response"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "bad_response"),
    "gzip bomb": (answer(BOMB_BODY, headers={"Content-Encoding": "gzip"}), "too_large"),
    "gzip in gzip": (
        answer(gzip.compress(BOMB_BODY), headers={"Content-Encoding": "gzip, gzip"}),
        "too_large",
    ),
    "broken gzip": (answer(gzip.compress(JPEG)[:-9], headers={"Content-Encoding": "gzip"}), "bad_encoding"),
    "unknown coding": (answer(headers={"Content-Encoding": "rot13"}), "bad_encoding"),
    "nothing": (answer(b""), "empty_body"),
    "no content": (answer(b"", 204), "http_204"),
    "a part": (answer(JPEG, 206), "http_206"),
    "a page": (answer(b"<!DOCTYPE html><html><body>gone", content_type="image/jpeg"), "html"),
    "a page behind a comment": (answer(b"\xef\xbb\xbf \n<!-- x --><HTML>", content_type="image/png"), "html"),
    "a drawing": (answer(b'<?xml version="1.0"?><svg onload="x()">', content_type="image/png"), "svg"),
    "JSON": (answer(b'{"error": "gone"}', content_type="image/jpeg"), "not_an_image"),
    "zeros": (answer(bytes(500)), "not_an_image"),
    "a redirect to nowhere": (answer(b"", 302), "http_302"),
    "a redirect to a file": (redirect("file:///etc/passwd"), "bad_url"),
    "a redirect to data": (redirect("data:image/png;base64,AAAA"), "bad_url"),
    "a redirect with a password": (redirect("http://u:p@example.com/"), "bad_url"),
    "a redirect to loopback": (redirect("http://127.0.0.2/"), "refused_address"),
    "a redirect to a number": (redirect("http://0x7f000002/"), "refused_address"),
    "a redirect to metadata": (redirect("http://169.254.169.254/latest/meta-data/"), "refused_address"),
    "a redirect to IPv6 loopback": (redirect("http://[::1]/"), "refused_address"),
    "a redirect to mapped loopback": (redirect("http://[::ffff:127.0.0.1]/"), "refused_address"),
    "a redirect to a private name": (redirect("http://intra.test/"), "refused_address"),
    "a redirect to localhost": (redirect("http://localhost/"), "refused_address"),
    "a redirect in odd letters": (redirect("http://１２７.０.０.２/"), "refused_address"),
}


def lookup(name: str) -> list[str]:
    return {"intra.test": ["10.0.0.1", "fd00::1"], "localhost": [HERE, "::1"]}[name]


def test_every_bad_answer_has_its_reason_and_all_of_them_together_take_one_deadline() -> None:
    routes = {f"/{number}": case for number, (case, _) in enumerate(CASES.values())}
    began = time.monotonic()
    with Site(routes | {"/good": answer()}) as site:
        urls = [site.url(f"/{number}") for number in range(len(CASES))]
        settings = options(timeout=0.5, deadline=1.5, max_bytes=200_000, per_host=64)
        *found, good = fetch([*urls, site.url("/good")], settings, lookup)
    assert time.monotonic() - began < 10
    got = {name: one.reason for name, one in zip(CASES, found, strict=True)}
    assert got == {name: reason for name, (_, reason) in CASES.items()}
    assert all(one.body is None for one in found)
    assert good.reason is None
    for one in found:
        (one.value or "").encode()
        assert len(one.value or "") < 1000


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0",
        "[::1]",
        "[::ffff:7f00:1]",
        "intra.test",
        "me.test",
    ],
)
def test_nothing_is_asked_of_an_address_that_is_not_public(host: str) -> None:
    def names(name: str) -> list[str]:
        return {"me.test": [HERE]}.get(name) or lookup(name)

    with Site({"/a": answer()}) as site:
        (found,) = fetch([site.url("/a", host)], options(allow=[]), names)
        assert site.connections == 0
    assert found.reason == "refused_address"
    assert found.verdict == "error"


def test_what_is_allowed_is_allowed_by_name_and_not_for_others_at_the_same_place() -> None:
    with Site({"/a": answer(), "/r": redirect("http://other.test/a")}) as site:
        settings = options(allow=["me.test", f"port.test:{site.port}"])
        urls = [site.url("/a", host) for host in ("me.test", "port.test", "other.test", HERE)]
        found = fetch([*urls, site.url("/r", "me.test")], settings, lambda name: [HERE])
    reasons = [one.reason for one in found]
    assert reasons == [None, None, "refused_address", "refused_address", "refused_address"]


def test_a_name_that_changes_its_mind_is_not_asked_again() -> None:
    asked: list[str] = []

    def rebinding(name: str) -> list[str]:
        asked.append(name)
        return ["8.8.8.8"] if len(asked) == 1 else [HERE]

    with Site({"/a": answer()}) as site:
        settings = options(allow=[], timeout=0.3, deadline=2.0, retries=1)
        (found,) = fetch([site.url("/a", "rebind.test")], settings, rebinding)
        assert site.connections == 0
    assert asked == ["rebind.test"]
    assert found.reason in ("timeout", "connection_failed")


def test_retry_after_of_a_year_and_of_no_number_hold_nobody_up() -> None:
    values = [
        "31536000",
        "9" * 400,
        "²",
        "-5",
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ]
    with Site({f"/{n}": answer(b"", 503, {"Retry-After": v}) for n, v in enumerate(values)}) as site:
        began = time.monotonic()
        found = [fetch([site.url(f"/{n}")], options(deadline=2.0))[0] for n in range(len(values))]
        assert time.monotonic() - began < 5
    assert [one.reason for one in found] == ["http_503"] * len(values)


def test_a_server_that_sends_cookies_and_odd_headers_changes_nothing() -> None:
    headers = {"Set-Cookie": "a=b; Domain=.test", "X-Latin": "käse", "Refresh": "0; url=http://127.0.0.2/"}
    odd = answer(headers=headers).replace(b"image/jpeg", b"image/jpeg; \xff")
    with Site({"/a": odd}) as site:
        (found,) = fetch([site.url("/a")])
    assert found.reason is None
    (found.content_type or "").encode()
