"""Checks that a selector keeps the promises of its contract; for the tests of whoever writes one."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ..schemas.contracts import Again, Decision, Selector
from ..schemas.records import POSITION
from .selector_contract import DECIDED, check_decided, check_declared, check_outcome
from .testing_examples import NEVER_NULL, example_batch

__all__ = ["check_selector"]

MAX_PASSES: Final = 100
ORDERS: Final = 8  # that are tried: sums of few floats are often the same
Build = Callable[[], Selector]
Parts = Sequence[Sequence[pa.RecordBatch]]  # of each part its batches

# Run by another Python process: it has nothing but names and plain values.
_ELSEWHERE: Final = """
import pickle, sys
from thresher.scorers.testing_selectors import chosen
found = pickle.dumps(chosen(*pickle.load(sys.stdin.buffer)))
sys.stdout.flush()
sys.stdout.buffer.write(b"--choice--" + found)
"""
_MARK: Final = b"--choice--"  # a library may print before it


def check_selector(
    selector: Selector | Build,
    examples: pa.RecordBatch | None = None,
    *,
    columns: Mapping[str, pa.DataType] | None = None,
) -> None:
    """Raises AssertionError, saying what to mend, if a selector breaks a promise of the contract `Selector`.

    `selector`: a class without arguments, `functools.partial(Class, name=value, …)`, or an instance.
    `examples`: a batch with the columns that the selector reads, at least 3 rows; its `position` is made
    where there is none. By default odd and ordinary values for the columns of a record, and for what
    `columns` names, by their types. Examples of your own are better: some that are kept and some that are
    not.

    It lets new instances choose over the examples, cut into batches and parts in several ways, in another
    order, merged from the left and from the right, with parts without rows, without any record, with nulls
    alone, and in another process; what is decided must be the same, as JSON and for each record. Whether a
    state stays small, however many the records, it cannot tell.
    """
    build = _factory(selector)
    first = build()
    assert isinstance(first, Selector), (
        f"{type(first).__name__} does not derive from thresher.scorers.Selector"
    )
    problem = check_declared(first)
    assert not problem, problem
    batch = _examples(first, examples, columns or {})
    whole = [[batch]]
    found = chosen(build, whole, batch)
    told = "the next pass, merge and decide run in other workers: hand on what they need in the state or in "
    _same(found, chosen(lambda: first, whole, batch), "by one instance", f"{told}the values of finish")
    _check_cuts(build, batch, found)
    _check_order(build, batch, found)
    _check_decide(build, batch, found)
    for rows, what in ((batch.slice(0, 0), "no record at all"), (_nulls(batch), "records that are null")):
        _check_unusual(build, rows, what)
    _check_elsewhere(build, batch, found)


def chosen(
    build: Build, parts: Parts, batch: pa.RecordBatch, from_right: bool = False
) -> tuple[str, dict[str, list[Any]]]:
    """The decision over `parts` as JSON, and what `decide` then says of `batch`, each step by a new instance.

    Raises AssertionError where a method returns what is no state, outcome or choice.
    """
    learned: Again | None = None
    for _ in range(MAX_PASSES):
        states = [_state_of(build(), part, learned) for part in parts]
        merge = functools.partial(_merged, build(), learned)
        state = (
            functools.reduce(lambda later, earlier: merge(earlier, later), reversed(states))
            if from_right
            else functools.reduce(merge, states)
        )
        outcome = _call(build(), "finish", state, learned)
        problem = check_outcome(outcome, learned)
        assert not problem, problem
        text = json.dumps(outcome.values, sort_keys=True, ensure_ascii=False)
        if isinstance(outcome, Decision):
            return text, _decided(build(), batch, Decision(json.loads(text)))
        learned = Again(json.loads(text))
    raise AssertionError(f"finish still asks for another pass after {MAX_PASSES}; narrow down faster")


def _state_of(selector: Selector, part: Sequence[pa.RecordBatch], learned: Again | None) -> pa.Table:
    state = _state(selector, "start", learned)
    for batch in part:
        state = _state(selector, "update", state, batch, learned)
    return _sent(state)


def _merged(selector: Selector, learned: Again | None, a: pa.Table, b: pa.Table) -> pa.Table:
    return _state(selector, "merge", a, b, learned)


def _state(selector: Selector, method: str, *arguments: Any) -> pa.Table:
    state = _call(selector, method, *arguments)
    assert isinstance(state, pa.Table), f"{method} returns {type(state).__name__}; return a pa.Table"
    return state


def _call(selector: Selector, method: str, *arguments: Any) -> Any:
    try:
        return getattr(selector, method)(*arguments)
    except Exception as error:
        raise AssertionError(f"{method} raises {type(error).__name__}: {error}") from error


def _sent(state: pa.Table) -> pa.Table:
    """The state as it arrives in another worker."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, state.schema) as writer:
        writer.write_table(state)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def _decided(selector: Selector, batch: pa.RecordBatch, decision: Decision) -> dict[str, list[Any]]:
    found = _call(selector, "decide", batch, decision)
    problem = check_decided(found, len(batch), selector.max_copies)
    assert not problem, problem
    for field in DECIDED:
        kind = found.schema.field(field.name).type
        assert kind == field.type, f"decide returns {field.name} as {kind}; make it {field.type}"
    said = [reason for keep, reason in _pairs(found) if keep and reason is not None]
    assert not said, f"decide gives a reason, {said[0]!r}, for a record that it keeps; it is null there"
    return {name: found.column(name).to_pylist() for name in DECIDED.names}


