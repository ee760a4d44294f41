"""datatrove: its four MinHash stages on one worker. Usage: minhash_datatrove.py DOCS.parquet ANSWER.json"""

import json
import resource
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter


def cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def run(logs, tasks, *steps):
    LocalPipelineExecutor(logging_dir=logs, tasks=tasks, workers=1, pipeline=list(steps)).run()


docs = Path(sys.argv[1])
everything = pq.read_table(docs, columns=["id"]).column("id").to_pylist()
read = ParquetReader(str(docs.parent), glob_pattern=docs.name)

with tempfile.TemporaryDirectory() as folder:
    start = cpu_seconds()
    run(f"{folder}/1", 1, read, MinhashDedupSignature(f"{folder}/signatures"))
    run(f"{folder}/2", 14, MinhashDedupBuckets(f"{folder}/signatures", f"{folder}/buckets"))
    run(f"{folder}/3", 1, MinhashDedupCluster(f"{folder}/buckets", f"{folder}/remove"))
    run(f"{folder}/4", 1, read, MinhashDedupFilter(f"{folder}/remove"), ParquetWriter(f"{folder}/kept"))
    seconds = cpu_seconds() - start
    kept = set(pq.read_table(f"{folder}/kept", columns=["id"]).column("id").to_pylist())

removed = [id_ for id_ in everything if id_ not in kept]
with open(sys.argv[2], "w") as answer:
    json.dump({"version": version("datatrove"), "seconds": seconds, "removed": removed}, answer)
