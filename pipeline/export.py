"""The last stages of a job: shards planned by bytes, the ledger, and the output directory."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ..schemas.job import Job
from ..schemas.plain_yaml import write_yaml
from ..schemas.records import CONTAINERS
from .driver import Driver, layer_of, partitions_for
from .ingest import JobRefused
from .planner import Plan
from .sinks import suffix_of
from .stage import Committed, Input, OperatorRef, PartRef, StreamRef
from .steps.writing import (
    CollectRecords,
    Measure,
    ReadLedger,
    ReadShard,
    ShuffleKey,
    WriteLedger,
    WriteShard,
)
from .store import publish, unfinished

SHARD_NAME = re.compile(r"shard-\d{5,}\.(parquet|jsonl(\.gz|\.zst)?|tar)")
OWN_NAMES = ("manifest.json", "job.yaml", "report.md", "containers.parquet", "ledger", "keys")
LEDGER_SHARES = {"full": 1.0, "sampled": 0.01, "counts": 0.0}


@dataclass(frozen=True)
class Shard:
    """One file of the final output."""

    path: str  # relative to the output directory
    records: int
    bytes: int
    sha256: str


def export(driver: Driver, job: Job, planned: Plan, parts: tuple[PartRef, ...]) -> list[Committed]:
    """Writes the shards into the work directory; they are published at the end of the job."""
    if job.output.shuffle == "global":
        parts = _shuffle(driver, planned, parts, job.run.seed)
    sizes = [
        committed.accounts["figures"]
        for committed in driver.run(
            "sizes", {"records": Input(parts, (OperatorRef.of(Measure),), columns=("bytes",))}
        )
    ]
    bytes_ = [size.get("output_bytes", 0) for size in sizes]
    permuted = job.output.shuffle == "parts"
    order = list(range(len(parts)))
    if permuted:
        order.sort(
            key=lambda place: xxhash.xxh3_64_intdigest(f"{job.run.seed}\0part\0{parts[place].index}".encode())
        )
    shards = plan_shards([bytes_[place] for place in order], job.output.shard)
    columns = [name for name in planned.output if name != "bytes"]
    sources = [
        _shard_part(
            number,
            [(parts[order[place]], start, stop) for place, start, stop in pieces],
            columns,
            permuted,
            job,
        )
        for number, pieces in enumerate(shards)
    ]
    assert job.output.compression is not None
    write = OperatorRef.of(
        WriteShard,
        format=job.output.format,
        compression=job.output.compression,
        suffix=suffix_of(job.output.format, job.output.compression),
        scores=list(planned.scores),
    )
    return driver.run("export", {"records": Input(tuple(sources), (write,))})


def plan_shards(sizes: Sequence[int], shard: int) -> list[list[tuple[int, int, int]]]:
    """The pieces (part, first byte, byte behind the last) of each shard: a cut every `shard` bytes.

    A record belongs to the shard in which its first byte falls. At least one shard, which may be empty.
    """
    ends = np.cumsum([0, *sizes])
    shards = []
    for low in range(0, max(1, int(ends[-1])), shard):
        high = low + shard
        pieces = [
            (part, max(low - int(ends[part]), 0), min(high, int(ends[part + 1])) - int(ends[part]))
            for part, size in enumerate(sizes)
            if size and ends[part] < high and ends[part + 1] > low
        ]
        shards.append(pieces or [(0, 0, 0)])
    return shards


def _shard_part(
    number: int, pieces: Sequence[tuple[PartRef, int, int]], columns: Sequence[str], permuted: bool, job: Job
) -> PartRef:
    described: list[dict[str, Any]] = [
        {
            "index": part.index,
            "layers": [asdict(layer) for layer in part.layers],
            "start": start,
            "stop": stop,
        }
        for part, start, stop in pieces
    ]
    arguments = {"pieces": described, "columns": list(columns), "shuffle": permuted, "seed": job.run.seed}
    lean = [
        {**piece, "layers": [[layer["checksum"], layer["optional"]] for layer in piece["layers"]]}
        for piece in described
    ]
    identity = hashlib.sha256(json.dumps({**arguments, "pieces": lean}, sort_keys=True).encode()).hexdigest()
    bytes_ = sum(stop - start for _, start, stop in pieces)
    return PartRef(number, reader=OperatorRef.of(ReadShard, **arguments), bytes=bytes_, identity=identity)


def _shuffle(driver: Driver, planned: Plan, parts: tuple[PartRef, ...], seed: int) -> tuple[PartRef, ...]:
    partitions = partitions_for(sum(part.bytes for part in parts))
    commits = driver.run(
        "shuffle",
        {
            "records": Input(
                parts, (OperatorRef.of(ShuffleKey, seed=seed),), "key", (*planned.output, "bytes")
            )
        },
        partitions=partitions,
        reduce=OperatorRef.of(CollectRecords, partitions=partitions),
    )
    return tuple(
        PartRef(
            c.task,
            (layer_of(c, "records"),),
            bytes=c.streams["records"].bytes,
            rows=c.streams["records"].rows,
        )
        for c in commits
    )


def write_ledger(driver: Driver, parts: Sequence[int], share: str) -> list[Committed]:
    """Brings the ledger rows of all stages together, part by part."""
    ledgers = [
        PartRef(
            part,
            reader=OperatorRef.of(ReadLedger, paths=driver.ledgers.get(part, [])),
            identity=json.dumps([Path(path).name for path in driver.ledgers.get(part, [])]),
        )
        for part in parts
    ]
    write = OperatorRef.of(WriteLedger, share=LEDGER_SHARES[share])
    return driver.run("ledger", {"rows": Input(tuple(ledgers), (write,))})


class OutputDirectory:
    """Where a job's results are put together; the manifest comes last, and makes them one whole."""

    def __init__(self, path: Path, run: str) -> None:
        self._path, self._run = path, run

    def publish(
        self,
        job: Job,
        shards: Sequence[Committed],
        ledgers: Sequence[Committed],
        containers: Sequence[str],
        totals: dict[str, Any],
        more: Mapping[str, Path | bytes],
    ) -> list[Shard]:
        """Replaces an earlier output of the same directory and returns the shards.

        `more`: files or contents that steps leave beside the shards, by their names in the output.
        """
        (self._path / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(self._path / "keys", ignore_errors=True)
        for path in (self._path / "ledger").glob("part-*.parquet"):
            path.unlink()
        # A record larger than a shard leaves the next ones empty.
        full = [committed for committed in shards if committed.streams["shard"].rows] or shards[:1]
        written = [
            self._shard(job, number, committed.streams["shard"]) for number, committed in enumerate(full)
        ]
        for committed in ledgers:
            stream = committed.streams["rows"]
            self._place(Path(stream.path), Path("ledger") / f"part-{committed.task:05d}.parquet")
        for name, found in sorted(more.items()):
            if isinstance(found, bytes):
                self._write(name, found)
            else:
                self._place(found, Path(name))
        self._write_containers(containers)
        self._write("job.yaml", write_yaml(_portable(job)).encode())
        self._remove_strays(written)
        manifest = {"name": job.name, "shards": [asdict(shard) for shard in written], "totals": totals}
        self._write("manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n")
        return written

    def check(self) -> None:
        """Raises JobRefused where a file that no run wrote has a name that this run would write to."""
        try:
            json.loads((self._path / "manifest.json").read_bytes())["shards"]
        except (OSError, ValueError, TypeError, KeyError):
            taken = [name for name in OWN_NAMES if (self._path / name).exists()]
            taken += [path.name for path in self._path.iterdir() if SHARD_NAME.fullmatch(path.name)]
            if taken:
                raise JobRefused(
                    f"{self._path / taken[0]} is in the way: a run writes a file of that name, and nothing "
                    "says that a run wrote this one; move it, or name another output.path"
                ) from None

    def _remove_strays(self, shards: Sequence[Shard]) -> None:
        """Shards of an earlier output that this one has not replaced."""
        ours = {shard.path for shard in shards}
        for path in self._path.glob("shard-*"):
            if path.name not in ours and SHARD_NAME.fullmatch(path.name):
                path.unlink()

    def _shard(self, job: Job, number: int, stream: StreamRef) -> Shard:
        assert job.output.compression is not None
        name = f"shard-{number:05d}{suffix_of(job.output.format, job.output.compression)}"
        self._place(Path(stream.path), Path(name))
        return Shard(name, stream.rows, stream.bytes, stream.checksum)

    def _place(self, source: Path, name: Path) -> None:
        target = self._path / name
        temporary = unfinished(target.parent, self._run, target.name)
        try:
            os.link(source, temporary)
        except OSError:  # another file system
            shutil.copyfile(source, temporary)
        publish(temporary, target)

    def _write(self, name: str, data: bytes) -> None:
        target = self._path / name
        temporary = unfinished(target.parent, self._run, target.name)
        temporary.write_bytes(data)
        publish(temporary, target)

    def _write_containers(self, paths: Sequence[str]) -> None:
        tables = [pq.read_table(path, schema=CONTAINERS) for path in paths]
        table = pa.concat_tables(tables) if tables else CONTAINERS.empty_table()
        temporary = unfinished(self._path, self._run, "containers.parquet")
        pq.write_table(table.combine_chunks(), temporary)
        publish(temporary, self._path / "containers.parquet")


def _portable(job: Job) -> dict[str, Any]:
    """The resolved job without what only says where and how wide it ran."""
    resolved = job.resolved()
    resolved["run"] = {
        key: value for key, value in resolved["run"].items() if key not in ("workers", "directory")
    }
    return resolved