def _pairs(found: pa.RecordBatch) -> list[tuple[bool, str | None]]:
    return list(zip(found.column("keep").to_pylist(), found.column("reason").to_pylist(), strict=True))


def _factory(selector: Selector | Build) -> Build:
    if isinstance(selector, Selector):
        try:
            frozen = pickle.dumps(selector)
        except Exception as error:
            raise AssertionError(
                f"this instance cannot be pickled ({error}); pass the class or functools.partial(Class, …)"
            ) from error
        return functools.partial(pickle.loads, frozen)
    if isinstance(selector, functools.partial):
        try:
            json.dumps([selector.args, selector.keywords])
        except (TypeError, ValueError) as error:
            raise AssertionError(
                f"a job builds a selector from plain values (numbers, strings, lists, mappings): {error}"
            ) from error
    return selector


def _examples(
    selector: Selector, examples: pa.RecordBatch | None, columns: Mapping[str, pa.DataType]
) -> pa.RecordBatch:
    names = tuple(dict.fromkeys(selector.inputs))
    read = tuple(name for name in names if name != POSITION)
    batch = example_batch(read or ("id",), columns) if examples is None else examples
    assert len(batch) > 2, "pass at least three rows as examples"
    if POSITION in names and POSITION not in batch.schema.names:
        batch = batch.append_column(POSITION, pa.array(range(len(batch)), pa.uint64()))
    missing = [name for name in names if name not in batch.schema.names]
    assert not missing, (
        f"the examples have no column {', '.join(missing)}; name its type in `columns`, or pass `examples` "
        f"with {names}"
    )
    return batch.select(list(names))  # a job hands over no other columns


