"""Files in object stores (s3, gs, …) and whatever else fsspec opens."""

from __future__ import annotations

from typing import Any

from .patience import Patience, ReadError, given_up, may_pass, persist


class StoredFile:
    """One file, by ranges. fsspec's own caches stay out of it: they fetch what nobody asked for."""

    ranged = True

    def __init__(self, path: str, patience: Patience) -> None:
        import fsspec

        self.path = path
        self._patience = patience
        self._store, self._name = fsspec.core.url_to_fs(path)
        self._info: dict[str, Any] | None = None
        self._file: Any = None

    @property
    def size(self) -> int:
        """Bytes. Raises FileNotFoundError, PermissionError or ReadError."""
        self._info = self._info or persist(self.path, self._patience, self._look_up)
        return int(self._info["size"] or 0)

    @property
    def etag(self) -> str:
        """What changes when the file does."""
        _ = self.size
        assert self._info is not None
        return entity_tag(self._info)

    def fetch(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop), which lie within the file.

        Raises FileNotFoundError, PermissionError or ReadError (also where the file is no longer the same).
        """
        etag, failures = self.etag, 0
        while True:
            try:
                if self._file is None:
                    self._file = self._store.open(self._name, "rb", cache_type="none")
                self._file.seek(start)
                data: bytes = self._file.read(stop - start)
                if len(data) == stop - start:
                    return data
                raise ConnectionError(f"{len(data)} bytes came of {stop - start}")
            except Exception as error:
                failures += 1
                self.close()
                lasting = not may_pass(error)
                if self._tag_now(etag) != etag:
                    raise ReadError(f"{self.path}: has changed while it was read") from error
                if lasting:
                    raise _named(self.path, error) from error
                if failures >= self._patience.attempts:
                    raise given_up(f"{self.path}: byte {start}", failures, error) from error
                self._patience.wait(failures, error)

    def close(self) -> None:
        """Closes fsspec's file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _look_up(self) -> dict[str, Any]:
        self._store.invalidate_cache()
        found: dict[str, Any] = self._store.info(self._name)
        return found

    def _tag_now(self, otherwise: str) -> str:
        try:
            return entity_tag(self._look_up())
        except Exception:  # what matters is the failure that led here
            return otherwise


def entity_tag(info: dict[str, Any]) -> str:
    """What a store says of a file that changes when the file does; empty where it says nothing."""
    for key in ("ETag", "etag", "md5Hash", "crc32c", "LastModified", "last_modified", "updated", "mtime"):
        if info.get(key) is not None:
            return str(info[key])
    return ""


def _named(path: str, error: Exception) -> Exception:
    if isinstance(error, FileNotFoundError | PermissionError):
        return type(error)(f"{path}: {error}")
    return ReadError(f"{path}: {type(error).__name__}: {error}")
