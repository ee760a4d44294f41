"""Columns of files of records: the output of a job, Parquet, JSON Lines and CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .training import NotTrainableError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS: Final = 8192  # read at a time
_COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}


def files_of(paths: Sequence[str]) -> list[str]:
    """The files that paths and globs name, each once; of the folder of a job's output its shards.

    Raises SourceError where a path matches nothing, NotTrainableError for a folder that is no output.
    """
    from ..pipeline.sources.files import expand

    found: list[str] = []
    for path in paths:
        folder = Path(path)
        found += _shards_of(folder) if folder.is_dir() else [file.path for file in expand(path)]
    return list(dict.fromkeys(found))


def _shards_of(folder: Path) -> list[str]:
    import json

    try:
        shards = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["shards"]
        found = [str(folder / shard["path"]) for shard in shards]
    except (OSError, ValueError, KeyError, TypeError):
        raise NotTrainableError(f"{folder}: is a folder, and not of a job's output; name its files") from None
    if not found:
        raise NotTrainableError(f"{folder}: the job has kept no record")
    return found


def read(path: str, columns: Sequence[str] | None, optional: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    """The batches of a file, with `columns`, or all of them, and those of `optional` that it has.

    What a JSON Lines file holds is told by its first megabytes; a field that comes up only later is an error.
    Raises NotTrainableError, which names the file and what is wrong with it.
    """
    import pyarrow as pa

    from ..pipeline.sources.patience import ReadError

    try:
        for batch in _batches(path, columns, optional):
            names = batch.schema.names
            for name in columns or ():
                if name not in names:
                    raise NotTrainableError(f"{path}: has no column {name}; it has {', '.join(names)}")
            wanted = (
                names
                if columns is None
                else dict.fromkeys([*columns, *(name for name in optional if name in names)])
            )
            yield batch.select(list(wanted))
    except (pa.ArrowException, OSError, ReadError) as error:
        raise NotTrainableError(f"{path}: cannot be read ({error})") from error


def _batches(path: str, columns: Sequence[str] | None, optional: Sequence[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ..pipeline.sources.files import open_file

    name = path.lower()
    compression = next((kind for suffix, kind in _COMPRESSIONS.items() if name.endswith(suffix)), None)
    if name.endswith(".parquet"):
        with open_file(path, ahead=False) as file, pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            wanted = [one for one in names if columns is None or one in (*columns, *optional)]
            if columns is not None and (missing := [one for one in columns if one not in names]):
                raise NotTrainableError(f"{path}: has no column {missing[0]}; it has {', '.join(names)}")
            if not parquet.metadata.num_rows:
                yield pa.RecordBatch.from_pylist([], parquet.schema_arrow)
            yield from parquet.iter_batches(_ROWS, columns=wanted)
        return
    with open_file(path) as file, pa.input_stream(file, compression=compression) as stream:
        if name.removesuffix(".gz").removesuffix(".zst").endswith(".csv"):
            from pyarrow import csv

            yield from csv.open_csv(stream)
        elif name.removesuffix(".gz").removesuffix(".zst").endswith((".jsonl", ".ndjson", ".json")):
            from pyarrow import json

            yield from json.open_json(stream, json.ReadOptions(block_size=1 << 23))
        else:
            raise NotTrainableError(f"{path}: scores are read from .parquet, .jsonl and .csv files")
