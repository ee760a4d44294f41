"""CPU seconds of each stage of a job, run in one process: where the time of a job goes.

    python benchmarks/stages.py job.yaml                 # a line for each stage
    python benchmarks/stages.py job.yaml --profile 25    # and the functions that took longest

The tasks are those of any engine, with all that they read, write, sync and commit; there are no worker
processes, and loading libraries and compiled kernels is left out: a run over one record comes first. `driver`
is what the driver itself does between tasks. Output and work go to a temporary folder, whatever the job says.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import json
import pstats
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import thresher
from thresher.pipeline import runner
from thresher.pipeline.engines import opening
from thresher.pipeline.stage import Committed, Probe, Stage, TaskId
from thresher.pipeline.task import map_task, reduce_task, spool_task
from thresher.schemas.job import Job

DRIVER = "driver"


class SynchronousEngine:
    """Runs each task where it is called, and adds up CPU seconds by stage."""

    seconds: ClassVar[defaultdict[str, float]] = defaultdict(float)

    def __init__(self, workers: int, run: str, kernels: Sequence[str] = ()) -> None:
        self._run = run
        for module in ("thresher.pipeline.engines.preload", *kernels):
            importlib.import_module(module)

    def check(self, probe: Probe) -> None:
        """See Engine.check; there is no worker but this process."""

    def run(self, stage: Stage, todo: Sequence[TaskId]) -> Iterator[Committed]:
        """See Engine.run; a task that fails ends the run."""
        sides = [
            stage.on_part(name, part)
            for name, source in stage.inputs.items()
            for part in source.parts
            if todo and (stage.reduce is not None or part.index in todo)
        ]
        if stage.reduce is None:
            for side in sides:
                yield self._timed(stage.name, partial(map_task, side, self._run))
            return
        for side in sides:
            self._timed(stage.name, partial(spool_task, side, self._run))
        for task in todo:
            yield self._timed(stage.name, partial(reduce_task, stage.on_partition(), task, self._run))

    def _timed(self, stage: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        try:
            return work()
        finally:
            self.seconds[stage] += time.process_time() - began

    def close(self) -> None:
        """There is nothing to end."""


def run(job: Job, folder: Path, profile: cProfile.Profile | None = None) -> dict[str, float]:
    """CPU seconds of each stage, and of the driver. Works in `folder`, which should be empty."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    opening.LocalEngine = SynchronousEngine  # type: ignore[assignment,misc]
    job = job.model_copy(
        update={
            "output": job.output.model_copy(update={"path": str(folder / "out")}),
            "run": job.run.model_copy(update={"work": str(folder / "work")}),
        }
    )
    runner.run_job(job, limit=1)
    SynchronousEngine.seconds.clear()
    began = time.process_time()
    if profile is not None:
        profile.runcall(runner.run_job, job)
    else:
        runner.run_job(job)
    total = time.process_time() - began
    stages = dict(SynchronousEngine.seconds)
    return {**stages, DRIVER: total - sum(stages.values())}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--profile", type=int, metavar="N", help="print the N functions that took longest")
    arguments = parser.parse_args()
    profile = cProfile.Profile() if arguments.profile else None
    with tempfile.TemporaryDirectory() as folder:
        seconds = run(thresher.load(arguments.job), Path(folder), profile)
    if arguments.json:
        print(json.dumps(seconds))
        return
    for stage, spent in seconds.items():
        print(f"{stage:60} {spent:8.3f} CPU s")
    print(f"{'all':60} {sum(seconds.values()):8.3f} CPU s")
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(arguments.profile)


if __name__ == "__main__":
    main()