def _check_cuts(build: Build, batch: pa.RecordBatch, found: Any) -> None:
    cut, rows = len(batch) // 2, len(batch)
    halves = [batch.slice(0, cut), batch.slice(cut)]
    singles = [batch.slice(row, 1) for row in range(rows)]
    none = batch.slice(0, 0)
    told = "count in whole numbers, and leave nothing of an earlier batch out of the state"
    _same(found, chosen(build, [halves], batch), "when a part comes in two batches", told)
    _same(found, chosen(build, [singles], batch), "when a part comes row by row", told)
    told = "merge must give the state of the rows of both, and count in whole numbers"
    _same(found, chosen(build, [[half] for half in halves], batch), "over two parts", told)
    parts = [[single] for single in singles]
    _same(found, chosen(build, parts, batch), "over a part for each row", told)
    told = "merge must be associative: merge(merge(a, b), c) and merge(a, merge(b, c)) are one state"
    _same(found, chosen(build, parts, batch, from_right=True), "when parts are merged from the right", told)
    told = "the state of no rows must change nothing"
    for empty in ([], [none]):
        with_empty: Parts = [empty, *([half] for half in halves), empty]
        _same(found, chosen(build, with_empty, batch), "with parts without rows", told)


def _check_order(build: Build, batch: pa.RecordBatch, found: Any) -> None:
    cut = len(batch) // 3
    told = "sort what the decision lists, and let ids rather than the first to come decide between equals"
    swapped = [[batch.slice(cut)], [batch.slice(0, cut)]]
    _same(found, chosen(build, swapped, batch), "with parts in another order", told)
    random = np.random.default_rng(0)
    for _ in range(ORDERS):
        mixed = batch.take(pa.array(random.permutation(len(batch))))
        told_too = f"{told}; sum in whole numbers"
        _same(found, chosen(build, [[mixed]], batch), "in another order", told_too)


def _check_decide(build: Build, batch: pa.RecordBatch, found: Any) -> None:
    decision = Decision(json.loads(found[0]))
    told = "decide may look at a record and at the decision, and at no other record"
    for what, size in (("of single records", 1), ("of half a batch", len(batch) // 2)):
        pieces = [
            _decided(build(), batch.slice(start, size), decision) for start in range(0, len(batch), size)
        ]
        joined = {name: list(chain.from_iterable(piece[name] for piece in pieces)) for name in DECIDED.names}
        _same(found, (found[0], joined), what, told)
    _decided(build(), batch.slice(0, 0), decision)


def _nulls(batch: pa.RecordBatch) -> pa.RecordBatch:
    given = (*NEVER_NULL, POSITION)
    columns = {
        name: batch.column(name) if name in given else pa.nulls(len(batch), batch.column(name).type)
        for name in batch.schema.names
    }
    return pa.RecordBatch.from_pydict(columns)


def _check_unusual(build: Build, rows: pa.RecordBatch, what: str) -> None:
    try:
        chosen(build, [[rows]], rows)
    except AssertionError as error:
        raise AssertionError(f"on {what}, which a corpus may be, {error}") from error


def _same(expected: Any, found: Any, what: str, told: str) -> None:
    assert found[0] == expected[0], (
        f"the decision differs {what}: {_short(found[0])}, and {_short(expected[0])} before; {told}"
    )
    for name in DECIDED.names:
        for row, (one, other) in enumerate(zip(expected[1][name], found[1][name], strict=True)):
            assert one == other, f"{name} of row {row} is {one!r}, and {other!r} {what}; {told}"


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def _check_elsewhere(build: Build, batch: pa.RecordBatch, found: Any) -> None:
    told = "it must be built by name from plain values, in a module that can be imported"
    try:
        package = pickle.dumps((build, [[batch]], batch))
    except Exception as error:
        raise AssertionError(f"the selector cannot be sent to another process: {error}; {told}") from error
    # The path of this process, so that a module beside the test is found; another hash seed and another
    # folder on purpose.
    found_in = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    environment = os.environ | {"PYTHONPATH": found_in, "PYTHONHASHSEED": "4242"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _ELSEWHERE],
            input=package,
            capture_output=True,
            env=environment,
            cwd=folder,
            check=False,
        )
    reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    assert done.returncode == 0, f"the selector fails in another process: {reason}; {told}"
    elsewhere = pickle.loads(done.stdout[done.stdout.index(_MARK) + len(_MARK) :])
    _same(found, elsewhere, "in another process", "use no hash(), no order of a set, no time")
