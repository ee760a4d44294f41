"""The driver of a run: gives stages a directory and a fingerprint, resumes them, adds up their accounts."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ..schemas.progress import Listener
from .accounts import Accounts
from .commit import entry_path, read_entry
from .disk import DiskFull, FreeSpace, says_full
from .operator import signature
from .stage import (
    Committed,
    Engine,
    Input,
    Layer,
    OperatorRef,
    PartRef,
    Resources,
    Stage,
    TaskFailed,
    TaskId,
)
from .storage import Place, RemotePath, place
from .store import RunLock, put_new, remove, size_of, write_whole
from .task import spool_path

USED, FINISHED = "used.json", "finished.json"
QUESTIONS_AT_ONCE = 32
PARTITION_BYTES = 128 << 20  # what one reduce task should have to read


class Driver:
    """Runs the stages of one job in order.

    A stage lives in `<work>/stages/<number>-<name>-<fingerprint>`: the same operators over the same inputs
    find what an earlier run committed; anything else starts in a new directory.
    """

    def __init__(
        self,
        work: Place,
        engine: Engine,
        lock: RunLock,
        listener: Listener,
        most_failed: int = 0,
        disk: FreeSpace | None = None,
    ) -> None:
        self._work, self._engine, self._lock = work, engine, lock
        self.listener = listener
        self._most_failed, self._disk = most_failed, disk or FreeSpace((), 0)
        self._used = UsedStages(work, lock.run)
        self.failed: dict[TaskId, str] = {}  # parts of the input that were given up, as the job allows
        self._number = 0
        self._on: str | None = None
        self._resources = Resources()
        self.accounts = Accounts()
        self.ledgers: dict[TaskId, list[str]] = {}  # ingest part -> ledger streams, in the order of steps
        self.ledger_rows = 0
        self.published: dict[str, Place | bytes] = {}  # beside the shards, by name in the output

    def run(
        self,
        name: str,
        inputs: Mapping[str, Input],
        *,
        partitions: int = 0,
        reduce: OperatorRef | None = None,
        combine: OperatorRef | None = None,
        may_fail: bool = False,
    ) -> list[Committed]:
        """Runs a stage, or finds it done; returns its commits in the order of tasks.

        Raises TaskFailed where a part fails; with `may_fail`, where more fail than the job allows. Raises
        DiskFull where room runs out, whatever the job allows: that is no fault of the parts.
        """
        fingerprint = fingerprint_of(inputs, partitions, reduce, combine)
        directory = self._work / "stages" / f"{self._number:02d}-{name}-{fingerprint[:12]}"
        self._number += 1
        self._disk.check()
        if isinstance(directory, Path):
            directory.mkdir(parents=True, exist_ok=True)
        self._used.add(directory.name)
        stage = Stage(
            name,
            str(directory),
            inputs,
            partitions,
            reduce,
            combine,
            self._resources,
            self._on,
        )
        done = _usable_entries(stage)
        todo = [task for task in stage.tasks if task not in done]
        size = sum(part.bytes for source in inputs.values() for part in source.parts)
        self.listener.stage_started(name, len(stage.tasks), len(done), size)
        try:
            for committed in self._engine.run(stage, todo):
                done[committed.task] = committed
                self.listener.task_done(name, committed.rows_in, committed.rows_out, committed.bytes_in)
                self._disk.check()
        except TaskFailed as failure:
            if says_full(failure.failures):
                raise DiskFull(f"stage {name}: the disk under {self._local()} is full") from failure
            named = _named(failure, inputs)
            if not may_fail or len(self.failed | named) > self._most_failed:
                raise TaskFailed(name, named, failure.of_parts) from failure
            self.failed |= named
        self.listener.stage_finished(name)
        _remove_spool(stage, bool(todo))
        return self._roll_up(stage, [done[task] for task in sorted(done)])

    def _local(self) -> Place:
        """Where the run writes on this machine."""
        return self._work if isinstance(self._work, Path) else Path(tempfile.gettempdir())

    @contextmanager
    def placed(self, on: str | None, resources: Resources | None) -> Iterator[None]:
        """The stages of a step that names its engine, or what its tasks need."""
        before = self._on, self._resources
        self._on, self._resources = on, resources or Resources()
        try:
            yield
        finally:
            self._on, self._resources = before

    def _roll_up(self, stage: Stage, commits: list[Committed]) -> list[Committed]:
        directory = place(stage.directory)
        totals = Accounts()
        for committed in commits:
            totals.add(committed.accounts)
            ledger = committed.streams.get("ledger")
            if ledger is not None and ledger.rows:
                self.ledger_rows += ledger.rows
                self.ledgers.setdefault(committed.task, []).append(ledger.path)
        self.accounts.add(totals.as_dict())
        put_new(
            directory / "rollup.json",
            json.dumps(totals.as_dict(), ensure_ascii=False).encode(),
            self._lock.run,
        )
        return commits


def _remove_spool(stage: Stage, just_run: bool) -> None:
    """Removes what the map tasks of an exchange have left, once nobody reads it. Of a store, where each file
    costs a request, only where the stage has just run."""
    if stage.reduce is None:
        return
    spools = [
        spool_path(stage, name, part.index) for name, source in stage.inputs.items() for part in source.parts
    ]
    if spools and isinstance(spools[0], Path):
        shutil.rmtree(spools[0].parent, ignore_errors=True)
    elif just_run:
        with ThreadPoolExecutor(QUESTIONS_AT_ONCE, "thresher-spools") as pool:
            list(pool.map(remove, spools))


class UsedStages:
    """Writes down which stage directories the run uses: a list of names in `<work>/stages`."""

    def __init__(self, work: Place, run: str) -> None:
        self._stages, self._run = work / "stages", run
        self._names: list[str] = []

    def add(self, name: str) -> None:
        """Notes a stage. The first of a run puts the list of the run before aside, if that one finished."""
        if not self._names:
            names = _read_names(self._stages / USED)
            if _is_finished(self._stages, names):
                write_whole(self._stages / FINISHED, json.dumps(names).encode(), self._run)
        self._names.append(name)
        write_whole(self._stages / USED, json.dumps(self._names).encode(), self._run)


def stages_in_use(work: Place) -> set[str]:
    """The stage directories of the last run and, where that did not finish, of the last one that did.

    Empty where neither is known.
    """
    stages = work / "stages"
    names = _read_names(stages / USED)
    return set(names) if _is_finished(stages, names) else {*names, *_read_names(stages / FINISHED)}


def _is_finished(stages: Place, names: list[str]) -> bool:
    """Whether a run is through: the ledger is its last stage."""
    return bool(names) and "-ledger-" in names[-1] and (stages / names[-1] / "rollup.json").is_file()


def _read_names(path: Place) -> list[str]:
    try:
        names: list[str] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return []
    return names


def _usable_entries(stage: Stage) -> dict[TaskId, Committed]:
    """What earlier runs committed, by task; an entry whose files are gone or cut is taken back: the task runs
    again."""
    directory = place(stage.directory)
    if isinstance(directory, RemotePath):
        # One question after the other would take longer than the work.
        with ThreadPoolExecutor(QUESTIONS_AT_ONCE, "thresher-entries") as pool:
            found = list(pool.map(partial(_usable_entry, directory), stage.tasks))
    else:
        found = [_usable_entry(directory, task) for task in stage.tasks]
    return {entry.task: entry for entry in found if entry is not None}


def _usable_entry(directory: Place, task: TaskId) -> Committed | None:
    entry = read_entry(directory, task)
    if entry is None or all(size_of(place(s.path)) == s.bytes for s in entry.streams.values()):
        return entry
    remove(entry_path(directory, task))
    return None


def _named(failure: TaskFailed, inputs: Mapping[str, Input]) -> dict[TaskId, str]:
    """The failures with what each part is called."""
    if not failure.of_parts:
        return failure.failures
    labels = {part.index: part.label for source in inputs.values() for part in source.parts if part.label}
    return {
        task: f"{labels[task]}: {why}" if task in labels else why for task, why in failure.failures.items()
    }


def fingerprint_of(
    inputs: Mapping[str, Input], partitions: int, reduce: OperatorRef | None, combine: OperatorRef | None
) -> str:
    """SHA-256 of what a stage computes from what; engine and workers stay out. Partitions, which follow from
    the size of the inputs, are in it because they say which rows are in which part."""
    described: dict[str, Any] = {
        name: {
            "parts": [_identity(part) for part in source.parts],
            "maps": [signature(ref) for ref in source.maps],
            "key": source.key,
            "columns": source.columns,
        }
        for name, source in inputs.items()
    }
    described = {
        "inputs": described,
        "partitions": partitions,
        "reduce": signature(reduce) if reduce else None,
        "combine": signature(combine) if combine else None,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _identity(part: PartRef) -> list[Any]:
    # A reader's arguments name places; what is found there is in `identity`.
    reader = [part.reader.name, signature(part.reader)[2], part.identity] if part.reader else None
    return [part.index, reader, [[layer.checksum, layer.columns, layer.optional] for layer in part.layers]]


def partitions_for(bytes_: int) -> int:
    """The number of partitions, a power of two, for an exchange of so many bytes."""
    wanted = max(1, -(-bytes_ // PARTITION_BYTES))
    return 1 << (wanted - 1).bit_length()


def layer_of(committed: Committed, stream: str, *, optional: bool = False) -> Layer:
    """The layer that a committed stream adds to a part."""
    file = committed.streams[stream]
    return Layer(file.path, file.checksum, file.columns, optional)
