"""Runs a whole job in a process of its own, and tells its time and its memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

COMMAND = [sys.executable, "-m", "thresher"]


@dataclass(frozen=True)
class Finished:
    """How a run ended, and what it left. `megabytes`: the most that one of its processes held."""

    status: int
    told: str
    seconds: float
    megabytes: float
    output: Path

    @property
    def totals(self) -> dict[str, Any]:
        return json.loads((self.output / "manifest.json").read_text())["totals"]

    @property
    def kept(self) -> dict[str, dict[str, Any]]:
        """The written records by id."""
        shards = json.loads((self.output / "manifest.json").read_text())["shards"]
        tables = [pq.read_table(self.output / shard["path"]) for shard in shards]
        return {row["id"]: row for table in tables for row in table.to_pylist()}

    @property
    def lost(self) -> dict[str, str]:
        """Of each record that did not come through: its id, and verdict and reason."""
        rows = pq.read_table(self.output / "ledger").to_pylist()
        return {row["id"]: f"{row['verdict']}: {row['reason']}" for row in rows}

    @property
    def containers(self) -> list[str]:
        """Why files and WARC records could not be read."""
        return sorted(pq.read_table(self.output / "containers.parquet").column("reason").to_pylist())


def run(job: dict[str, Any], folder: Path, timeout: float = 120.0) -> Finished:
    """Runs a job, with one worker unless it says how many, under `thresher run`."""
    output = Path(job["output"]["path"])
    file = folder / f"{output.name}.json"
    file.write_text(json.dumps({**job, "run": {"workers": 1, **job.get("run", {})}}))
    began, most = time.monotonic(), 0.0
    error = folder / f"{output.name}.stderr"
    with error.open("w") as stderr:
        process = subprocess.Popen([*COMMAND, "run", str(file), "--quiet"], stderr=stderr)
        try:
            while process.poll() is None:
                most = max(most, _largest(process.pid))
                assert time.monotonic() - began < timeout, f"not done after {timeout} seconds"
                time.sleep(0.03)
        finally:
            _end(process)
    seconds = time.monotonic() - began
    return Finished(process.returncode, error.read_text(), seconds, most, output)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


def _largest(pid: int) -> float:
    """The largest high-water mark among a process and all that it started, in megabytes."""
    try:
        everyone = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return 0.0
    return max(map(_high_water, everyone), default=0.0)


def _high_water(pid: int) -> float:
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1000 if found else 0.0
