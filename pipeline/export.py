"""The last stages of a job: shards planned by bytes, and the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ..schemas.job import Job
from .driver import Driver, layer_of, partitions_for
from .output_directory import tokenizer_digest, tokenizer_of
from .planner import Plan
from .sinks import suffix_of
from .stage import Committed, Input, OperatorRef, PartRef
from .steps.subset import OUTPUT_STEP
from .steps.writing import (
    OUTPUT_BYTES,
    CollectRecords,
    Measure,
    ReadLedger,
    ReadShard,
    ShuffleKey,
    WriteLedger,
    WriteShard,
)
from .subset import sort_uids

LEDGER_SHARES = {"full": 1.0, "sampled": 0.01, "counts": 0.0}


def output_steps(job: Job) -> tuple[str, ...]:
    """What of the output stands in the accounts as a step of all records, because they may fail there."""
    return (OUTPUT_STEP,) if job.output.format == "datacomp" else ()


def export(driver: Driver, job: Job, planned: Plan, parts: tuple[PartRef, ...]) -> list[Committed]:
    """Writes the shards into the work directory; they are published at the end of the job."""
    if job.output.format == "datacomp":
        return sort_uids(driver, parts)
    copies: dict[str, Any] = {"copies": list(planned.copies)} if planned.copies else {}
    measure = OperatorRef.of(Measure, **copies)
    measured = {"records": Input(parts, (measure,), columns=("bytes", *planned.copies))}
    bytes_ = _bytes(driver.run("sizes", measured))
    if job.output.shuffle == "global":
        parts, bytes_ = _shuffle(driver, planned, parts, job.run.seed, sum(bytes_))
        copies = {}  # which the shuffle has made
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
            copies,
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
        modality=job.modality,
        **_counting(job),
        **_embeddings(job),
    )
    return driver.run("export", {"records": Input(tuple(sources), (write,))})


def _bytes(commits: Sequence[Committed]) -> list[int]:
    return [committed.accounts["figures"].get(OUTPUT_BYTES, 0) for committed in commits]


def _counting(job: Job) -> dict[str, str]:
    """What the writing of shards needs in order to count tokens."""
    name = tokenizer_of(job)
    if name is None:
        return {}
    return {"tokenizer": name, "digest": tokenizer_digest(job), "directory": job.run.directory}


def _embeddings(job: Job) -> dict[str, Any]:
    """What the writing of shards needs in order to write embeddings beside them."""
    wanted = job.output.embeddings
    return {} if wanted is None else {"embeddings": {"layout": wanted.layout, "arrays": dict(wanted.arrays)}}


def plan_shards(sizes: Sequence[int], shard: int) -> list[list[tuple[int, int, int]]]:
    """The pieces (part, first byte, byte behind the last) of each shard: a cut every `shard` bytes.

    A record belongs to the shard in which its first byte falls. At least one shard, which may be empty.
    """
    ends = np.cumsum([0, *sizes])
    shards = []
    for low in range(0, max(1, int(ends[-1])), shard):
        high = low + shard
        first, behind = np.searchsorted(ends, low, "right") - 1, np.searchsorted(ends, high, "left")
        pieces = [
            (part, max(low - int(ends[part]), 0), min(high, int(ends[part + 1])) - int(ends[part]))
            for part in range(max(int(first), 0), min(int(behind), len(sizes)))
            if sizes[part]
        ]
        shards.append(pieces or [(0, 0, 0)])
    return shards


def _shard_part(
    number: int,
    pieces: Sequence[tuple[PartRef, int, int]],
    columns: Sequence[str],
    permuted: bool,
    job: Job,
    copies: Mapping[str, Any],
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
    plain = {"columns": list(columns), "shuffle": permuted, "seed": job.run.seed}
    arguments = {"pieces": described, **plain, **copies}
    lean = [
        {**piece, "layers": [[layer["checksum"], layer["optional"]] for layer in piece["layers"]]}
        for piece in described
    ]
    identity = hashlib.sha256(json.dumps({**arguments, "pieces": lean}, sort_keys=True).encode()).hexdigest()
    bytes_ = sum(stop - start for _, start, stop in pieces)
    return PartRef(number, reader=OperatorRef.of(ReadShard, **arguments), bytes=bytes_, identity=identity)


def _shuffle(
    driver: Driver, planned: Plan, parts: tuple[PartRef, ...], seed: int, size: int
) -> tuple[tuple[PartRef, ...], list[int]]:
    """The records, which are so many bytes, in random order; the parts, and the bytes of each."""
    partitions = partitions_for(size)
    copies: dict[str, Any] = {"copies": list(planned.copies)} if planned.copies else {}
    commits = driver.run(
        "shuffle",
        {
            "records": Input(
                parts, (OperatorRef.of(ShuffleKey, seed=seed, **copies),), "key", (*planned.output, "bytes")
            )
        },
        partitions=partitions,
        reduce=OperatorRef.of(CollectRecords, partitions=partitions),
    )
    shuffled = tuple(
        PartRef(
            c.task,
            (layer_of(c, "records"),),
            bytes=c.streams["records"].bytes,
            rows=c.streams["records"].rows,
        )
        for c in commits
    )
    return shuffled, _bytes(commits)


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
