"""A device without memory left: smaller portions, the same scores, one warning, and an error that teaches."""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import corpus
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_engine import inline_tasks
from thresher.pipeline.accounts import Accounts
from thresher.pipeline.operator import Operator, Output
from thresher.pipeline.stage import StreamRef, TaskFailed
from thresher.pipeline.steps.refining import Refine
from thresher.pipeline.steps.scoring import GROW_AFTER, Portions, Score, is_out_of_memory

NARROW = '''\
import pyarrow as pa
import pyarrow.compute as pc
from thresher.schemas.contracts import EDIT, Refiner
from thresher.scorers import Scorer


class OutOfMemoryError(RuntimeError):
    """Called as PyTorch's own."""


class Narrow(Scorer):
    """Characters and words of a text, on a device with room for so many records at a time."""

    version = 1
    inputs = ("text",)
    calls = []

    def __init__(self, room):
        self._room = room

    @property
    def outputs(self):
        return {"characters": pa.float32(), "words": pa.list_(pa.string())}

    def score(self, batch):
        Narrow.calls.append(len(batch))
        if len(batch) > self._room:
            raise OutOfMemoryError("no room on the device")
        text = batch.column("text")
        length = pc.utf8_length(text)
        length = pc.if_else(pc.equal(length, 3), None, length)
        return {"characters": length.cast(pa.float32()), "words": pc.utf8_split_whitespace(text)}


class Cut(Refiner):
    """Takes the first byte of each text away, on such a device."""

    version = 1
    inputs = ("text",)

    def __init__(self, room):
        self._room = room

    def edits(self, batch):
        if len(batch) > self._room:
            raise OutOfMemoryError("no room on the device")
        one = [{"start": 0, "stop": 1, "replacement": ""}]
        return pa.array([one if text else [] for text in batch.column("text").to_pylist()], pa.list_(EDIT))
'''


class Kept(Output):
    """Holds what operators write."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.streams: dict[str, list[pa.RecordBatch]] = {}

    def emit(self, stream: str, batch: pa.RecordBatch) -> None:
        self.streams.setdefault(stream, []).append(batch)

    def new_file(self, name: str) -> Path:
        raise AssertionError("an edit or a score makes no file")

    def attach(self, stream: str, file: StreamRef) -> None:
        raise AssertionError("an edit or a score makes no file")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a scorer and a refiner whose device is small."""
    made = tmp_path_factory.mktemp("narrow")
    (made / "narrow.py").write_text(NARROW)
    return made


def scorer(folder: Path, room: int, on_null: str = "drop") -> Score:
    name = "narrow:Narrow"
    return Score("length", name, {"room": room}, "length", on_null, str(folder), allow_code=True)


def batch_of(size: int, first: int = 0) -> pa.RecordBatch:
    numbers = range(first, first + size)
    return pa.record_batch(
        {
            "position": pa.array(numbers, pa.uint64()),
            "id": pa.array([f"d{number}" for number in numbers], pa.string()),
            "source": pa.array(["here"] * size, pa.string()),
            "text": pa.array(["x " * (number % 5) + "x" for number in numbers], pa.string()),
        }
    )


