"""Dolma: its Bloom filter over whole documents. Usage: exact_dolma.py DOCS.jsonl.gz ANSWER.json

DOCS has `id` and `text`. Dolma reads the text itself as the key, keeps a Bloom filter for as many documents
at one false positive in a million, and writes an attribute for each document; nothing is removed yet.
"""

import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ATTRIBUTE = "duplicate"


def settings(folder, count):
    return {
        "documents": [f"{folder}/documents/*.jsonl.gz"],
        "work_dir": {"input": f"{folder}/in", "output": f"{folder}/out"},
        "dedupe": {"name": "exact", "documents": {"attribute_name": ATTRIBUTE, "key": "$.text"}},
        "bloom_filter": {
            "file": f"{folder}/bloom.bin",
            "read_only": False,
            "estimated_doc_count": count,
            "desired_false_positive_rate": 1e-6,
        },
        "processes": 1,
    }


def marked(attributes):
    """The ids of the documents that Dolma takes for duplicates."""
    with gzip.open(attributes, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row["id"] for row in rows if row["attributes"].get(ATTRIBUTE)]


source = Path(sys.argv[1])
with gzip.open(source, "rb") as lines:
    documents = sum(1 for _ in lines)

with tempfile.TemporaryDirectory() as folder:
    for name in ("documents", "in", "out"):
        (Path(folder) / name).mkdir()
    shutil.copyfile(source, Path(folder) / "documents" / "docs.jsonl.gz")
    config = Path(folder) / "config.json"
    config.write_text(json.dumps(settings(folder, documents)))
    command = [Path(sys.executable).with_name("dolma"), "-c", config, "dedupe"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    removed = marked(Path(folder) / "attributes" / "exact" / "docs.jsonl.gz")

with open(sys.argv[2], "w") as answer:
    json.dump(
        {"version": version("dolma"), "seconds": used.ru_utime + used.ru_stime, "removed": removed}, answer
    )
