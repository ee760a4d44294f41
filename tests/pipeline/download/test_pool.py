"""Downloads from a real server: what is asked, how politely, and in which order it comes back."""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import shutil
import ssl
import subprocess
import threading
import time
import zlib
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="needs thresher[images]")

from download.loopback import HERE, JPEG, Asked, Site, answer, fetch, options, redirect
from thresher.pipeline.download import scheduler as scheduling
from thresher.pipeline.download.bodies import Bodies
from thresher.pipeline.download.pool import Pool


def test_an_image_comes_as_it_is_with_what_was_learnt_of_it() -> None:
    with Site({"/a.jpg": answer()}) as site:
        (found,) = fetch([site.url("/a.jpg#top")])
    assert found.reason is None
    assert found.body is not None
    assert found.body.take() == JPEG
    assert (found.size, found.status, found.content_type, found.attempts) == (
        len(JPEG),
        200,
        "image/jpeg",
        1,
    )
    assert found.final_url == site.url("/a.jpg")
    assert found.seconds is not None
    assert 0 < found.seconds < 5
    assert found.time.endswith("Z")


def test_the_request_says_who_we_are_and_how_to_opt_out_and_keeps_no_cookies() -> None:
    cookie = answer(headers={"Set-Cookie": "session=1"})
    with Site({"/a": cookie, "/b": answer(), "/robots.txt": answer(b"")}) as site:
        fetch([site.url("/a")], options(contact="images@example.com", robots=True))
        fetch([site.url("/a"), site.url("/b")], options(per_host=1, tdm=False, opt_out=[]))
    first, last = site.asked[1].headers, site.asked[-1].headers
    agent = first["user-agent"]
    assert agent.startswith("thresher/")
    for word in ("images@example.com", "X-Robots-Tag: noai", "TDM-Reservation: 1", "robots.txt"):
        assert word in agent
    assert "opt out" not in last["user-agent"]
    assert first["accept-encoding"] == "identity"
    assert "cookie" not in last
    assert "referer" not in last


def test_spaces_and_letters_of_other_alphabets_are_asked_for_as_a_browser_would() -> None:
    with Site({"/a%20b/k%C3%A4se.jpg?x=%20y": answer()}) as site:
        (found,) = fetch([site.url("/a b/käse.jpg?x= y ")])
    assert found.reason is None


def test_outcomes_are_given_by_row_however_they_end() -> None:
    async def late(writer: asyncio.StreamWriter, asked: Asked) -> None:
        await asyncio.sleep(0.3)
        writer.write(answer(JPEG + b"late"))

    routes = {f"/{n}": answer(JPEG + b"%d" % n) for n in range(1, 40)}
    with Site({"/0": late, **routes}) as site:
        found = fetch([site.url(f"/{n}") for n in range(41)], options(per_host=4))
    bodies = [one.body.take() if one.body else None for one in found]
    assert bodies == [JPEG + b"late", *[JPEG + b"%d" % n for n in range(1, 40)], None]
    assert found[40].reason == "http_404"
    # The others did not wait for the slow one.
    assert max(one.time for one in found[1:]) < found[0].time


def test_redirects_are_followed_up_to_their_number_and_loops_are_told() -> None:
    routes = {f"/r{n}": redirect(f"r{n + 1}", status) for n, status in enumerate((301, 302, 303, 307, 308))}
    routes |= {"/r5": answer(), "/loop": redirect("/pool"), "/pool": redirect("/loop"), "/self": redirect("")}
    with Site(routes) as site:
        far, near, loop, self = fetch(
            [site.url(path) for path in ("/r0", "/r1", "/loop", "/self")], options(max_redirects=4)
        )
    assert (far.reason, far.value) == ("too_many_redirects", "more than 4")
    assert (near.reason, near.final_url, near.attempts) == (None, site.url("/r5"), 1)
    assert loop.reason == self.reason == "too_many_redirects"
    assert "loop" in (loop.value or "")


def test_the_places_of_a_host_are_never_more_than_its_number_and_connections_are_used_again() -> None:
    async def slow(writer: asyncio.StreamWriter, asked: Asked) -> None:
        await asyncio.sleep(0.02)
        writer.write(answer())

    with Site({"/a": slow}) as site:
        found = fetch([site.url("/a")] * 20, options(per_host=3, concurrency=16))
    assert [one.reason for one in found] == [None] * 20
    assert 1 < site.most_open <= 3
    assert site.connections <= 3


def test_a_host_is_asked_no_more_often_than_the_delay_says() -> None:
    with Site({"/a": answer()}) as site:
        fetch([site.url("/a")] * 4, options(delay=0.2))
    times = [asked.at for asked in site.asked]
    assert times[-1] - times[0] > 0.4


