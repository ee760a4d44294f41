"""Files behind http(s) and hf URLs: ranges of them, over fsspec's sessions.

fsspec's own file neither tries again nor notices that a server ignores ranges or that the file became another
one in between; here every answer is held against what was asked.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from .patience import Patience, ReadError, Refused, given_up, may_pass, persist, retry_after

PROTOCOLS: Final = ("http", "https", "hf")

_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")
_SLOWEST: Final = 16 << 10  # bytes per second; slower counts as dead
_PROGRESS: Final = 64 << 10  # bytes after which failures are counted anew


class WebFile:
    """One file on a web server. `size` and `etag` are asked for at the first use and hold from then on."""

    def __init__(self, path: str, patience: Patience) -> None:
        import fsspec

        self.path = path
        self.ranged = True  # until an answer shows that the server ignores ranges
        self._patience = patience
        self._url, self._headers = address(path)
        self._store: Any = fsspec.filesystem(self._url.partition(":")[0])
        self._size: int | None = None
        self._etag: str | None = None
        self._answer: Any = None  # the open answer of a server without ranges, and where it stands
        self._at = 0

    @property
    def size(self) -> int:
        """Bytes. Raises FileNotFoundError, PermissionError or ReadError."""
        if self._size is None:
            persist(self.path, self._patience, lambda: self._sync(self._probe))
        assert self._size is not None
        return self._size

    @property
    def etag(self) -> str:
        """Entity tag, else the date of the last change; empty where the server gives neither."""
        _ = self.size
        return self._etag or ""

    def fetch(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop), which lie within the file, resumed where a connection breaks.

        Raises FileNotFoundError, PermissionError or ReadError (also where the file is no longer the same).
        """
        got = bytearray()
        failures = 0
        while len(got) < stop - start:
            before = len(got)
            try:
                self._sync(self._more, got, start, stop)
                if len(got) == before:
                    raise ConnectionError("the answer is empty")
            except Exception as error:
                if not may_pass(error):
                    raise
                failures = 1 if self.ranged and len(got) - before >= _PROGRESS else failures + 1
                if failures >= self._patience.attempts:
                    where = f"{self.path}: byte {start + len(got)}"
                    raise given_up(where, failures, error) from error
                self._patience.wait(failures, error)
        return bytes(got)

    def close(self) -> None:
        """Ends the connection that a server without ranges keeps open."""
        if self._answer is not None:
            self._sync(self._drop)

    def _sync(self, action: Any, *arguments: Any) -> Any:
        from fsspec.asyn import sync

        return sync(self._store.loop, action, *arguments)

    async def _get(self, range_: str | None) -> Any:
        import aiohttp

        session = await self._store.set_session()
        # A stored .gz is wanted as it is stored, and lengths count stored bytes.
        headers = {"Accept-Encoding": "identity", **self._headers}
        if range_ is not None:
            headers["Range"] = range_
        seconds = self._patience.timeout
        answer = await session.get(
            self._store.encode_url(self._url),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds),
            auto_decompress=False,
        )
        if answer.status not in (200, 206, 416):
            answer.close()
            raise _refusal(self.path, answer)
        return answer

    async def _probe(self) -> None:
        answer = await self._get("bytes=0-0")
        answer.close()
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        length = answer.headers.get("Content-Length", "")
        if answer.status == 200:
            if not length.isdigit():
                raise ReadError(
                    f"{self.path}: the server does not say how long the file is, so that a cut could not be "
                    "noticed; download it first"
                )
            self.ranged, self._size = False, int(length)
        elif found is None:
            raise ReadError(f"{self.path}: a partial answer without a Content-Range")
        else:
            self._size = int(found[3])
        self._etag = _tag(answer)

    async def _more(self, got: bytearray, start: int, stop: int) -> None:
        """Adds to `got` what comes of [start, stop), and keeps what came where the answer breaks off."""
        if self._size is None:
            await self._probe()
        seconds = self._patience.timeout + (stop - start) / _SLOWEST
        if self.ranged:
            await asyncio.wait_for(self._range(got, start, stop), seconds)
        if not self.ranged:
            # The deadline of a skip grows with what is skipped.
            await asyncio.wait_for(self._forward(got, start, stop), seconds + start / _SLOWEST)

    async def _range(self, got: bytearray, start: int, stop: int) -> None:
        begin = start + len(got)
        answer = await self._get(f"bytes={begin}-{stop - 1}")
        try:
            self._compare(answer)
            if answer.status == 200:
                self.ranged = False
                return
            found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
            if answer.status == 416 or found is None or int(found[3]) != self._size:
                raise self._changed()
            if found[1] is None or int(found[1]) != begin:
                raise ReadError(f"{self.path}: asked for byte {begin}, got {found[0]}")
            async for piece in answer.content.iter_any():
                got += piece[: stop - start - len(got)]
            if len(got) < stop - start:
                raise ConnectionError(f"the answer ends at byte {start + len(got)}")
        finally:
            answer.close()

    async def _forward(self, got: bytearray, start: int, stop: int) -> None:
        """The same from an answer that always begins at byte 0 and is kept open between calls."""
        begin = start + len(got)
        if self._answer is None or self._at > begin:
            await self._drop()
            self._answer, self._at = await self._get(None), 0
            self._compare(self._answer)
            if self._answer.headers.get("Content-Length", "") != str(self._size):
                raise self._changed()
        try:
            while self._at < stop:
                piece = await self._answer.content.read(
                    min(1 << 20, max(begin, self._at + 1, stop) - self._at)
                )
                if not piece:
                    raise ConnectionError(f"the answer ends at byte {self._at} of {self._size}")
                got += piece[max(0, begin - self._at) :]
                self._at += len(piece)
        except BaseException:
            await self._drop()
            raise

    async def _drop(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _compare(self, answer: Any) -> None:
        if _tag(answer) != self._etag:
            answer.close()
            raise self._changed()

    def _changed(self) -> ReadError:
        return ReadError(f"{self.path}: has changed while it was read")


def address(path: str) -> tuple[str, dict[str, str]]:
    """The http(s) URL behind a path, and the headers that it needs.

    `hf://datasets/ORG/NAME[@REVISION]/FILE` is looked up by huggingface_hub, at HF_ENDPOINT and with HF_TOKEN
    where these are set; names and passwords in ~/.netrc are fsspec's business.
    """
    if not path.startswith("hf://"):
        return path, {}
    import fsspec
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    store = fsspec.filesystem("hf")
    found = store.resolve_path(path)
    headers = {name.title(): value for name, value in build_hf_headers().items()}
    if not hasattr(found, "repo_id"):  # a bucket
        return store.url(path), headers
    return (
        hf_hub_url(
            found.repo_id,
            found.path_in_repo,
            repo_type=found.repo_type,
            revision=found.revision,
            endpoint=store.endpoint,
        ),
        headers,
    )


def _tag(answer: Any) -> str:
    return str(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")


def _refusal(path: str, answer: Any) -> Exception:
    told = f"{path}: {answer.status} {answer.reason}"
    if answer.status in (404, 410):
        return FileNotFoundError(told)
    if answer.status in (401, 403, 407):
        return PermissionError(told)
    if answer.status in _PASSING:
        return Refused(f"{answer.status} {answer.reason}", retry_after(answer.headers.get("Retry-After")))
    return ReadError(told)
