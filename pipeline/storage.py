"""Where results lie: a folder of this machine, or one behind a URL, with what of a path reading needs."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from errno import EIO
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from .sources.files import is_remote, open_file
from .sources.patience import Patience, ReadError, persist

_READ_ONLY: Final = ("http", "https", "hf", "ftp", "data", "github")
_COLLAPSED: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?=[^/])")
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_MD5_OF_PARTS: Final = re.compile(r"[0-9a-f]{32}-([0-9]+)")
# Bytes of a part of a multipart upload, of which S3 takes 10,000.
_PART: Final = 64 << 20
_BLOCK: Final = 8 << 20

Found = TypeVar("Found")


class StorageError(OSError):
    """A store does not do what a run needs of it: `filename` is the URL, `strerror` says why."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(EIO, reason, url)


class RemotePath:
    """A file or a folder behind a URL, read like a `Path`.

    Nothing of it is cached, and no method asks for a listing but `names`. Methods raise StorageError where
    the store refuses or does not answer; failures that may pass are tried again, as `Patience` says.
    """

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        self.url = f"{scheme}://{rest.rstrip('/')}"

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemotePath({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.url.rpartition("/")[0])

    def is_file(self) -> bool:
        return self._info() is not None

    def size(self) -> int:
        """Bytes. Raises FileNotFoundError."""
        info = self._info()
        if info is None:
            raise FileNotFoundError(2, "no such file", self.url)
        return int(info["size"] or 0)

    def open(self, *, ahead: bool = True) -> BinaryIO:
        """The file for reading bytes; `ahead` where it is read from its beginning on."""
        return open_file(self.url, ahead=ahead)

    def read_bytes(self) -> bytes:
        """The whole file, which should be small. Raises FileNotFoundError."""
        store, name = self._store()

        def read() -> bytes | None:
            try:
                content: bytes = store.cat_file(name)
            except FileNotFoundError:
                return None
            return content

        found = self._asked(read)
        if found is None:
            raise FileNotFoundError(2, "no such file", self.url)
        return found

    def fetch(self, target: Path) -> None:
        """Writes the content to a local file. Raises FileNotFoundError."""
        with self.open() as source, target.open("wb") as file:
            while block := source.read(_BLOCK):
                file.write(block)

    def put(self, source: Path) -> None:
        """Writes the content of a local file, replacing what is there."""
        store, name = self._store()
        more = {"chunksize": _PART} if "s3" in store.protocol else {}
        self._asked(lambda: store.put_file(str(source), name, **more))

    def write_bytes(self, data: bytes) -> None:
        """Writes a small file, replacing what is there."""
        store, name = self._store()
        self._asked(lambda: store.pipe_file(name, data))

    def create(self, data: bytes, *, strict: bool = False) -> bool:
        """Writes a small file where there is none; False where there is one of other content.

        The store decides, where it can (S3's If-None-Match). Where it cannot, this looks and then writes;
        with `strict` it raises StorageError, as two writers could both believe that they were first.
        """
        store, name = self._store()

        def write() -> bool:
            try:
                store.pipe_file(name, data, mode="create")
            except FileExistsError:
                return False
            except (NotImplementedError, OSError) as error:
                if not isinstance(error, NotImplementedError) and "NotImplemented" not in str(error):
                    raise
                if strict:
                    told = "this store cannot refuse to replace a file, which run.work needs of it"
                    raise StorageError(self.url, told) from error
                return self._write_unless_there(data)
            return True

        # After an attempt of which no answer came, the file that is there may be ours.
        return self._asked(write) or self.read_bytes() == data

    def remove(self) -> None:
        """Removes the file; that there is none is no failure."""
        store, name = self._store()

        def remove() -> None:
            try:
                store.rm_file(name)
            except FileNotFoundError:
                return

        self._asked(remove)

    def names(self) -> list[str]:
        """The files below the folder, relative to it, as the store lists them now."""
        store, name = self._store()

        def find() -> list[str]:
            store.invalidate_cache()
            try:
                found: list[str] = store.find(name)
            except FileNotFoundError:
                return []
            return found

        start = store.unstrip_protocol(name).rstrip("/") + "/"
        urls = (store.unstrip_protocol(one) for one in self._asked(find))
        return sorted(url.removeprefix(start) for url in urls if url.startswith(start))

    def holds(self, source: Path) -> bool:
        """Whether the file is there with the content of a local one.

        Where the store tells an MD5 (an ETag of S3, the md5Hash of GCS), it decides; where it does not, or
        the ETag is no MD5 (encryption by KMS), the file is read back.
        """
        info = self._info()
        if info is None or int(info["size"] or 0) != source.stat().st_size:
            return False
        told = _told_md5(info, int(info["size"] or 0))
        return (told is not None and told == _md5(source, told)) or self._reads_like(source)

    def _reads_like(self, source: Path) -> bool:
        with self.open() as theirs, source.open("rb") as ours:
            while block := ours.read(_BLOCK):
                try:
                    read = theirs.read(len(block))
                except OSError as error:  # tried again already
                    raise StorageError(self.url, str(error).removeprefix(f"{self.url}: ")) from error
                if read != block:
                    return False
        return True

    def _write_unless_there(self, data: bytes) -> bool:
        if self._info() is not None:
            return False
        store, name = self._store()
        store.pipe_file(name, data)
        return True

    def _info(self) -> dict[str, Any] | None:
        store, name = self._store()

        def ask() -> dict[str, Any] | None:
            store.invalidate_cache()
            try:
                info: dict[str, Any] = store.info(name)
            except FileNotFoundError:
                return None
            return info if info.get("type") == "file" else None

        return self._asked(ask)

    def _store(self) -> tuple[Any, str]:
        import fsspec

        try:
            store, name = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise StorageError(self.url, str(error)) from error
        return store, name

    def _asked(self, action: Callable[[], Found]) -> Found:
        try:
            return persist(self.url, Patience.from_environment(), action)
        except StorageError:
            raise
        except FileNotFoundError as error:
            raise StorageError(self.url, "no such bucket or folder") from error
        except PermissionError as error:
            raise StorageError(self.url, f"access is refused ({error}); are the credentials set?") from error
        except ReadError as error:
            raise StorageError(self.url, str(error).removeprefix(f"{self.url}: ")) from error
        except Exception as error:  # each store has exceptions of its own
            raise StorageError(self.url, f"{type(error).__name__}: {error}") from error


Place = Path | RemotePath


def place(path: str | Path | RemotePath) -> Place:
    """A local path or a URL as what it names; `file://` is a local path.

    A URL that went through `Path`, which makes one slash of two, is understood.
    """
    if isinstance(path, RemotePath):
        return path
    text = _COLLAPSED.sub(r"\1://", str(path), count=1) if isinstance(path, Path) else path
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return RemotePath(text) if is_remote(text) else Path(text)


def why_not_writable(url: str) -> str | None:
    """Why no output can be written to a URL, as far as the URL itself says; None where one can."""
    scheme = url.partition("://")[0].lower()
    if scheme in _READ_ONLY or "::" in url:
        return f"{url} cannot be written to; write to a folder or an object store (s3, gs)"
    try:
        RemotePath(url)._store()
    except StorageError as error:
        return f"{url}: {error.strerror}"
    return None


def _told_md5(info: dict[str, Any], size: int) -> str | None:
    """An MD5 as the store tells it: 32 hexadecimal digits, or those of the parts' MD5s and their number."""
    if info.get("md5Hash"):
        return b64decode(info["md5Hash"]).hex()
    tag = str(info.get("ETag", "")).strip('"').lower()
    parts = _MD5_OF_PARTS.fullmatch(tag)
    if parts is not None:
        return tag if int(parts[1]) == -(-size // _PART) else None
    return tag if _MD5.fullmatch(tag) else None


def _md5(source: Path, like: str) -> str:
    """The MD5 of a file, or of its parts' MD5s, whichever `like` is."""
    with source.open("rb") as file:
        if "-" not in like:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        digests = [hashlib.md5(part, usedforsecurity=False).digest() for part in _parts(file)]
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _parts(file: BinaryIO) -> Iterator[bytes]:
    while part := file.read(_PART):
        yield part
