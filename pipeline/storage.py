"""Where results lie: a folder of this machine, or one behind a URL, with what of a path reading needs."""

from __future__ import annotations

import hashlib
import io
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from errno import EIO, ENOSYS
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

    def tag(self) -> str | None:
        """What the store says of the file that changes when the file does; None where there is no file."""
        info = self._info()
        return None if info is None else str(info.get("ETag") or "")

    def read_bytes(self) -> bytes:
        """The whole file, which should be small. Raises FileNotFoundError."""
        store, name = self._store()
        # Else s3fs asks for the size first, and believes a listing that it remembers.
        more = {"max_concurrency": 1} if _is_s3(store) else {}
        return self._asked_of_file(lambda: bytes(store.cat_file(name, **more)))

    def read_range(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop), which lie within the file. Raises FileNotFoundError."""
        store, name = self._store()

        def read() -> bytes:
            content: bytes = store.cat_file(name, start=start, end=stop)
            if len(content) != stop - start:
                raise ConnectionError(f"{len(content)} bytes came of {stop - start}")
            return content

        return self._asked_of_file(read)

    def read_end(self, length: int) -> bytes:
        """The last bytes of the file, which must not be empty: all where it has fewer than `length`.

        Raises FileNotFoundError.
        """
        store, name = self._store()
        return self._asked_of_file(lambda: bytes(store.cat_file(name, start=-length)))

    def fetch(self, target: Path) -> None:
        """Writes the content to a local file. Raises FileNotFoundError."""
        store, name = self._store()
        self._asked_of_file(lambda: store.get_file(name, str(target)))

    def put(self, source: Path) -> None:
        """Writes the content of a local file, replacing what is there."""
        store, name = self._store()
        more = {"chunksize": _PART} if _is_s3(store) else {}
        self._asked(lambda: store.put_file(str(source), name, **more))

    def is_beside(self, other: RemotePath) -> bool:
        """Whether one store keeps both, so that it can copy between them."""
        return bool(self._store()[0] is other._store()[0])

    def copy(self, source: RemotePath) -> None:
        """Has the store write the content of another of its files here, replacing what is there.

        Raises FileNotFoundError.
        """
        (store, name), (_, theirs) = self._store(), source._store()
        more = {"preserve_etag": True} if _is_s3(store) else {}

        def copy() -> None:
            store.invalidate_cache()
            store.cp_file(theirs, name, **more)

        source._asked_of_file(copy)

    def write_bytes(self, data: bytes) -> None:
        """Writes a small file, replacing what is there."""
        store, name = self._store()
        self._asked(lambda: store.pipe_file(name, data))

    def create(self, data: bytes, *, strict: bool = False) -> bool:
        """Writes a small file where there is none; False where there is one of other content.

        The store decides, where it can (S3's If-None-Match). Where it cannot, this looks and then writes;
        with `strict` it raises StorageError, as two writers could both believe that they were first.
        """
        for _ in range(Patience.from_environment().attempts):
            made = self._asked(lambda: self._write_new(data))
            if made is None and strict:
                told = "this store cannot refuse to replace a file, which run.work needs of it"
                raise StorageError(self.url, told)
            if made is None:
                made = self._asked(lambda: self._write_unless_there(data))
            try:
                # After an attempt of which no answer came, the file that is there may be ours.
                return made or self.read_bytes() == data
            except FileNotFoundError:  # removed since
                continue
        raise StorageError(self.url, "somebody removes this file whenever it is there")

    def remove(self, tag: str | None = None) -> bool:
        """Removes the file; that there is none is no failure.

        With `tag`, as `tag()` told it: False where there is another file by now. Stores that cannot compare
        remove what is there.
        """
        store, name = self._store()

        def remove() -> bool:
            try:
                if tag and _is_s3(store):
                    return _remove_tagged(store, name, tag)
                store.rm_file(name)
            except FileNotFoundError:
                pass
            return True

        return self._asked(remove)

    def names(self) -> list[str]:
        """The files below the folder, relative to it, as the store lists them now."""
        store, name = self._store()

        def find() -> list[str]:
            store.invalidate_cache()
            try:
                found: list[str] = store.find(name)
            except FileNotFoundError:
                return []
            finally:
                store.invalidate_cache()  # nobody shall believe it later
            return found

        start = store.unstrip_protocol(name).rstrip("/") + "/"
        urls = (store.unstrip_protocol(one) for one in self._asked(find))
        return sorted(url.removeprefix(start) for url in urls if url.startswith(start))

    def holds(self, source: Path | RemotePath | bytes) -> bool:
        """Whether the file is there with this content: of a local file, of another remote one, or as given.

        Where the store tells an MD5 (an ETag of S3, the md5Hash of GCS), it decides; where it does not, or
        the ETag is no MD5 (encryption by KMS), the file is read back.
        """
        info = self._info()
        if info is None:
            return False
        size = int(info["size"] or 0)
        if isinstance(source, RemotePath):
            theirs = source._info()
            if theirs is None or int(theirs["size"] or 0) != size:
                return False
            return _same_tags(info, theirs) or self._reads_like(source)
        if size != (len(source) if isinstance(source, bytes) else source.stat().st_size):
            return False
        told = _told_md5(info, size)
        return (told is not None and told == _md5(source, told)) or self._reads_like(source)

    def _reads_like(self, source: Path | RemotePath | bytes) -> bool:
        with self.open() as theirs, _opened(source) as ours:
            try:
                while block := ours.read(_BLOCK):
                    if theirs.read(len(block)) != block:
                        return False
            except OSError as error:  # tried again already
                raise StorageError(self.url, str(error).removeprefix(f"{self.url}: ")) from error
        return True

    def _write_new(self, data: bytes) -> bool | None:
        """Whether the file has been written; None where the store cannot promise that there was none."""
        store, name = self._store()
        try:
            store.pipe_file(name, data, mode="create")
        except FileExistsError:
            return False
        except NotImplementedError:
            return None
        except OSError as error:
            if _answer(error) == "PreconditionFailed":
                return False
            if error.errno == ENOSYS or _answer(error) == "NotImplemented":
                return None
            raise
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
            try:
                return _look_up(store, name)
            except FileNotFoundError:
                return None

        return self._asked(ask)

    def _store(self) -> tuple[Any, str]:
        import fsspec

        try:
            store, name = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise StorageError(self.url, str(error)) from error
        return store, name

    def _asked_of_file(self, action: Callable[[], Found]) -> Found:
        """The same of what needs the file to be there."""

        def act() -> tuple[Found] | None:
            try:
                return (action(),)
            except FileNotFoundError:
                return None

        found = self._asked(act)
        if found is None:
            raise FileNotFoundError(2, "no such file", self.url)
        return found[0]

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


def _is_s3(store: Any) -> bool:
    return "s3" in store.protocol


def _look_up(store: Any, name: str) -> dict[str, Any] | None:
    """What a store says of a file."""
    if _is_s3(store):
        bucket, key, _ = store.split_path(name)
        if key:
            # s3fs would ask for a listing where there is no such file, to see whether it is a folder.
            head = store.call_s3("head_object", store.kwargs, Bucket=bucket, Key=key)
            return {"size": head["ContentLength"], "ETag": head.get("ETag", "")}
    store.invalidate_cache()
    info: dict[str, Any] = store.info(name)
    return info if info.get("type") == "file" else None


def _remove_tagged(store: Any, name: str, tag: str) -> bool:
    bucket, key, _ = store.split_path(name)
    try:
        store.call_s3("delete_object", Bucket=bucket, Key=key, IfMatch=tag)
    except OSError as error:
        if _answer(error) == "PreconditionFailed":
            return False
        if error.errno != ENOSYS and _answer(error) != "NotImplemented":
            raise
        store.rm_file(name)
    return True


def _answer(error: OSError) -> str:
    """The code by which S3 tells why it refused."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _opened(source: Path | RemotePath | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return source.open() if isinstance(source, RemotePath) else source.open("rb")


def _same_tags(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a store tells the same digest of two files."""
    return any(one.get(key) and one.get(key) == other.get(key) for key in ("ETag", "md5Hash"))


def _told_md5(info: dict[str, Any], size: int) -> str | None:
    """An MD5 as the store tells it: 32 hexadecimal digits, or those of the parts' MD5s and their number."""
    if info.get("md5Hash"):
        return b64decode(info["md5Hash"]).hex()
    tag = str(info.get("ETag", "")).strip('"').lower()
    parts = _MD5_OF_PARTS.fullmatch(tag)
    if parts is not None:
        return tag if int(parts[1]) == -(-size // _PART) else None
    return tag if _MD5.fullmatch(tag) else None


def _md5(source: Path | bytes, like: str) -> str:
    """The MD5 of a content, or of its parts' MD5s, whichever `like` is."""
    with _opened(source) as file:
        if "-" not in like:
            whole = hashlib.md5(usedforsecurity=False)
            while block := file.read(_BLOCK):
                whole.update(block)
            return whole.hexdigest()
        digests = [hashlib.md5(part, usedforsecurity=False).digest() for part in _parts(file)]
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _parts(file: BinaryIO) -> Iterator[bytes]:
    while part := file.read(_PART):
        yield part
