"""The local engine: worker processes on this machine, no server."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import connection, parent_process
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from ...schemas.job import available_cpus
from ..probe import answer
from ..scratch import scratch
from ..stage import Committed, EngineError, Probe, Stage, TaskId
from ..storage import place
from .attempts import Attempts, Call, map_calls, reduce_calls, send_calls
from .threads import limit_threads

_starting = threading.Lock()  # threads that run jobs share one __main__


def _start_worker(threads: int) -> None:
    """No answer to Ctrl-C (the driver ends us), and no life without the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_threads(threads)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


@contextmanager
def _starting_workers() -> Iterator[None]:
    """Keeps new workers from running the user's script again: a task needs nothing of it.

    Ctrl-C waits until they are known to the pool, which has to end them; and the server that they are forked
    from, which inherits the mask, does not answer to it while it imports.
    """
    with _starting, _interrupts_wait():
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            sys.modules["__main__"] = main


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came and callable(before):
        before(*came[0])


class LocalEngine:
    """Runs tasks in `workers` processes.

    A worker that dies takes the pool with it: the pool is built again, and what had not committed runs
    again, one task at a time, so that a task that kills its worker is found and given up after three tries.
    """

    def __init__(self, workers: int, run: str, kernels: Sequence[str] = ()) -> None:
        self._workers, self._run = workers, run
        self._context = multiprocessing.get_context("forkserver")
        # Libraries are imported, and kernels compiled or loaded, once: in the server that workers fork from.
        rooms = "thresher.pipeline.engines"
        self._context.set_forkserver_preload([f"{rooms}.preload", *kernels, f"{rooms}.preload_kernels"])
        self._pool: ProcessPoolExecutor | None = None
        self._size = workers  # of the pool

    def check(self, probe: Probe) -> None:
        """See Engine.check. Workers are children of this process: what it reaches, they reach."""
        told = answer(probe)
        if told is not None:
            raise EngineError(told)

    def run(self, stage: Stage, todo: Sequence[TaskId]) -> Iterator[Committed]:
        """See Engine.run."""
        if not todo:
            return
        most = stage.resources.actors[1] if stage.resources.actors else self._workers
        self._resize(min(self._workers, most))
        try:
            yield from self._run_stage(stage, todo)
        finally:
            if stage.owns_model:
                self._drop_pool()  # and the memory that the model takes

    def _run_stage(self, stage: Stage, todo: Sequence[TaskId]) -> Iterator[Committed]:
        if stage.reduce is None:
            yield from self._complete(Attempts(stage.name, map_calls(stage, todo), of_parts=True))
            return
        if isinstance(place(stage.directory), Path):
            yield from self._exchange(stage, todo)
            return
        # Nobody else reads what is sent: it stays on this machine.
        with tempfile.TemporaryDirectory(prefix="spool-", dir=scratch(), ignore_cleanup_errors=True) as spool:
            yield from self._exchange(replace(stage, spool=spool), todo)

    def _exchange(self, stage: Stage, todo: Sequence[TaskId]) -> Iterator[Committed]:
        for _ in self._complete(Attempts(stage.name, send_calls(stage), of_parts=True)):
            pass
        yield from self._complete(Attempts(stage.name, reduce_calls(stage, todo), of_parts=False))

    def _resize(self, size: int) -> None:
        if size != self._size:
            self._drop_pool()
            self._size = size

    def _complete(self, attempts: Attempts) -> Iterator[Any]:
        suspects: list[Call] = []  # in flight when a worker died: they run alone
        running: dict[Future[Any], Call] = {}
        while True:
            while not suspects and len(running) < 2 * self._size:
                call = attempts.take()
                if call is None:
                    break
                self._submit(running, call)
            if suspects and not running:
                self._submit(running, suspects.pop())
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            broken = False
            for future in done:
                call = running.pop(future)
                error = future.exception()
                if error is None:
                    yield future.result()
                elif isinstance(error, BrokenProcessPool):
                    broken = True
                    if attempts.died(call):
                        suspects.append(call)
                elif attempts.raised(call, f"{type(error).__name__}: {error}"):
                    attempts.put_back(call)
            if broken:
                suspects.extend(call for call in running.values() if attempts.died(call))
                running.clear()
                self._drop_pool()
        attempts.end()

    def _submit(self, running: dict[Future[Any], Call], call: Call) -> None:
        if self._pool is None:
            threads = max(1, available_cpus() // self._size)
            self._pool = ProcessPoolExecutor(
                self._size, mp_context=self._context, initializer=_start_worker, initargs=(threads,)
            )
        try:
            with _starting_workers():
                running[self._pool.submit(call.work, *call.arguments, self._run)] = call
        except BrokenProcessPool:
            self._drop_pool()
            self._submit(running, call)

    def _drop_pool(self) -> None:
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Ends every worker at once: what they had not committed is not there."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            processes = list((pool._processes or {}).values())
            # Before the queues go: a worker that is just starting would miss their semaphores, and say so.
            for process in processes:
                process.kill()
            for process in processes:
                process.join()
            pool.shutdown(wait=True, cancel_futures=True)
