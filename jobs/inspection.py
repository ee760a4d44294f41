"""A look into a shard or a part: its columns and its first records."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

from ..pipeline.sinks.datacomp import SubsetFile
from ..pipeline.sources.files import open_file
from ..pipeline.storage import Place, place

WIDEST = 100
_SHARD_OR_PART: Final = re.compile(
    r"shard-[0-9]{5,}\.(parquet|jsonl(\.gz|\.zst)?|tar)|subset\.npy|[0-9]{5,}\.json"
)


class NotReadableError(Exception):
    """The file is not a shard or part that thresher writes; the message says what was found."""


def inspect(path: Path | str, rows: int) -> dict[str, Any]:
    """`files`: for a shard one, for a manifest entry of the work directory one for each stream.

    Each has `path`, `records` (None where counting means reading everything), `bytes`, `columns` (name to
    type) and `rows`, the first records. Raises NotReadableError.
    """
    found = place(path)
    if not found.is_file():
        folder = _told_folder(found)
        raise NotReadableError(folder or f"no such file: {found}")
    entry = _entry(found)
    if entry is None:
        return {"files": [{"stream": None, **_inspect_file(found, rows)}]}
    files = [
        {"stream": name, **_inspect_file(found.parent / file["path"], rows)}
        for name, file in sorted(entry["streams"].items())
    ]
    return {"part": entry["part"], "accounts": entry["accounts"], "files": files}


def _told_folder(folder: Place) -> str:
    """What to name instead of a folder: its first shard, or the first part of a stage; "" if it is none."""
    if isinstance(folder, Path):
        names = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else None
    else:
        names = folder.names() or None
    if names is None:
        return ""
    first = [name for name in names if _SHARD_OR_PART.fullmatch(name)][:1]
    return f"{folder} is a folder; name a file in it" + "".join(f", as in {folder / name}" for name in first)


def _entry(path: Place) -> dict[str, Any] | None:
    if path.suffix != ".json":
        return None
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        raise NotReadableError(f"{path} is not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("streams"), dict):
        raise NotReadableError(f"{path} is no manifest entry of a part: it lists no streams")
    return value


def _inspect_file(path: Place, rows: int) -> dict[str, Any]:
    first = [row for row, _ in zip(records(path), range(rows), strict=False)]
    count: int | None = None
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with open_file(str(path), ahead=False) as raw, pq.ParquetFile(raw) as file:
            count = file.metadata.num_rows
            columns = {field.name: str(field.type) for field in file.schema_arrow}
    else:
        if path.suffix == ".npy":
            with _subset(path) as uids:
                count = len(uids)
        columns = {name: _json_type(value) for row in first for name, value in row.items()}
    return {
        "path": str(path),
        "records": count,
        "bytes": path.stat().st_size if isinstance(path, Path) else path.size(),
        "columns": columns,
        "rows": first,
    }


def _json_type(value: Any) -> str:
    kinds = {bool: "bool", int: "int64", float: "double", str: "string", list: "list", dict: "struct"}
    return kinds.get(type(value), "null")


def records(path: Place, without: Collection[str] = (), equal: str | None = None) -> Iterator[dict[str, Any]]:
    """The records of a shard (Parquet, JSON Lines plain, gzip or zstd, WebDataset tar, DataComp subset) or of
    the index of one, as mappings. Of what is binary only the size is told.

    `without`: columns that need not be there. `equal`: only records whose id is this need be there.
    Raises NotReadableError where the file is none of these, or broken.
    """
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            yield from _parquet(path, without, equal)
        elif name.endswith((".jsonl", ".jsonl.gz", ".jsonl.zst")):
            with _opened(path) as file:
                yield from (json.loads(line) for line in file)
        elif name.endswith(".tar"):
            yield from _tar(path)
        elif name.endswith(".idx"):
            yield from _index(path)
        elif name.endswith(".npy"):
            with _subset(path) as uids:
                found = range(len(uids)) if equal is None else uids.find(equal)
                yield from ({"uid": uids[row]} for row in found)
        else:
            raise NotReadableError(
                f"{path.name}: not .parquet, .jsonl, .jsonl.gz, .jsonl.zst, .tar, .idx, .npy or a part's "
                ".json"
            )
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        raise NotReadableError(f"{path} cannot be read: {error}") from error


def _parquet(path: Place, without: Collection[str], equal: str | None) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with open_file(str(path), ahead=False) as raw, pq.ParquetFile(raw) as file:
        names = [name for name in file.schema_arrow.names if name not in without]
        for batch in file.iter_batches(batch_size=1024 if equal is None else 65_536, columns=names):
            if equal is not None and "id" in batch.schema.names:
                batch = batch.filter(pc.equal(batch.column("id"), pa.scalar(equal, batch.column("id").type)))
            for number, field in enumerate(batch.schema):
                if pa.types.is_binary(field.type):
                    sizes = pc.binary_length(batch.column(number)).cast(pa.string())
                    told = pc.binary_join_element_wise(sizes, pa.scalar("bytes"), " ")
                    batch = batch.set_column(number, field.name, told)
            yield from batch.to_pylist()


@contextmanager
def _subset(path: Place) -> Iterator[SubsetFile]:
    with open_file(str(path), ahead=False) as file:
        yield SubsetFile(file)


def _index(path: Place) -> Iterator[dict[str, Any]]:
    """What the index of a WebDataset shard says of each sample."""
    with _opened(path) as file:
        lines = iter(file)
        if not next(lines, b"").startswith(b"v1.2 "):
            raise ValueError("it is no index of version v1.2")
        for line in lines:
            words = line.decode().split()
            members = list(zip(*(iter(words),) * 4, strict=True))
            told = {extension: f"{size} bytes at {offset}" for extension, offset, size, _ in members}
            yield {"__key__": members[0][3].partition(".")[0], **told}


@contextmanager
def _opened(path: Place) -> Iterator[Iterable[bytes]]:
    with (
        open_file(str(path)) as unbuffered,
        io.BufferedReader(cast(io.RawIOBase, unbuffered), 1 << 20) as raw,
    ):
        if path.suffix == ".gz":
            with gzip.open(raw) as file:
                yield file
        elif path.suffix == ".zst":
            import zstandard

            reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
            yield io.BufferedReader(reader, 1 << 20)
        else:
            yield raw


def _tar(path: Place) -> Iterator[dict[str, Any]]:
    """The samples of a WebDataset: members that share a name up to its first dot."""
    sample: dict[str, Any] = {}
    with open_file(str(path)) as raw, tarfile.open(fileobj=raw, mode="r|") as archive:
        for member in archive:
            if not member.isfile():
                continue
            key, _, extension = member.name.partition(".")
            if sample and sample["__key__"] != key:
                yield sample
                sample = {}
            content = archive.extractfile(member)
            data = content.read() if content else b""
            sample["__key__"] = key
            if extension == "json":
                sample |= json.loads(data)
            elif extension == "txt":
                sample["text"] = data.decode("utf-8", "replace")
            else:
                sample[extension] = f"{len(data)} bytes"
    if sample:
        yield sample


def told(answer: dict[str, Any], *, columns_only: bool = False) -> str:
    """The answer as lines of text; long values are cut."""
    lines: list[str] = []
    if "part" in answer:
        lines.append(f"part {answer['part']}")
    for file in answer["files"]:
        count = "" if file["records"] is None else f", {file['records']:,} records"
        named = f"{file['stream']}: " if file["stream"] else ""
        lines.append(f"{named}{file['path']}, {file['bytes']:,} bytes{count}")
        lines += [f"  {name}: {kind}" for name, kind in file["columns"].items()]
        if not columns_only:
            for number, row in enumerate(file["rows"]):
                lines.append(f"  record {number}")
                lines += [f"    {name} = {_cut(value)}" for name, value in row.items()]
    return "\n".join(lines)


def _cut(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."
