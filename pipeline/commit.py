"""A task's output: streams written under unique names, then one manifest entry that makes them real."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from .accounts import Accounts
from .operator import Output
from .row_groups import GROUP_BYTES, RowGroups
from .stage import Committed, StreamRef, TaskId
from .storage import Place, place
from .store import HashedFile, put_new, remove, settle, unfinished

IMAGE_BYTES: Final = 8 << 20  # of a row group


class StreamWriter:
    """One stream of a part: a Parquet file whose bytes depend on its rows and nothing else."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = HashedFile(path)
        self._columns = tuple(schema.names)
        # A group of images is in memory three times while it is written.
        self._groups = RowGroups(schema, size=IMAGE_BYTES if "image" in schema.names else GROUP_BYTES)
        self._rows = 0
        lean = {
            field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_binary(field.type)
        }
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression={name: "none" if name == "image" else "lz4" for name in schema.names},
            use_dictionary=[name for name in ("step", "verdict", "reason", "lang", "date") if name in lean],
            column_encoding={"position": "DELTA_BINARY_PACKED"} if "position" in schema.names else None,
            write_statistics=[name for name in ("position", "key") if name in schema.names],
            store_schema=True,
        )

    def write(self, batch: pa.RecordBatch) -> None:
        self._rows += len(batch)
        for group in self._groups.add(batch):
            self._writer.write_table(group, row_group_size=len(group))

    def close(self) -> StreamRef:
        for group in self._groups.rest():
            self._writer.write_table(group, row_group_size=len(group))
        self._writer.close()
        self._file.close()
        return StreamRef(
            str(self._file.path), self._rows, self._file.bytes, self._file.checksum, self._columns
        )

    def abandon(self) -> None:
        """Removes what was written; a full disk, on which the file cannot be ended, is no hindrance."""
        self._file.path.unlink(missing_ok=True)
        with suppress(OSError):
            self._writer.close()
        with suppress(OSError):
            self._file.close()


class PartOutput(Output):
    """The streams and accounts of one task, until they are committed or thrown away."""

    def __init__(self, directory: Place, task: TaskId, run: str) -> None:
        self.accounts = Accounts()
        self.rows_in = 0
        self._directory, self._task, self._run = directory, task, run
        self._writers: dict[str, StreamWriter] = {}
        self._files: dict[str, StreamRef] = {}

    def emit(self, stream: str, batch: pa.RecordBatch) -> None:
        if stream not in self._writers:
            path = unfinished(self._directory, self._run, f"{self._task:05d}.{stream}.parquet")
            self._writers[stream] = StreamWriter(path, batch.schema)
        self._writers[stream].write(batch)

    def new_file(self, name: str) -> Path:
        return unfinished(self._directory, self._run, f"{self._task:05d}.{name}")

    def attach(self, stream: str, file: StreamRef) -> None:
        self._files[stream] = file

    def commit(self, rows_out: int, bytes_in: int) -> Committed:
        """Publishes the part; where another has committed it first, that one counts and ours is removed."""
        streams = {name: writer.close() for name, writer in self._writers.items()} | self._files
        final: dict[str, StreamRef] = {}
        for name, stream in sorted(streams.items()):
            written = Path(stream.path)
            # With the checksum in its name, a file never has two contents, even if two tasks race.
            settled = self._directory / f"{self._task:05d}.{name}.{stream.checksum[:12]}{written.suffix}"
            settle(written, settled)
            final[name] = StreamRef(str(settled), stream.rows, stream.bytes, stream.checksum, stream.columns)
        committed = Committed(self._task, final, self.accounts.as_dict(), self.rows_in, rows_out, bytes_in)
        first: Committed | None = None
        while first is None:  # an entry may be taken back, see Driver.run, before it is read
            if put_new(entry_path(self._directory, self._task), _encode(committed), self._run):
                return committed
            first = read_entry(self._directory, self._task)
        for loser in {s.path for s in final.values()} - {s.path for s in first.streams.values()}:
            remove(place(loser))
        return first

    def abandon(self) -> None:
        """Removes what was written."""
        for writer in self._writers.values():
            writer.abandon()
        for file in self._files.values():
            Path(file.path).unlink(missing_ok=True)


def entry_path(directory: Place, task: TaskId) -> Place:
    """Where the manifest entry of a task is found."""
    return directory / f"{task:05d}.json"


def read_entry(directory: Place, task: TaskId) -> Committed | None:
    """The manifest entry of a task; None where it has not been committed."""
    try:
        value: dict[str, Any] = json.loads(entry_path(directory, task).read_bytes())
    except FileNotFoundError:
        return None
    streams = {
        name: StreamRef(str(directory / s["path"]), s["rows"], s["bytes"], s["checksum"], tuple(s["columns"]))
        for name, s in value["streams"].items()
    }
    rows_in, rows_out = value["rows"]
    return Committed(value["part"], streams, value["accounts"], rows_in, rows_out, value["bytes"])


def _encode(committed: Committed) -> bytes:
    streams = {
        name: {
            "path": Path(s.path).name,
            "rows": s.rows,
            "bytes": s.bytes,
            "checksum": s.checksum,
            "columns": list(s.columns),
        }
        for name, s in committed.streams.items()
    }
    entry = {
        "part": committed.task,
        "rows": [committed.rows_in, committed.rows_out],
        "bytes": committed.bytes_in,
        "streams": streams,
        "accounts": dict(committed.accounts),
    }
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()
