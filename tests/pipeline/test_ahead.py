"""Reading ahead: the same items in the same order, early, of bounded number, and no thread is left behind."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.pipeline.ahead import AHEAD, PATIENCE, ahead
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.operator import Operator, Output, Reader
from thresher.pipeline.stage import Input, OperatorRef, PartRef, Resources, Stage
from thresher.pipeline.task import map_task

SOON = 20.0  # seconds: far more than anything here takes, however busy the machine is


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "thresher-ahead"]


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SOON
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    assert threads() == []
    yield
    assert eventually(lambda: threads() == [])


@given(st.lists(st.integers()), st.integers(1, 6))
def test_the_items_are_the_same_in_the_same_order(items: list[int], most: int) -> None:
    assert list(ahead(iter(items), most)) == items


@given(st.integers(0, 12), st.integers(1, 6))
def test_an_error_comes_where_the_reading_met_it(before: int, most: int) -> None:
    def items() -> Iterator[int]:
        yield from range(before)
        raise OSError("the disk is gone")

    read = ahead(items(), most)
    assert [next(read) for _ in range(before)] == list(range(before))
    with pytest.raises(OSError, match="the disk is gone") as raised:
        next(read)
    assert "items" in {entry.name for entry in raised.traceback}, "the traceback does not say what was read"
    assert threads() == []


def test_an_error_that_is_no_exception_comes_too() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    read = ahead(items())
    assert next(read) == 1
    with pytest.raises(KeyboardInterrupt):
        next(read)


@pytest.mark.parametrize("most", [1, 2, AHEAD])
def test_no_more_items_are_read_than_may_be_held(most: int) -> None:
    begun = threading.Semaphore(0)
    count = 0

    def items() -> Iterator[int]:
        nonlocal count
        for number in range(50):
            count += 1
            begun.release()
            yield number

    read = ahead(items(), most)
    for asked in range(1, 20):
        assert next(read) == asked - 1
        # All that may be read is read while the one who asks does other things, and then nothing more.
        assert eventually(lambda: count == asked + most)  # noqa: B023
        time.sleep(0.005)
        assert count == asked + most
    read.close()


@pytest.mark.slow
def test_items_are_let_go_once_they_were_given() -> None:
    class Item:
        """Something that can be watched."""

    watched: list[weakref.ref[Item]] = []

    def items() -> Iterator[Item]:
        for _ in range(20):
            item = Item()
            watched.append(weakref.ref(item))
            yield item
            del item

    read = ahead(items(), 2)
    for _ in range(15):
        next(read)
        gc.collect()
        alive = sum(ref() is not None for ref in watched)
        assert alive <= 2 + 2, "more than those read ahead, the one given and the one being made"
    read.close()


def test_an_early_end_ends_the_thread_at_once() -> None:
    ended = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.set()

    read = ahead(items(), 2)
    next(read)
    (thread,) = threads()
    began = time.monotonic()
    read.close()
    assert time.monotonic() - began < PATIENCE
    assert not thread.is_alive()
    del read
    assert ended.wait(SOON), "the reader was not closed"


def test_an_iterator_that_is_forgotten_ends_its_thread() -> None:
    read = ahead(iter(range(1000)), 2)
    next(read)
    del read
    assert eventually(lambda: threads() == [])


def test_a_loop_that_breaks_off_ends_its_thread() -> None:
    def first() -> int:
        for item in ahead(iter(range(1000)), 2):
            return item
        raise AssertionError("there are items")

    assert first() == 0
    assert eventually(lambda: threads() == [])


def test_a_reader_that_waits_for_ever_does_not_keep_the_one_who_asks() -> None:
    goes_on = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        goes_on.wait(SOON)
        yield 2

    read = ahead(items())
    assert next(read) == 1
    (thread,) = threads()
    began = time.monotonic()
    read.close()
    assert time.monotonic() - began < PATIENCE + 5
    assert thread.is_alive()
    assert thread.daemon, "it would keep the process alive"
    goes_on.set()
    assert eventually(lambda: not thread.is_alive())


def test_the_next_item_is_read_while_one_is_worked_on() -> None:
    """Each side waits for the other to be at work: it would end in a failure if they took turns."""
    reading = [threading.Event() for _ in range(9)]
    working = [threading.Event() for _ in range(9)]

    def items() -> Iterator[int]:
        for number in range(8):
            reading[number].set()
            if number:
                assert working[number - 1].wait(SOON), f"item {number} was read before there was work"
            yield number
        reading[8].set()

    for number in ahead(items()):
        working[number].set()
        assert reading[number + 1].wait(SOON), f"item {number + 1} was not read while {number} was worked on"


BATCH = pa.record_batch({"position": pa.array([0], pa.uint64())})
MEETING = threading.Barrier(2)


class Meets(Operator):
    """Works on a batch only while the next one is being read."""

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        if batch.column("position")[0].as_py() < 3:
            MEETING.wait(SOON)
        return batch


class Alone(Reader):
    """Writes to the output that the operators write to: so only one thread may do both."""

    def read(self, part: int, out: Output) -> Iterator[pa.RecordBatch]:
        assert threading.current_thread() is threading.main_thread()
        out.emit("seen", BATCH)
        yield BATCH


def stage(directory: str, part: PartRef, maps: tuple[OperatorRef, ...], owns_model: bool) -> Stage:
    resources = Resources(actors=(1, 1)) if owns_model else Resources()
    return Stage("score", directory, {"in": Input((part,), maps)}, resources=resources)


def test_a_task_that_owns_a_model_reads_while_it_scores(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(part: PartRef, columns: object) -> Iterator[pa.RecordBatch]:
        for number in range(4):
            if number:
                MEETING.wait(SOON)
            yield pa.record_batch({"position": pa.array([number], pa.uint64())})

    monkeypatch.setattr("thresher.pipeline.task.read_part", read)
    directory = tmp_path_factory.mktemp("stage")
    committed = map_task(stage(str(directory), PartRef(0), (OperatorRef.of(Meets),), True), "run")
    assert (committed.rows_in, committed.rows_out) == (4, 4)


@pytest.mark.parametrize("owns_model", [False, True])
def test_a_reader_that_writes_reads_in_the_thread_of_its_task(
    tmp_path_factory: pytest.TempPathFactory, owns_model: bool
) -> None:
    directory = tmp_path_factory.mktemp("stage")
    part = PartRef(0, reader=OperatorRef.of(Alone))
    committed = map_task(stage(str(directory), part, (), owns_model), "run")
    assert committed.streams["seen"].rows == 1


def test_an_operator_that_fails_ends_the_reading_of_its_part(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(part: PartRef, columns: object) -> Iterator[pa.RecordBatch]:
        while True:
            yield BATCH

    def fail(self: Meets, batch: pa.RecordBatch, out: PartOutput) -> pa.RecordBatch:
        raise ValueError("the model is confused")

    monkeypatch.setattr("thresher.pipeline.task.read_part", read)
    monkeypatch.setattr(Meets, "apply", fail)
    directory = tmp_path_factory.mktemp("stage")
    with pytest.raises(ValueError, match="the model is confused"):
        map_task(stage(str(directory), PartRef(0), (OperatorRef.of(Meets),), True), "run")
    assert eventually(lambda: threads() == [])
