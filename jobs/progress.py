"""What a person sees while a job runs: bars on a terminal, plain lines elsewhere, JSON lines on request."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Final

from ..schemas.progress import Listener, Silent

_SECONDS_BETWEEN_LINES: Final = 10.0
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


@dataclass
class Tally:
    """What is known of a running stage. Records that an earlier run committed count as done, not as seen."""

    name: str
    tasks: int
    done: int
    resumed: int
    bytes: int
    started: float
    bytes_done: int = 0
    records_in: int = 0
    records_out: int = 0

    def kept(self) -> str:
        """The share of records that survived so far, or "" before the first."""
        return f"{100 * self.records_out / self.records_in:.1f} % kept" if self.records_in else ""

    def rate(self, now: float) -> str:
        """Records a second since the stage started, or "" before the first."""
        seconds = now - self.started
        return f"{self.records_in / seconds:,.0f} records/s" if self.records_in and seconds > 0 else ""

    def eta(self, now: float) -> str:
        """Time until the stage ends at its own pace so far, or "" before the first task."""
        fresh, left = self.done - self.resumed, self.tasks - self.done
        if fresh <= 0 or left <= 0:
            return ""
        return f"{duration((now - self.started) / fresh * left)} left"

    def told(self, now: float) -> str:
        """One line of all of it."""
        figures = [f"{self.done}/{self.tasks} tasks", counted(self.records_in, "record")]
        figures += [part for part in (self.kept(), self.rate(now), self.eta(now)) if part]
        return f"{self.name}: {', '.join(figures)}"


def counted(count: int, noun: str) -> str:
    """`1 task`, `1,000 tasks`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `3 s`, `2 min 5 s`, `1 h 4 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes with a decimal prefix: `1.5 GB`."""
    for unit in _UNITS[:-1]:
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {_UNITS[-1]}"


def listener(output: IO[str], *, quiet: bool = False, as_json: bool = False) -> Listener:
    """The listener that suits `output`: silent, JSON lines, bars on a terminal, or plain lines."""
    if as_json:
        return JsonLines(output)
    if quiet:
        return Silent()
    return Bars(output) if output.isatty() else PlainLines(output)


class Tallies(ABC):
    """Keeps the tally of each stage; a subclass shows them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.stages: dict[str, Tally] = {}

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None:
        tally = Tally(name, tasks, done, done, bytes, self._clock())
        self.stages[name] = tally
        self._started(tally)

    def task_done(self, name: str, records_in: int, records_out: int, bytes: int) -> None:
        tally = self.stages[name]
        tally.done += 1
        tally.records_in += records_in
        tally.records_out += records_out
        tally.bytes_done += bytes
        self._moved(tally)

    def stage_finished(self, name: str) -> None:
        self._finished(self.stages[name])

    @abstractmethod
    def note(self, message: str) -> None:
        """One sentence for the person."""

    @abstractmethod
    def _started(self, tally: Tally) -> None: ...

    @abstractmethod
    def _moved(self, tally: Tally) -> None: ...

    @abstractmethod
    def _finished(self, tally: Tally) -> None: ...


class PlainLines(Tallies):
    """A line when a stage starts and ends, and one every ten seconds in between."""

    def __init__(self, output: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._output = output
        self._last = clock()

    def _write(self, line: str) -> None:
        self._output.write(f"{line}\n")
        self._output.flush()
        self._last = self._clock()

    def note(self, message: str) -> None:
        self._write(message)

    def _started(self, tally: Tally) -> None:
        before = f", {tally.done} done before" if tally.done else ""
        self._write(f"{tally.name}: {counted(tally.tasks, 'task')}{before}, {size(tally.bytes)} to read")

    def _moved(self, tally: Tally) -> None:
        if self._clock() - self._last >= _SECONDS_BETWEEN_LINES:
            self._write(tally.told(self._clock()))

    def _finished(self, tally: Tally) -> None:
        now = self._clock()
        self._write(f"{tally.told(now)}, done in {duration(now - tally.started)}")


class JsonLines:
    """One JSON object a line for each event, without times, so that a program can follow the run."""

    def __init__(self, output: IO[str]) -> None:
        self._output = output

    def write(self, event: str, **fields: Any) -> None:
        """One event."""
        self._output.write(json.dumps({"event": event, **fields}, ensure_ascii=False) + "\n")
        self._output.flush()

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None:
        self.write("stage_started", stage=name, tasks=tasks, done=done, bytes=bytes)

    def task_done(self, name: str, records_in: int, records_out: int, bytes: int) -> None:
        self.write("task_done", stage=name, records_in=records_in, records_out=records_out, bytes=bytes)

    def stage_finished(self, name: str) -> None:
        self.write("stage_finished", stage=name)

    def note(self, message: str) -> None:
        self.write("note", message=message)


class Bars(Tallies):
    """A bar for each stage, drawn by rich."""

    def __init__(self, output: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        super().__init__(clock)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            console=Console(file=output),
        )
        self._bars: dict[str, Any] = {}
        self._running: set[str] = set()

    def note(self, message: str) -> None:
        self._progress.console.print(message, markup=False, highlight=False)

    def _started(self, tally: Tally) -> None:
        if not self._running:
            self._progress.start()
        self._running.add(tally.name)
        self._bars[tally.name] = self._progress.add_task(
            tally.name, total=tally.tasks, completed=tally.done, told=""
        )

    def _moved(self, tally: Tally) -> None:
        now = self._clock()
        told = "  ".join(part for part in (tally.rate(now), tally.kept(), tally.eta(now)) if part)
        self._progress.update(self._bars[tally.name], completed=tally.done, told=told)

    def _finished(self, tally: Tally) -> None:
        now = self._clock()
        parts = (tally.rate(now), tally.kept(), duration(now - tally.started))
        told = "  ".join(part for part in parts if part)
        self._progress.update(self._bars[tally.name], completed=tally.done, told=told)
        self._running.discard(tally.name)
        if not self._running:
            self.close()

    def close(self) -> None:
        """Gives the terminal back; needed when a run ends in the middle of a stage."""
        self._progress.stop()
        for bar in self._bars.values():
            self._progress.remove_task(bar)
        self._bars.clear()