def test_a_host_that_is_slow_does_not_take_the_places_of_others() -> None:
    go_on = threading.Event()

    async def stuck(writer: asyncio.StreamWriter, asked: Asked) -> None:
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        writer.write(answer())

    with Site({"/stuck": stuck}) as slow, Site({"/a": answer()}) as fast:
        pool = Pool(
            options(concurrency=4, per_host=2, allow=["slow.test", "fast.test"]), lookup=lambda _: [HERE]
        )
        try:
            urls = [slow.url("/stuck", "slow.test")] * 10 + [fast.url("/a", "fast.test")] * 10
            pool.submit(list(enumerate(urls)))
            quick = [pool.outcome(row).reason for row in range(10, 20)]
            go_on.set()
            assert quick == [None] * 10
            assert [pool.outcome(row).reason for row in range(10)] == [None] * 10
        finally:
            go_on.set()
            pool.close()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_failure_that_may_pass_is_tried_again(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_BACKOFF", 0.02)
    with Site({"/a": [answer(b"", status), answer(b"", status), answer()]}) as site:
        again, never = fetch([site.url("/a")], options(retries=2)) + fetch(
            [site.url("/b")], options(retries=2)
        )
    assert (again.reason, again.attempts, again.status) == (None, 3, 200)
    assert (never.reason, never.attempts, never.status) == ("http_404", 1, 404)


def test_the_wait_grows_from_one_attempt_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_BACKOFF", 0.1)
    with Site({"/a": answer(b"", 503)}) as site:
        (found,) = fetch([site.url("/a")], options(retries=3))
    times = [asked.at for asked in site.asked]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert (found.reason, found.attempts) == ("http_503", 4)
    assert waits[0] >= 0.05
    assert waits[1] >= 0.1
    assert waits[2] >= 0.2


def test_retry_after_is_waited_for_by_all_who_want_something_of_the_host() -> None:
    busy = answer(b"", 429, {"Retry-After": "1"})
    with Site({"/a": [busy, answer()], "/b": answer()}) as site:
        first, second = fetch([site.url("/a"), site.url("/b")], options(retries=1, per_host=1))
    assert (first.reason, second.reason) == (None, None)
    assert site.asked[1].at - site.asked[0].at > 0.95


def test_retry_after_may_be_a_date_and_one_beyond_the_deadline_ends_it_at_once() -> None:
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    routes = {
        "/date": answer(b"", 503, {"Retry-After": date}),
        "/odd": answer(b"", 404, {"Retry-After": "soon"}),
    }
    began = time.monotonic()
    with Site(routes) as site:
        (date_,) = fetch([site.url("/date")], options(retries=5))
        (odd,) = fetch([site.url("/odd")], options(retries=5))
    assert time.monotonic() - began < 2
    assert (date_.reason, date_.attempts) == ("http_503", 1)
    assert date in (date_.value or "")
    assert odd.reason == "http_404"


def test_a_host_that_only_fails_is_given_up_before_each_address_takes_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduling, "_GONE", 3)
    with Site({"/gone": answer(b"", 503), "/a": answer()}) as site:
        found = fetch([site.url("/gone")] * 10, options(per_host=1))
        asked = len(site.asked)
        mixed = fetch([site.url(path) for path in ("/gone", "/gone", "/a") * 4], options(per_host=1))
    assert [one.reason for one in found] == ["http_503"] * 3 + ["host_unavailable"] * 7
    assert asked == 3
    assert [one.reason for one in mixed] == ["http_503", "http_503", None] * 4


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (
            [
                ("X-Robots-Tag", "all"),
                ("x-robots-tag", "otherbot: noindex, nofollow"),
                ("X-Robots-Tag", "NOAI"),
            ],
            "noai",
        ),
        ([("X-Robots-Tag", "thresher: noimageindex")], "noimageindex"),
        ([("tdm-reservation", "1")], "TDM-Reservation: 1"),
    ],
)
def test_an_image_whose_site_opts_out_is_left_out_unread(headers: list[tuple[str, str]], said: str) -> None:
    routes = {
        "/a": answer(headers=headers),
        "/r": answer(b"", 302, [("Location", "/ok"), *headers]),
        "/ok": answer(),
        "/404": answer(b"", 404, headers=headers),
    }
    with Site(routes) as site:
        found = fetch([site.url(path) for path in ("/a", "/r", "/404")])
        anyway = fetch([site.url("/a")], options(opt_out=[], tdm=False))
    assert [one.reason for one in found] == ["opted_out", "opted_out", "http_404"]
    assert [one.verdict for one in found] == ["dropped", "dropped", "error"]
    assert said in (found[0].value or "")
    assert anyway[0].reason is None


