"""The Parquet file that img2dataset and DataComp leave beside a tar: more fields of its samples, by key."""

from __future__ import annotations

import os
from collections.abc import Set
from typing import Any, Final

import pyarrow as pa

from .containers import FILE, ContainerCounts
from .files import COMPRESSED_SUFFIXES, is_remote, open_file
from .parquet import is_bytes, json_values
from .patience import ReadError

_KEY: Final = "key"
_MOST_ROWS: Final = 1_000_000  # a tar has some 10,000 samples; more is no file beside one


class Beside:
    """Fields of the samples of one tar. A column is read when a sample first lacks it.

    The file is a container of kind `file`; one that cannot be read has an error, and gives nothing.
    """

    def __init__(self, path: str, names: Set[str], counts: ContainerCounts) -> None:
        self._path = path
        self._names = names
        self._counts = counts
        self._rows: dict[str, int] | None = None  # of each key
        self._columns: dict[str, list[Any]] = {}
        self._failed = False

    def fill(self, fields: dict[str, Any], key: str) -> None:
        """Adds to the fields of a sample those that it lacks."""
        lacking = self._names - fields.keys()
        if not lacking or self._failed:
            return
        try:
            self._load(lacking)
        except ReadError:
            raise
        except (pa.ArrowException, OSError) as error:
            self._failed = True
            self._counts.fail(FILE, "corrupt", self._path, str(error))
            return
        assert self._rows is not None
        row = self._rows.get(key)
        if row is not None:
            fields |= {
                name: value for name in sorted(lacking) if (value := self._columns[name][row]) is not None
            }

    def close(self) -> None:
        """Accounts for the file."""
        if not self._failed:
            self._counts.read(FILE)

    def _load(self, names: Set[str]) -> None:
        wanted = sorted(names - self._columns.keys())
        if self._rows is not None and not wanted:
            return
        import pyarrow.parquet as pq

        columns = wanted if self._rows is not None else [_KEY, *wanted]
        with open_file(self._path, ahead=False) as file:
            table = pq.ParquetFile(file).read(columns=columns, use_threads=False).combine_chunks()
        for name in wanted:
            chunks = table.column(name).chunks
            self._columns[name] = [value for chunk in chunks for value in json_values(chunk)]
        if self._rows is None:
            self._rows = {}
            for row, key in enumerate(table.column(_KEY).to_pylist()):
                self._rows.setdefault(str(key), row)


def find_beside(path: str, counts: ContainerCounts) -> Beside | None:
    """The file of the same stem with `.parquet`, if there is one and it has a column `key`.

    Raises ReadError where the server does not say.
    """
    stem = path
    for suffix in COMPRESSED_SUFFIXES:
        stem = stem.removesuffix(suffix)
    stem = stem.removesuffix(".tar").removesuffix(".tgz")
    found = f"{stem}.parquet"
    if stem == path or not (is_remote(found) or os.path.isfile(found)):
        return None
    import pyarrow.parquet as pq

    try:
        with open_file(found, ahead=False) as file:
            parquet = pq.ParquetFile(file)
            schema, rows = parquet.schema_arrow, parquet.metadata.num_rows
    except (FileNotFoundError, PermissionError):  # a store may refuse to say that there is none
        return None
    except ReadError:
        raise
    except (pa.ArrowException, OSError) as error:
        counts.meet(FILE)
        counts.fail(FILE, "corrupt", found, str(error))
        return None
    counts.meet(FILE)
    if _KEY not in schema.names or rows > _MOST_ROWS:
        counts.skip(FILE, "no_samples_beside")
        return None
    return Beside(found, {field.name for field in schema if not is_bytes(field.type)} - {_KEY}, counts)
