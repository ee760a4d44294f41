"""The output of a job that only says which records were chosen: a DataComp subset."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence

from .driver import Driver, partitions_for
from .scratch import scratch
from .sinks import ShardInfo
from .sinks.datacomp import SUBSET, UIDS, subset_header
from .sinks.shard_file import ShardFile
from .stage import Committed, Input, OperatorRef, Parts
from .steps.reading import stream_part
from .steps.subset import UIDS_STREAM, ReadUids, SortUids
from .steps.writing import SHARD
from .store import at_hand


def sort_uids(driver: Driver, parts: Parts) -> list[Committed]:
    """The uids of all records, sorted over the partitions and in each."""
    read = {"records": Input(parts, (OperatorRef.of(ReadUids),), columns=("id", "source"))}
    streams = [(committed.task, committed.streams[UIDS_STREAM]) for committed in driver.run("uids", read)]
    rows = sum(stream.rows for _, stream in streams)
    sources = tuple(stream_part(task, stream) for task, stream in streams)
    return driver.run(
        "export",
        {UIDS_STREAM: Input(sources, (), "key")},
        partitions=partitions_for(rows * UIDS.itemsize),
        reduce=OperatorRef.of(SortUids),
    )


def write_subset(commits: Sequence[Committed]) -> ShardInfo:
    """Puts what `sort_uids` committed into one file of the scratch folder."""
    streams = [committed.streams[SHARD] for committed in commits]
    records = sum(stream.rows for stream in streams)
    file = ShardFile(scratch() / f"{uuid.uuid4().hex}-{SUBSET}")
    file.write(subset_header(records))
    for stream in streams:
        with at_hand(stream.path) as part, part.open("rb") as uids:
            shutil.copyfileobj(uids, file, 1 << 20)
    size, digest = file.commit()
    return ShardInfo(str(file.path), records, size, digest)
