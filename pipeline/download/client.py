"""Requests for images: each to an address that was looked at, each answer held to its limits."""

from __future__ import annotations

import errno
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Any, Final, NamedTuple, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ...filters.image.header import sniff
from ...schemas.images import Download
from ..sources.http_body import BodyError, decode_body
from ..sources.limits import ReadLimits
from ..sources.patience import retry_after
from .address import BadAddress, RefusedAddress, Target, check_literal, follow
from .bodies import Bodies, Body
from .names import Lookup, NameFailure, Names, system_lookup
from .opt_out import opted_out
from .outcome import OPTED_OUT, Failed

AGENT: Final = "thresher"  # the product token that opt-outs may name

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)
_IMAGES: Final = (200, 203)
_BUFFER: Final = 128 << 10  # bytes; aiohttp stops reading a connection at twice that
_HEADER_BYTES: Final = 8190  # of one line; aiohttp's own defaults, which are said here to hold
_HEADERS: Final = 128
_KEEPALIVE: Final = 5.0  # seconds
# No fault of the server's: this machine has no more files, ports or memory.
_OURS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SHOWN: Final = 200  # characters of what a server says, in ledgers


class OutOfResources(Exception):
    """This machine cannot open a connection; the message says what is used up."""


class Image(NamedTuple):
    """The answer that was hoped for."""

    body: Body
    status: int
    content_type: str | None


class Redirect(NamedTuple):
    """Where it leads; the address has not been checked for where it is in the network."""

    target: Target
    status: int


def user_agent(options: Download) -> str:
    """Who asks, for whom, and how to be left out."""
    ways = ["X-Robots-Tag: noai"] if "noai" in options.opt_out else []
    ways += ["TDM-Reservation: 1"] if options.tdm else []
    ways += [f"robots.txt for {AGENT}"] if options.robots else []
    said = ["collects images with their captions"]
    said += [f"contact {options.contact}"] if options.contact else []
    said += [f"to opt out: {' or '.join(ways)}"] if ways else []
    return f"{AGENT}/{metadata.version('thresher')} ({'; '.join(said)})"