def test_robots_txt_is_asked_for_once_an_origin_and_obeyed_on_every_hop() -> None:
    rules = answer(b"User-agent: thresher\nDisallow: /private\n", content_type="text/plain")
    with Site({"/robots.txt": rules, "/a": answer(), "/r": redirect("/private/b")}) as site:
        urls = [site.url(path) for path in ("/a", "/private/a", "/r", "/a")]
        found = fetch(urls, options(robots=True))
        assert site.paths().count("/robots.txt") == 1
        assert not any(path.startswith("/private") for path in site.paths())
        careless = fetch(urls[:1], options())
        assert site.paths().count("/robots.txt") == 1
    assert [one.reason for one in found] == [None, "opted_out", "opted_out", None]
    assert "robots.txt" in (found[1].value or "")
    assert careless[0].reason is None


@pytest.mark.parametrize(
    ("robots", "reason"),
    [
        (answer(b"", 404), None),
        (answer(b"", 403), None),
        (answer(b"", 500), "opted_out"),
        (answer(b"", 429), "opted_out"),
        (b"garbage\r\n\r\n", "opted_out"),
        (redirect("/moved.txt"), "opted_out"),
        (redirect("/robots.txt"), None),
        (answer(b"User-agent: *\nDisallow: /\n" + b"#" * 2_000_000), "opted_out"),
        (answer(b"#" * 600_000 + b"\nUser-agent: *\nDisallow: /\n"), None),
        (
            answer(gzip.compress(b"User-agent: *\nDisallow: /"), 200, {"Content-Encoding": "gzip"}),
            "opted_out",
        ),
    ],
)
def test_what_a_robots_txt_that_is_not_there_means(robots: bytes, reason: str | None) -> None:
    moved = answer(b"User-agent: *\nDisallow: /a")
    with Site({"/robots.txt": robots, "/moved.txt": moved, "/a": answer()}) as site:
        (found,) = fetch([site.url("/a")], options(robots=True))
    assert found.reason == reason


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(JPEG)),
        ("deflate", zlib.compress(JPEG)),
        ("identity", JPEG),
        ("gzip", JPEG),
    ],
)
def test_a_body_that_is_coded_although_nobody_asked_is_decoded(coding: str, body: bytes) -> None:
    with Site({"/a": answer(body, headers={"Content-Encoding": coding})}) as site:
        (found,) = fetch([site.url("/a")])
    assert found.body is not None
    assert found.body.take() == JPEG


def test_names_are_looked_up_once_for_all_their_addresses_and_hops() -> None:
    asked: list[str] = []

    def lookup(name: str) -> list[str]:
        asked.append(name)
        # A second answer would be another place, where nobody answers.
        return [HERE] if len(asked) == 1 else ["127.255.255.254"]

    with Site({"/a": answer(), "/r": redirect("/a")}) as site:
        urls = [site.url(path, "images.test") for path in ("/a", "/r") * 5]
        found = fetch(urls, options(allow=["images.test"], per_host=2), lookup)
    assert [one.reason for one in found] == [None] * 10
    assert asked == ["images.test"]
    assert site.asked[0].headers["host"] == f"images.test:{site.port}"


def test_a_name_without_an_address_is_told_and_so_is_a_port_where_nobody_is() -> None:
    with Site({}) as site:
        closed = site.url("/a")
    missing, refused = fetch(["http://missing.invalid/a", closed])
    assert missing.reason == "dns_failure"
    assert "missing.invalid" in (missing.value or "")
    assert refused.reason == "connection_failed"


def test_a_certificate_that_nobody_vouches_for_is_told(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=a.test"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with Site({"/a": answer()}, context) as site:
        (found,) = fetch([site.url("/a").replace("http:", "https:")])
    assert found.reason == "tls_failure"
    assert "certificate" in (found.value or "").lower()
    assert site.asked == []


def test_what_is_no_address_needs_no_request() -> None:
    found = fetch([None, "", "data:image/png;base64,", "http://u:p@example.com/"])
    assert [(one.reason, one.attempts, one.final_url) for one in found] == [("bad_url", 0, None)] * 4


def test_a_pool_that_is_closed_leaves_no_thread_and_no_connection() -> None:
    async def never(writer: asyncio.StreamWriter, asked: Asked) -> None:
        await asyncio.sleep(30)

    with Site({"/a": never}) as site:
        pool = Pool(options(robots=False))
        pool.submit([(row, site.url("/a")) for row in range(20)])
        while len(site.asked) < 8:
            time.sleep(0.01)
        began = time.monotonic()
        pool.close()
        assert time.monotonic() - began < 2
        assert not any(thread.name == "thresher-download" for thread in threading.enumerate())


def test_what_breaks_in_the_thread_reaches_the_one_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with Site({"/a": answer()}) as site:
        pool = Pool(options(), Bodies(memory=1))
        try:
            monkeypatch.setattr("thresher.pipeline.download.bodies.scratch", full_disk)
            pool.submit([(0, site.url("/a"))])
            for _ in range(2):
                with pytest.raises(OSError, match="No space left"):
                    pool.outcome(0)
        finally:
            pool.close()


def full_disk() -> None:
    raise OSError(28, "No space left on device")
