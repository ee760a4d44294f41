"""Runs a job: freezes its input, walks its phases, checks the accounts, publishes the output."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..schemas.job import Job
from ..schemas.progress import Listener, Silent
from .accounts import Order, balance, totals
from .compiled import add_layer
from .disk import FreeSpace
from .driver import Driver, layer_of, partitions_for
from .engines.opening import Engines
from .export import export, output_steps, write_ledger
from .ingest import JobRefused, ingest
from .output_directory import Describe, OutputDirectory, Shard, put_together
from .planner import Branch, Phase, Plan, plan
from .probe import probe
from .scratch import in_use
from .stage import Committed, Input, OperatorRef, PartRef, Parts
from .steps.download import DOWNLOADS
from .steps.reading import CountRepeated, Keep, source_layers, stream_part
from .storage import Place, RemotePath, StorageError, place
from .store import RunLock, put_new
from .upload import Upload


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves: the manifest's totals, the shards, where they are, and how long it took.

    `failed` names the parts of the input that were given up, within what `run.max_failed_parts` allows: their
    records are not in the accounts.
    """

    totals: dict[str, Any]
    shards: Sequence[Shard]
    output: str
    seconds: float
    failed: Mapping[int, str]


def run_job(
    job: Job,
    *,
    limit: int | None = None,
    listener: Listener | None = None,
    allow_code: bool = False,
    describe: Describe | None = None,
) -> RunResult:
    """Runs a job that `check` has accepted, or goes on with it where an earlier run ended.

    `limit` takes a quick look: only so many records of the input, into `<output>/limit-<n>`. `describe` makes
    further files of the output out of the manifest.
    Raises JobRefused, TaskFailed (some parts could not be processed), AccountsError, StorageError, and
    KeyboardInterrupt, after which the same call goes on.
    """
    began = time.monotonic()
    listener = listener or Silent()
    output, lock_directory = place(job.output.path), place(job.run.work)
    work = lock_directory
    if limit is not None:
        output, work = output / f"limit-{limit}", work / f"limit-{limit}"
    for folder in (output, work):
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
    disk = _disks(work, output, job.run.min_free)
    disk.check()
    planned = plan(job, allow_code)
    lock = RunLock(lock_directory)
    engines = Engines(job, lock.run, planned.kernels)
    with in_use():
        try:
            _look_around(lock, lock_directory, listener)
            lock.sweep(work)
            publisher = _publisher(output, work, lock_directory, lock.run)
            publisher.check()
            with probe(work, lock.run) as found:
                engines.check(found)
            first = not (work / "sources.json").is_file()
            parts = ingest(job, planned.branches, work, limit, listener, lock.run)
            if first:
                _warn_of_space(disk, parts, job, listener)
            driver = Driver(work, engines, lock, listener, job.run.max_failed_parts, disk)
            result = _Run(job, planned, driver).run(parts)
            whole = put_together(job, *result, driver.published, describe)
            publisher.publish(whole.contents, listener)
            totals = whole.manifest["totals"]
            return RunResult(totals, whole.shards, str(output), time.monotonic() - began, driver.failed)
        finally:
            engines.close()
            lock.close()


def _publisher(output: Place, work: Place, lock_directory: Place, run: str) -> OutputDirectory | Upload:
    if isinstance(output, Path):
        return OutputDirectory(output, work, run)
    lock = lock_directory / "runs" / "publishing" if isinstance(lock_directory, Path) else None
    return Upload(output, _owner(lock_directory), lock)


def _owner(work: Place) -> str:
    """What names the runs of a work directory to others that write to the same output."""
    path = work / "stages" / "owner"
    try:
        put_new(path, uuid.uuid4().hex.encode(), "")
        return path.read_bytes().decode()
    except StorageError as error:
        raise JobRefused(f"run.work: {error.filename}: {error.strerror}") from error


def _disks(work: Place, output: Place, least: int) -> FreeSpace:
    here = [folder for folder in (work, output) if isinstance(folder, Path)]
    passing = Path(tempfile.gettempdir()) if isinstance(work, RemotePath) else None
    return FreeSpace(here, least, passing)


def _look_around(lock: RunLock, work: Place, listener: Listener) -> None:
    """Raises JobRefused where the work directory is being cleaned; tells of other runs, which are no harm."""
    others = lock.others()
    if any(name.startswith("clean") for name in others):
        raise JobRefused(f"{work}: is being cleaned; wait for it, or name another run.work")
    if others:
        listener.note(f"{work}: another run is at work here; both will end with the same output")


