"""Trains a filter network on the pairs that came through, and looks for the swapped captions with it.

Nobody tells the network which captions are swapped, and it learns from them as from all others. They are few,
and say nothing that fits any other picture, so it finds them out before it knows them by heart: that is why
it is trained for 10 epochs and not for 100.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from defects import Row

HERE = Path(__file__).parent
SWAPPED = "swapped captions"
EPOCHS = 10
LEAST_AUC = 0.85  # on pairs held out
LEAST_FOUND = 0.6  # of the swapped captions
LEAST_RIGHT = 0.4  # of what is dropped


@dataclass(frozen=True)
class Found:
    """The network's figure, and the rows that the job has dropped by its scores."""

    auc: float
    dropped: frozenset[int]


def find(folder: Path) -> Found:
    """Trains the network on the first job's shards and runs the second job on them."""
    for name in ("filter", "filtered", "work-filter"):
        shutil.rmtree(folder / name, ignore_errors=True)
    shards = str(folder / "output" / "shard-*.tar")
    arguments = ["--pairs", shards, "--out", str(folder / "filter"), "--epochs", str(EPOCHS), "--json"]
    trained = json.loads(_thresher("train", "clip", *arguments, capture=True))
    job = folder / "filter.yaml"
    shutil.copy(HERE / "filter.yaml", job)
    _thresher("run", str(job))
    rows = rows_of_ids(folder / "output")
    ledger = pq.read_table(folder / "filtered" / "ledger", columns=["id", "step"]).to_pylist()
    dropped = frozenset(rows[row["id"]] for row in ledger if row["step"] == "swapped")
    return Found(trained["auc"], dropped)


def rows_of_ids(output: Path) -> dict[str, int]:
    """The row in the list of each pair in the shards, by the pair's id."""
    found: dict[str, int] = {}
    for shard in sorted(output.glob("shard-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    content = tar.extractfile(member)
                    assert content is not None
                    described: Mapping[str, Any] = json.load(content)
                    found[described["id"]] = int(described["source"].rpartition(":")[2])
    return found


def judge(rows: Sequence[Row], kept: set[int], found: Found) -> tuple[list[str], list[str]]:
    """What there is to tell of the filter, and what is not as it has to be."""
    swapped = {number for number in kept if rows[number].kind == SWAPPED}
    caught = swapped & found.dropped
    recall = len(caught) / max(1, len(swapped))
    precision = len(caught) / max(1, len(found.dropped))
    lines = [
        f"on pairs that it has not seen, the filter network has an AUC of {found.auc:.3f}",
        f"it drops {len(found.dropped)} of {len(kept)} pairs, and with them {len(caught)} of {len(swapped)} "
        f"swapped captions: recall {recall:.0%}, precision {precision:.0%}",
    ]
    bars = [
        ("AUC", found.auc, LEAST_AUC),
        ("recall of swapped captions", recall, LEAST_FOUND),
        ("precision of what is dropped", precision, LEAST_RIGHT),
    ]
    return lines, [f"{what} is {value:.2f}, below {least}" for what, value, least in bars if value < least]


def _thresher(*arguments: str, capture: bool = False) -> str:
    """Runs a command. What it prints of its progress is seen either way."""
    command = [str(Path(sys.executable).with_name("thresher")), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE if capture else None, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout or ""
