"""Draws pictures with captions, serves them as the web does, runs a job on them and says what it saw; then
trains a filter network on the pairs that came through, and finds swapped captions with it.

    python docs/demo/images.py FOLDER [--rows 2000] [--no-filter]

The pictures are drawn by a program, each defect is planted and written down (`FOLDER/input/truth.json`), and
the server listens on 127.0.0.1 alone. The jobs are images.yaml and filter.yaml. Where a kind that must be
caught is not, or sound pairs are lost, or the filter does not find what it should, the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filtering
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from defects import COPIES, FEWEST, GOOD, KINDS, Row, plant

HERE = Path(__file__).parent
LEAST_CAUGHT = {"near copy": 0.95}  # of each kind that needs not be caught to the last
MOST_LOST = 0.02  # of what has to come through


@dataclass(frozen=True)
class Fate:
    """What became of a row that did not come through."""

    step: str
    reason: str

    def __str__(self) -> str:
        return self.step if self.step == self.reason else f"{self.step}: {self.reason}"


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """The port of a server of a folder, in a process of its own."""
    command = [sys.executable, str(HERE / "server.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def write_list(rows: Sequence[Row], port: int, path: Path) -> None:
    """The list of addresses as such lists are published: URL and TEXT, nothing of what was planted."""
    urls = [
        row.path
        if "://" in row.path or row.path.startswith("data:")
        else f"http://127.0.0.1:{port}{row.path}"
        for row in rows
    ]
    pq.write_table(pa.table({"URL": urls, "TEXT": [row.caption for row in rows]}), path)


def run(folder: Path, port: int) -> None:
    """Runs the job from nothing."""
    for name in ("output", "work"):
        shutil.rmtree(folder / name, ignore_errors=True)
    job = folder / "job.yaml"
    shutil.copy(HERE / "images.yaml", job)
    steps = yaml.safe_load(job.read_text(encoding="utf-8"))["steps"]
    number = next(number for number, step in enumerate(steps) if "download" in step)
    allowed = f"steps.{number}.download.allow=[127.0.0.1:{port}]"
    command = [str(Path(sys.executable).with_name("thresher")), "run", str(job), "--set", allowed]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise SystemExit(status)


def fates(output: Path) -> dict[int, Fate]:
    """What the ledger says, by the number of the row in the list."""
    table = pq.read_table(output / "ledger", columns=["source", "step", "reason", "verdict"])
    return {
        int(row["source"].rpartition(":")[2]): Fate(row["step"], row["reason"] or row["verdict"])
        for row in table.to_pylist()
    }


def came_through(output: Path) -> set[int]:
    """The rows whose pairs are in the shards."""
    found = set()
    for shard in sorted(output.glob("shard-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    content = tar.extractfile(member)
                    assert content is not None
                    found.add(int(json.load(content)["source"].rpartition(":")[2]))
    return found


def judge(rows: Sequence[Row], kept: set[int], lost: dict[int, Fate]) -> tuple[list[str], list[str]]:
    """A line for each kind, and what is not as it has to be."""
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    originals: dict[int, int] = {}
    copies: defaultdict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        numbers[row.kind].append(number)
        if row.kind in COPIES:
            copies[row.picture].append(number)
        else:
            originals[row.picture] = number
    lines, wrong = [f"{'planted':31} {'rows':>5} {'caught':>6}  by"], []
    for name, kind in KINDS.items():
        if not kind.step:
            continue
        seen = []
        for number in numbers[name]:
            pair = [number]
            if name in COPIES:  # one of the two has to go
                pair.append(originals[rows[number].picture])
            gone = [one for one in pair if one not in kept]
            seen.append(lost[gone[0]] if gone else None)
        by = Counter(str(fate) for fate in seen if fate)
        caught = sum(fate is not None and fate.step == kind.step for fate in seen)
        told = ", ".join(f"{what} {count}" for what, count in by.most_common())
        lines.append(f"{name:31} {len(seen):5} {caught:6}  {told}")
        if caught < LEAST_CAUGHT.get(name, 1) * len(seen):
            wrong.append(f"{name}: {caught} of {len(seen)} caught by {kind.step}")
    lines.append(f"\n{'has to come through':31} {'rows':>5} {'kept':>6}  lost to")
    for name in (GOOD, *(name for name, kind in KINDS.items() if not kind.step)):
        missing = [
            number
            for number in numbers[name]
            if number not in kept and not any(copy in kept for copy in copies[rows[number].picture])
        ]
        by = Counter(str(lost[number]) for number in missing)
        told = ", ".join(f"{what} {count}" for what, count in by.most_common())
        lines.append(
            f"{name:31} {len(numbers[name]):5} {len(numbers[name]) - len(missing):6}  {told}".rstrip()
        )
        if len(missing) > max(1, MOST_LOST * len(numbers[name])):
            wrong.append(f"{name}: {len(missing)} of {len(numbers[name])} lost")
    return lines, wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--rows", type=int, default=2000, help=f"of the list; {FEWEST} at least")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")
    parser.add_argument(
        "--no-filter", action="store_true", help="end after the first job; a network needs a long list"
    )
    options = parser.parse_args()
    began = time.monotonic()
    rows = plant(options.folder / "input", options.rows, options.seed)
    print(
        f"{len(rows)} rows; their pictures are drawn by a program ({time.monotonic() - began:.0f} s)",
        flush=True,
    )
    with serving(options.folder / "input") as port:
        print(f"serving them at http://127.0.0.1:{port}/", flush=True)
        write_list(rows, port, options.folder / "input" / "urls.parquet")
        began = time.monotonic()
        run(options.folder, port)
        took = time.monotonic() - began
    output = options.folder / "output"
    kept = came_through(output)
    lines, wrong = judge(rows, kept, fates(output))
    print("\n" + "\n".join(lines))
    shards = len(list(output.glob("shard-*.tar")))
    print(
        f"\n{len(kept)} drawn pictures with captions in {shards} shards in {output}; "
        f"the job took {took:.0f} s"
    )
    print(
        "Swapped captions look like any other to these steps: it takes a model that sees both to find them."
    )
    if not options.no_filter:
        began = time.monotonic()
        print("\na filter network learns from the pairs that came through, swapped ones too", flush=True)
        lines, missed = filtering.judge(rows, kept, filtering.find(options.folder))
        wrong += missed
        print("\n" + "\n".join(lines) + f"; training and the job took {time.monotonic() - began:.0f} s")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