class _Resolver(AbstractResolver):
    """Gives aiohttp nothing but addresses that were checked: it connects to one of them and asks nobody."""

    def __init__(self, names: Names) -> None:
        self._names = names

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        import socket

        return [
            ResolveResult(
                hostname=host,
                host=str(ip),
                port=port,
                family=socket.AF_INET if ip.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for ip in await self._names.addresses(host.removesuffix("."), port)
        ]

    async def close(self) -> None:
        """Nothing to close."""


class Client:
    """A session with its connections; to be used in the loop that it is opened in."""

    def __init__(self, options: Download, bodies: Bodies, lookup: Lookup = system_lookup) -> None:
        self._options, self._bodies = options, bodies
        self._names = Names(options.allow, lookup, options.timeout)
        self._limits = ReadLimits(
            max_payload_bytes=options.max_bytes, ratio_free_bytes=max(1, min(options.max_bytes, 1 << 20))
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_Resolver(self._names),
                use_dns_cache=False,
                limit=options.concurrency,
                keepalive_timeout=_KEEPALIVE,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=options.timeout, sock_read=options.timeout
            ),
            headers={
                "User-Agent": user_agent(options),
                "Accept": "image/*,*/*;q=0.5",
                "Accept-Encoding": "identity",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_BUFFER,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            max_headers=_HEADERS,
        )

    async def close(self) -> None:
        """Ends all connections."""
        await self._session.close()

    async def image(self, target: Target, keep_alive: bool) -> Image | Redirect:
        """Asks for an image. Raises Failed."""
        async with self._answer(target, keep_alive) as answer:
            options = self._options
            if answer.status in _IMAGES or answer.status in _REDIRECTS:
                said = opted_out(
                    answer.headers.getall("X-Robots-Tag", []),
                    answer.headers.getall("TDM-Reservation", []),
                    options.opt_out,
                    options.tdm,
                    AGENT,
                )
                if said is not None:
                    raise _failed(answer, OPTED_OUT, said)
            if answer.status in _REDIRECTS and "Location" in answer.headers:
                return Redirect(_location(answer, target), answer.status)
            if answer.status not in _IMAGES:
                raise _status(answer)
            body = await self._read(answer, options.max_bytes)
            try:
                body = self._decoded(answer, body)
                _check(answer, body)
            except BaseException:
                body.drop()
                raise
            return Image(body, answer.status, _content_type(answer))

    async def text(self, target: Target, most: int) -> bytes | Redirect:
        """Asks for a short file, of which what is beyond `most` bytes is not read. Raises Failed."""
        async with self._answer(target, keep_alive=True) as answer:
            if answer.status in _REDIRECTS and "Location" in answer.headers:
                return Redirect(_location(answer, target), answer.status)
            if answer.status not in _IMAGES:
                raise _status(answer)
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) >= most:
                    break
            coding = answer.headers.get("Content-Encoding")
            try:
                return decode_body(bytes(body[:most]), None, coding, ReadLimits(max_payload_bytes=most), True)
            except BodyError as error:
                raise _failed(answer, "bad_encoding", str(error)) from error

    @asynccontextmanager
    async def _answer(self, target: Target, keep_alive: bool) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer once its headers are there. Whatever goes wrong, also while it is used, is Failed."""
        try:
            check_literal(target, self._options.allow)
            async with self._session.get(
                URL(target.url, encoded=True),
                allow_redirects=False,
                headers=None if keep_alive else {"Connection": "close"},
            ) as answer:
                yield answer
        except RefusedAddress as error:
            raise Failed("refused_address", str(error)) from error
        except NameFailure as error:
            raise Failed("dns_failure", str(error), again=error.again) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _connection(error, target, self._options.timeout) from error

    async def _read(self, answer: aiohttp.ClientResponse, most: int) -> Body:
        told = answer.content_length
        if told is not None and told > most:
            raise _failed(answer, "too_large", f"{told} bytes by Content-Length, at most {most}")
        body = Body(self._bodies)
        try:
            async for piece in answer.content.iter_any():
                if body.size + len(piece) > most:
                    raise _failed(answer, "too_large", f"more than {most} bytes")
                body.add(piece)
            body.end()
        except BaseException:
            body.drop()
            raise
        return body

    def _decoded(self, answer: aiohttp.ClientResponse, body: Body) -> Body:
        """Some servers code a body though identity was asked for."""
        coding = answer.headers.get("Content-Encoding", "")
        if not coding or coding.strip().lower() == "identity":
            return body
        try:
            data = decode_body(body.take(), None, coding, self._limits)
        except BodyError as error:
            reason = "too_large" if error.reason == "decompression_bomb" else "bad_encoding"
            raise _failed(answer, reason, f"Content-Encoding {coding[:40]}: {error}") from error
        decoded = Body(self._bodies)
        decoded.add(data)
        decoded.end()
        return decoded


def _check(answer: aiohttp.ClientResponse, body: Body) -> None:
    if not body.size:
        raise _failed(answer, "empty_body", _content_type(answer))
    match sniff(body.head):
        case None:
            said = _content_type(answer) or "no type"
            raise _failed(answer, "not_an_image", f"{said}, begins with {body.head[:24]!r}")
        case "svg" | "html" as kind:
            raise _failed(answer, kind, _content_type(answer))


def _failed(answer: aiohttp.ClientResponse, reason: str, value: str | None, **more: Any) -> Failed:
    return Failed(reason, value, status=answer.status, content_type=_content_type(answer), **more)


def _status(answer: aiohttp.ClientResponse) -> Failed:
    try:
        wait = retry_after(answer.headers.get("Retry-After"))
    except (ValueError, OverflowError):  # a number or a date that no calendar has
        wait = None
    value = (answer.reason or "")[:_SHOWN]
    if wait is not None:
        value = f"{value}, Retry-After: {answer.headers['Retry-After'][:_SHOWN]}".removeprefix(", ")
    again = answer.status in _PASSING
    return _failed(answer, f"http_{answer.status}", value or None, again=again, wait=wait if again else None)


def _location(answer: aiohttp.ClientResponse, target: Target) -> Target:
    location = answer.headers["Location"]
    try:
        return follow(target, location)
    except BadAddress as error:
        raise _failed(answer, "bad_url", f"redirect to {_shown(location)}: {error}") from error


def _content_type(answer: aiohttp.ClientResponse) -> str | None:
    value = answer.headers.get("Content-Type")
    return None if value is None else _shown(value)


def _shown(text: str) -> str:
    """What a server says, as Arrow can take it."""
    return text[:_SHOWN].encode("utf-8", "replace").decode()


def _connection(error: BaseException, target: Target, seconds: float) -> Failed:
    cause = cast("OSError | None", getattr(error, "os_error", None)) or error
    if isinstance(cause, OSError) and cause.errno in _OURS:
        raise OutOfResources(f"connecting to {target.origin}: {cause.strerror or cause}") from error
    said = _shown(str(error) or type(error).__name__)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | ssl.CertificateError):
        return Failed("tls_failure", said)
    if isinstance(error, TimeoutError):
        return Failed("timeout", f"silent for {seconds:g} s", again=True)
    if isinstance(error, aiohttp.ClientPayloadError):
        return Failed("connection_failed", f"broke off: {said}", again=True)
    if isinstance(error, aiohttp.InvalidURL):
        return Failed("bad_url", said)
    if isinstance(error, aiohttp.ClientResponseError | ValueError):
        return Failed("bad_response", said)
    return Failed("connection_failed", said, again=True)
