"""Progress on a terminal, in a log, and for a program."""

from __future__ import annotations

import io
import json

import pytest
from thresher.jobs.progress import Bars, JsonLines, PlainLines, duration, listener, size
from thresher.schemas.progress import Listener, Silent


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def follow(watcher: Listener, clock: Clock, seconds: float) -> None:
    watcher.stage_started("read", tasks=4, done=1, bytes=2_500_000)
    for _ in range(3):
        clock.now += seconds
        watcher.task_done("read", records_in=1000, records_out=250, bytes=800_000)
    watcher.stage_finished("read")
    watcher.note("a worker was restarted")


def test_a_log_gets_a_line_when_a_stage_starts_and_ends() -> None:
    output, clock = io.StringIO(), Clock()
    follow(PlainLines(output, clock), clock, seconds=1)
    assert output.getvalue().splitlines() == [
        "read: 4 tasks, 1 done before, 2.5 MB to read",
        "read: 4/4 tasks, 3,000 records, 25.0 % kept, 1,000 records/s, done in 3 s",
        "a worker was restarted",
    ]


def test_a_long_stage_is_reported_every_ten_seconds_with_what_is_left() -> None:
    output, clock = io.StringIO(), Clock()
    follow(PlainLines(output, clock), clock, seconds=6)
    lines = output.getvalue().splitlines()
    # The second task is the first after ten seconds: 2 of 3 fresh tasks in 12 seconds leave 6.
    assert lines[1] == "read: 3/4 tasks, 2,000 records, 25.0 % kept, 167 records/s, 6 s left"
    assert len(lines) == 4


def test_a_program_gets_one_json_object_a_line() -> None:
    output, clock = io.StringIO(), Clock()
    follow(JsonLines(output), clock, seconds=1)
    events = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [event["event"] for event in events] == [
        "stage_started", "task_done", "task_done", "task_done", "stage_finished", "note",
    ]  # fmt: skip
    assert events[1] == {
        "event": "task_done", "stage": "read", "records_in": 1000, "records_out": 250, "bytes": 800_000,
    }  # fmt: skip


def test_a_terminal_gets_a_bar_for_each_stage() -> None:
    output, clock = Terminal(), Clock()
    bars = Bars(output, clock)
    follow(bars, clock, seconds=1)
    bars.stage_started("[red]export", tasks=2, done=0, bytes=0)
    bars.close()
    shown = output.getvalue()
    assert "4/4" in shown
    assert "1,000 records/s" in shown
    assert "25.0 % kept" in shown
    assert "a worker was restarted" in shown
    assert "[red]export" in shown


def test_the_listener_suits_where_it_writes() -> None:
    assert isinstance(listener(Terminal()), Bars)
    assert isinstance(listener(io.StringIO()), PlainLines)
    assert isinstance(listener(Terminal(), quiet=True), Silent)
    assert isinstance(listener(Terminal(), quiet=True, as_json=True), JsonLines)


def test_a_stage_without_tasks_is_no_reason_to_fail() -> None:
    for watcher in (PlainLines(io.StringIO()), Bars(Terminal()), JsonLines(io.StringIO()), Silent()):
        watcher.stage_started("empty", tasks=0, done=0, bytes=0)
        watcher.stage_finished("empty")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (125, "2 min 5 s"), (3840, "1 h 4 min")],
)
def test_durations_are_told_in_two_units_at_most(seconds: float, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(("count", "told"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2e15, "2.0 PB")])
def test_sizes_are_told_with_decimal_prefixes(count: float, told: str) -> None:
    assert size(count) == told