class Told(logging.Handler):
    """Holds what was said to thresher's logger."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.levelname} {record.getMessage()}")

    def __enter__(self) -> Told:
        logging.getLogger("thresher").addHandler(self)
        return self

    def __exit__(self, *exception: object) -> None:
        logging.getLogger("thresher").removeHandler(self)


def applied(operator: Operator, sizes: list[int]) -> tuple[list[pa.RecordBatch], Any, Any]:
    """What an operator makes of batches of these sizes: what passes, the streams and the accounts."""
    out = Kept()
    passed = [operator.apply(batch_of(size, 100 * number), out) for number, size in enumerate(sizes)]
    return passed, out.streams, out.accounts.as_dict()


@settings(max_examples=15)
@given(st.lists(st.integers(0, 16), min_size=1, max_size=6), st.integers(1, 18))  # fewer than GROW_AFTER
def test_scores_do_not_depend_on_how_much_the_device_has_room_for(
    narrow: Path, sizes: list[int], room: int
) -> None:
    wide, small = scorer(narrow, 1000), scorer(narrow, room)
    calls = type(small.scorer).calls  # type: ignore[attr-defined]
    expected = applied(wide, sizes)
    del calls[:]
    with Told() as told:
        assert applied(small, sizes) == expected
    largest = max(sizes)
    assert len(told.said) == (largest > room)
    if largest > room:
        first = next(size for size in sizes if size > room)
        assert told.said == [
            f"WARNING step length: {first} records at a time need more memory than its device has; "
            f"going on with {next(size for size in halvings(first) if size <= room)}"
        ]
    too_large = [size for size in calls if size > room]
    # Once found, the size stays: what does not fit is tried on the way down and never again.
    assert too_large == sorted(set(too_large), reverse=True)
    assert sum(size for size in calls if size <= room) == sum(sizes)


def halvings(size: int) -> Iterator[int]:
    while size:
        yield size
        size //= 2


@pytest.mark.slow
@settings(max_examples=15)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 45))
def test_edits_do_not_depend_on_how_much_the_device_has_room_for(
    narrow: Path, sizes: list[int], room: int
) -> None:
    wide, small = (
        Refine("cut", "narrow:Cut", {"room": each}, None, str(narrow), allow_code=True)
        for each in (1000, room)
    )
    with Told() as told:
        assert applied(small, sizes) == applied(wide, sizes)
    assert len(told.said) == (max(sizes) > room)


def test_a_record_that_does_not_fit_alone_ends_the_task_and_says_what_to_do(narrow: Path) -> None:
    with Told() as told, pytest.raises(RuntimeError) as raised:
        applied(scorer(narrow, 0), [7])
    message = str(raised.value)
    assert message.startswith("step length: record d0 alone needs more memory than the device has left")
    assert "no room on the device" in message
    assert "let fewer workers share the device" in message
    assert told.said == []


def test_another_error_of_a_scorer_is_told_as_it_is() -> None:
    def work(batch: pa.RecordBatch) -> int:
        calls.append(len(batch))
        raise ValueError("shapes do not match")

    calls: list[int] = []
    with pytest.raises(ValueError, match="shapes do not match"):
        Portions("length").run(work, batch_of(8))
    assert calls == [8]


def test_larger_portions_are_tried_again_once_many_have_fitted() -> None:
    """A batch of very long records, and then ordinary ones, of which ten fit."""

    def work(batch: pa.RecordBatch) -> None:
        calls.append(len(batch))
        if len(batch) > room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    portions, calls, room = Portions("length"), [], 1
    portions.run(work, batch_of(16))
    assert portions.rows == 1
    room = 10
    with Told() as told:
        for _ in range(100):
            portions.run(work, batch_of(16))
    assert told.said == [], "it was told before"
    assert portions.rows == 8
    del calls[:]
    for _ in range(100):
        portions.run(work, batch_of(16))
    assert calls.count(16) == len([size for size in calls if size <= room]) // GROW_AFTER == 2
    assert set(calls) == {8, 16}


def test_what_the_failed_attempt_held_is_gone_before_caches_are_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Tensor:
        """Takes memory as long as somebody holds it."""

    def work(batch: pa.RecordBatch) -> int:
        if len(batch) > 2:
            tensor = Tensor()
            held.append(weakref.ref(tensor))
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return len(batch)

    held: list[weakref.ref[Tensor]] = []
    freed: list[int] = []

    def empty_cache() -> None:
        freed.append(sum(ref() is not None for ref in held))

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(empty_cache=empty_cache)))
    assert Portions("length").run(work, batch_of(8)) == [2, 2, 2, 2]
    assert freed == [0, 0]


def as_class(name: str, base: type[Exception]) -> type[Exception]:
    return type(name, (base,), {})


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


ONNX = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running MatMul node. "
)
OUT_OF_MEMORY = {
    "torch": as_class("OutOfMemoryError", RuntimeError)("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "torch, a subclass": as_class("Mine", as_class("OutOfMemoryError", RuntimeError))(""),
    "older torch": RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 15.78 GiB total)"),
    "torch, asynchronous": RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported"),
    "torch on a Mac": RuntimeError("MPS backend out of memory (MPS allocated: 5.05 GB)"),
    "torch, cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    "cupy": as_class("OutOfMemoryError", MemoryError)("out of memory to allocate 512 bytes (total 0 bytes)"),
    "jax": as_class("XlaRuntimeError", RuntimeError)(
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 11.95MiB."
    ),
    "tensorflow": as_class("ResourceExhaustedError", Exception)("OOM when allocating tensor with shape[8]"),
    "onnxruntime": as_class("RuntimeException", Exception)(
        ONNX + "bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 765249024"
    ),
    "cuda": RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY"),
    "raised from one": caused(ValueError("the classifier failed"), RuntimeError("HIP out of memory.")),
}
OTHER = {
    "the host's": MemoryError(),
    "Arrow's": pa.ArrowMemoryError("malloc of size 4096 failed"),
    "a quota": RuntimeError("RESOURCE_EXHAUSTED: Quota exceeded for requests per minute"),
    "another of CUDA": RuntimeError("CUDA error: an illegal memory access was encountered"),
    "another of ONNX Runtime": as_class("RuntimeException", Exception)(ONNX + "invalid dimensions"),
    "raised from another": caused(ValueError("the classifier failed"), KeyError("label")),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_it_is_known_how_libraries_say_that_a_device_has_no_memory_left(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHER.values(), ids=OTHER)
def test_no_other_error_is_taken_for_a_device_without_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_job_gives_the_same_on_a_small_device(tmp_path: Path, narrow: Path) -> None:
    (tmp_path / "narrow.py").write_text((narrow / "narrow.py").read_text())
    corpus.write(tmp_path / "in.jsonl", corpus.rows(30))

    def outcome(room: int) -> tuple[pa.Table, list[dict[str, Any]]]:
        described = {
            "name": "small",
            "input": str(tmp_path / "in.jsonl"),
            "steps": [
                {"score": {"narrow:Narrow": {"room": room}}, "as": "long"},
                {"select": {"top": 0.5, "by": "long_characters"}},
            ],
            "output": {"path": str(tmp_path / f"out-{room}")},
            "run": {"directory": str(tmp_path)},
        }
        with inline_tasks():
            result = thresher.run(thresher.load(described, allow_code=True), allow_code=True)
        shards = [pq.read_table(Path(result.output) / shard.path) for shard in result.shards]
        return pa.concat_tables(shards), pq.read_table(Path(result.output) / "ledger").to_pylist()

    with Told() as told:
        expected = outcome(1000)
        assert told.said == []
        assert outcome(4) == expected
    assert len(told.said) == 1
    assert expected[0].num_rows > 0
    assert expected[1] != []
    with pytest.raises(TaskFailed, match=r"record \w+ alone needs more memory than the device has left"):
        outcome(0)