def _warn_of_space(disk: FreeSpace, sources: Sequence[Parts], job: Job, listener: Listener) -> None:
    everything = [part for parts in sources for part in parts]
    doubt = disk.doubt(everything, job.output.shuffle == "global")
    if doubt is not None:
        listener.note(doubt)


class _Run:
    """One walk through the phases of a plan."""

    def __init__(self, job: Job, planned: Plan, driver: Driver) -> None:
        self._job, self._plan, self._driver = job, planned, driver
        self._ids: list[PartRef] = []
        self._containers: list[str] = []

    def run(
        self, sources: Sequence[Parts]
    ) -> tuple[list[Committed], list[Committed], list[str], dict[str, Any]]:
        """Shards, ledger parts, container streams and totals, from the parts of each branch."""
        parts: Parts = ()
        for branch, its in zip(self._plan.branches, sources, strict=True):
            parts += self._walk(branch.phases, its, branch)
        parts = self._walk(self._plan.phases, parts)
        self._count_ids()
        shards = export(self._driver, self._job, self._plan, parts)
        ledgers = write_ledger(self._driver, [part.index for part in parts], self._job.run.ledger)
        branches = tuple((branch.reading, *branch.steps) for branch in self._plan.branches)
        order = Order(branches, (*self._plan.steps, *output_steps(self._job)))
        balance(self._driver.accounts, order, self._driver.ledger_rows)
        written = sum(committed.streams["shard"].rows for committed in shards)
        summary = totals(self._driver.accounts, order, written)
        if self._driver.failed:
            summary["failed_parts"] = {str(part): why for part, why in sorted(self._driver.failed.items())}
        return shards, ledgers, self._containers, summary

    def _walk(self, phases: Sequence[Phase], parts: Parts, branch: Branch | None = None) -> Parts:
        for phase in phases:
            parts = self._map(phase, parts, branch)
            for step in phase.corpus:
                with self._driver.placed(step.on, step.resources):
                    parts = step.run(self._driver, parts)
        return parts

    def _map(self, phase: Phase, parts: Parts, branch: Branch | None) -> Parts:
        first = phase.reads_source
        stream, columns = ("records", phase.keeps) if first else ("alive", phase.keeps)
        payload = "image" if self._job.modality == "image-text" else "text"
        sources = source_layers(parts, payload) if first and payload not in phase.edits else None
        if sources is not None:
            columns = tuple(name for name in columns if name != payload)
        measured = self._plan.weighed if first or phase.edits else ()
        missing = branch.missing if branch is not None and first else {}
        keep = OperatorRef.of(Keep, stream=stream, columns=columns, measured=measured, missing=dict(missing))
        operators = (*phase.operators, keep)
        with self._driver.placed(phase.on, phase.resources):
            commits = self._driver.run(
                phase.name,
                {"records": Input(parts, operators, columns=None if first else phase.reads)},
                may_fail=first,
            )
        for committed in commits:
            if DOWNLOADS in committed.streams:
                name = f"{DOWNLOADS}/part-{committed.task:05d}.parquet"
                self._driver.published[name] = place(committed.streams[DOWNLOADS].path)
        if first:
            parts = tuple(part for part in parts if part.index not in self._driver.failed)
            self._ids += [stream_part(c.task, c.streams["ids"]) for c in commits]
            self._containers += [
                c.streams["containers"].path for c in commits if c.streams["containers"].rows
            ]
            parts = tuple(
                replace(
                    part,
                    reader=None,
                    layers=sources[part.index] if sources else (),
                    rows=c.streams["records"].rows,
                    bytes=c.streams["records"].bytes,
                )
                for part, c in zip(parts, commits, strict=True)
            )
        for name in (stream, *phase.signal_streams):
            layers = [replace(layer_of(c, name), optional=name != stream) for c in commits]
            parts = add_layer(parts, layers)
        return parts

    def _count_ids(self) -> None:
        rows = sum(part.rows for part in self._ids)
        self._driver.run(
            "ids",
            {"ids": Input(tuple(self._ids), (), "key")},
            partitions=partitions_for(rows * 16),
            reduce=OperatorRef.of(CountRepeated),
        )
