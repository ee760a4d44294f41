"""Checks that a scorer keeps the promises of its contract; for the tests of whoever writes one."""

from __future__ import annotations

import functools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..schemas.contracts import Assets, Scorer
from ..schemas.records import POSITION, TEXT
from .assets import LocalAssets

Columns = dict[str, pa.Array]

# What a corpus holds sooner or later.
ODD_TEXTS: Final = (
    "A plain sentence of some ordinary words, and then a second one.",
    "",
    None,
    " \n\t\r ",
    "\0",
    "line one\nline two\r\nline three\rline four\u2028line five",
    "naïve café 漢字かな 한국어 ไทย 🦄👩‍👩‍👧 e\u0301\u202e",
    "\ufeff\ufffd\U0010ffff",
    "</s> __label__x <unk> %s {} \\n",
    "x" * 50_000,
    "word " * 10_000,
    "123 456.789 -1e9",
)

# Every record has these.
_NEVER_NULL: Final = frozenset({"id", "source", POSITION})

# Run by another Python process: it has nothing but names, plain values and files.
_ELSEWHERE: Final = """
import pickle, sys
import pyarrow as pa
build, assets, batch = pickle.load(sys.stdin.buffer)
scorer = build()
scorer.open(assets)
pickle.dump(scorer.score(scorer.prepare(batch)), sys.stdout.buffer)
"""


def check_scorer(
    scorer: Scorer | Callable[[], Scorer],
    examples: pa.RecordBatch | None = None,
    *,
    assets: Assets | None = None,
) -> None:
    """Raises AssertionError, saying what to mend, if a scorer breaks a promise of the contract `Scorer`.

    `scorer`: a class without arguments, `functools.partial(Class, name=value, …)`, or an instance that is not
    open; a partial or a class is checked more closely, since a job builds scorers from names and plain
    values.
    `examples`: a batch with the columns that the scorer reads, at least 2 rows; by default odd and ordinary
    texts for the columns of a text record. `assets`: where its models are; by default the working directory
    and THRESHER_MODELS.

    It builds the scorer several times, in another process too, and scores the examples: whole, sliced, row by
    row, in another order, without rows, with null and with 64-bit strings. Numbers may differ by the scorer's
    `tolerance`; everything else must be equal.
    """
    build = _factory(scorer)
    assets = assets or LocalAssets([Path()])
    first = build()
    _check_declarations(first)
    batch = _examples(first) if examples is None else examples
    missing = [name for name in first.inputs if name not in batch.schema.names]
    assert not missing, (
        f"the examples have no column {', '.join(missing)}; pass `examples` with {first.inputs}"
    )
    assert len(batch) > 1, "pass at least two rows as examples"
    batch = batch.select(list(dict.fromkeys(first.inputs)))  # a job hands over no other columns
    opens = _count_opens(first)
    used = _Recorded(assets)
    first.open(used)
    _check_assets(first, used)
    scores = _scored(first, batch, "the examples")
    _check_shapes(first, batch, scores)
    _check_repetition(build, first, assets, batch, scores)
    assert opens() == 1, "score called open; the model is to be loaded once, by the runner, in open"
    _check_elsewhere(build, first, assets, batch, scores)


def _factory(scorer: Scorer | Callable[[], Scorer]) -> Callable[[], Scorer]:
    if isinstance(scorer, Scorer):
        try:
            frozen = pickle.dumps(scorer)
        except Exception as error:
            raise AssertionError(
                f"this instance cannot be pickled ({error}); load nothing before open, or pass the class or "
                "functools.partial(Class, …) instead of an instance"
            ) from error
        return functools.partial(pickle.loads, frozen)
    if isinstance(scorer, functools.partial):
        arguments = {"args": list(scorer.args), **scorer.keywords}
        for name, value in arguments.items():
            assert _is_plain(value), (
                f"argument {name} is {value!r}: a job builds a scorer from plain values (numbers, strings, "
                "lists, mappings); take one of those and make the rest of it in open"
            )
    return scorer


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _check_declarations(scorer: Scorer) -> None:
    assert isinstance(scorer, Scorer), f"{type(scorer).__name__} does not derive from thresher.scorers.Scorer"
    version = getattr(scorer, "version", None)
    assert type(version) is int, (
        f"version is {version!r}; write `version = 1` in the class, and count it up later"
    )
    inputs = getattr(scorer, "inputs", None)
    named = isinstance(inputs, tuple) and all(isinstance(name, str) for name in inputs)
    assert named, f'inputs is {inputs!r}; write a tuple of column names, such as `inputs = ("text",)`'
    tolerance = scorer.tolerance
    assert isinstance(tolerance, float | int), f"tolerance is {tolerance!r}; write a number"
    assert 0 <= tolerance < float("inf"), f"tolerance is {tolerance}; write a difference of 0 or more"
    assert isinstance(scorer.assets, tuple), f"assets is {scorer.assets!r}; write a tuple of file names"
    outputs = scorer.outputs
    assert isinstance(outputs, dict), f"outputs is {outputs!r}; return a dict of column name to Arrow type"
    assert outputs, "outputs is empty; name at least one column"
    for name, dtype in outputs.items():
        assert isinstance(name, str), f"outputs names a column {name!r}; column names are strings"
        assert isinstance(dtype, pa.DataType), (
            f"outputs gives {name} as {dtype!r}; write a type such as pa.float32()"
        )


def _examples(scorer: Scorer) -> pa.RecordBatch:
    rows = len(ODD_TEXTS)
    columns: dict[str, pa.Array] = {}
    for name in scorer.inputs:
        if name == POSITION:
            columns[name] = pa.array(np.arange(rows, dtype=np.uint64))
        elif name in _NEVER_NULL:
            columns[name] = pa.array([f"example-{row}" for row in range(rows)])
        elif name in TEXT.names:
            texts = ODD_TEXTS if pa.types.is_string(TEXT.field(name).type) else [0.5, None] * (rows // 2)
            columns[name] = pa.array(texts, TEXT.field(name).type)
    return pa.RecordBatch.from_pydict(columns)


def _count_opens(scorer: Scorer) -> Callable[[], int]:
    count, original = 0, scorer.open

    def counted(assets: Assets) -> None:
        nonlocal count
        count += 1
        original(assets)

    scorer.open = counted  # type: ignore[method-assign]
    return lambda: count


class _Recorded:
    def __init__(self, assets: Assets) -> None:
        self.names: set[str] = set()
        self._assets = assets

    def locate(self, name: str) -> Path:
        self.names.add(name)
        return self._assets.locate(name)


def _check_assets(scorer: Scorer, used: _Recorded) -> None:
    hidden = sorted(used.names - set(scorer.assets))
    assert not hidden, (
        f"open reads {', '.join(hidden)}, which assets does not name ({scorer.assets!r}); a change of that "
        "file would go unseen"
    )


def _scored(scorer: Scorer, batch: pa.RecordBatch, what: str) -> Columns:
    try:
        found = scorer.score(scorer.prepare(batch))
    except Exception as error:
        raise AssertionError(
            f"score raises {type(error).__name__} on {what}: {error}; a record without a score is null"
        ) from error
    assert isinstance(found, dict), (
        f"score returns {type(found).__name__}; return a dict of column name to pa.Array"
    )
    wanted = scorer.outputs
    assert set(found) == set(wanted), f"score returns {sorted(found)}, outputs promises {sorted(wanted)}"
    for name, column in found.items():
        assert isinstance(column, pa.Array), (
            f"{name} is {type(column).__name__}; make it a pa.Array with pa.array(…)"
        )
        assert column.type == wanted[name], f"{name} is {column.type}, outputs promises {wanted[name]}"
        assert len(column) == len(batch), (
            f"{name} has {len(column)} values for {len(batch)} records on {what}"
        )
        if pa.types.is_floating(column.type):
            assert not pc.any(pc.is_nan(column)).as_py(), (
                f"{name} is NaN on {what}; null means that there is no score"
            )
    return found


def _check_shapes(scorer: Scorer, batch: pa.RecordBatch, scores: Columns) -> None:
    rows = len(batch)
    _scored(scorer, batch.slice(0, 0), "a batch without rows")
    singles = [_scored(scorer, batch.slice(row, 1), f"row {row} alone") for row in range(rows)]
    _compare(scorer, scores, _joined(singles), "row by row", "a score may depend on its own record only")
    cut = rows // 2
    halves = [_scored(scorer, half, "half a batch") for half in (batch.slice(0, cut), batch.slice(cut))]
    _compare(scorer, scores, _joined(halves), "in two halves", "a score may depend on its own record only")
    order = np.random.default_rng(0).permutation(rows)
    mixed = _scored(scorer, batch.take(pa.array(order)), "the examples in another order")
    back = pa.array(np.argsort(order))
    restored = {name: column.take(back) for name, column in mixed.items()}
    _compare(scorer, scores, restored, "in another order", "score must not depend on the order of records")
    wide = [
        column.cast(pa.large_string()) if pa.types.is_string(column.type) else column
        for column in batch.columns
    ]
    large = pa.RecordBatch.from_arrays(wide, names=batch.schema.names)
    _compare(
        scorer,
        scores,
        _scored(scorer, large, "large_string"),
        "as large_string",
        "take pa.large_string() as well",
    )
    nothing = {
        name: batch.column(name).slice(0, 2) if name in _NEVER_NULL else pa.nulls(2, batch.column(name).type)
        for name in batch.schema.names
    }
    _scored(scorer, pa.RecordBatch.from_pydict(nothing), "records whose columns are all null")


def _check_repetition(
    build: Callable[[], Scorer], scorer: Scorer, assets: Assets, batch: pa.RecordBatch, scores: Columns
) -> None:
    again = _scored(scorer, batch, "the examples, again")
    _compare(
        scorer, scores, again, "a second time", "score must not keep anything from one batch to the next"
    )
    fresh = build()
    assert fresh.outputs == scorer.outputs, (
        "outputs of two instances differ; it may depend on the arguments only"
    )
    fresh.open(assets)
    _compare(
        scorer, scores, _scored(fresh, batch, "the examples"), "by a second instance", "fix every random seed"
    )


def _check_elsewhere(
    build: Callable[[], Scorer], scorer: Scorer, assets: Assets, batch: pa.RecordBatch, scores: Columns
) -> None:
    told = "it must be built by name from plain values, in a module that can be imported"
    try:
        package = pickle.dumps((build, assets, batch))
    except Exception as error:
        raise AssertionError(f"the scorer cannot be sent to another process: {error}; {told}") from error
    # The path of this process, so that a module beside the test is found; another hash seed on purpose.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "4242"}
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE], input=package, capture_output=True, env=environment, check=False
    )
    reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    assert done.returncode == 0, f"the scorer fails in another process: {reason}; {told}"
    _compare(scorer, scores, pickle.loads(done.stdout), "in another process", "use no hash() and no time")


def _joined(parts: list[Columns]) -> Columns:
    return {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}


def _compare(scorer: Scorer, wanted: Columns, found: Mapping[str, pa.Array], how: str, hint: str) -> None:
    for name, column in wanted.items():
        other = found[name]
        differs = pc.xor(pc.is_null(column), pc.is_null(other))
        if pa.types.is_floating(column.type) and scorer.tolerance > 0:
            distance = pc.abs(pc.subtract(column.cast(pa.float64()), other.cast(pa.float64())))
            unequal = pc.greater(distance, scorer.tolerance)
        else:
            unequal = pa.array([a != b for a, b in zip(column.to_pylist(), other.to_pylist(), strict=True)])
        rows = np.flatnonzero(pc.or_(differs, pc.fill_null(unequal, False)).to_numpy(zero_copy_only=False))
        if len(rows):
            row = int(rows[0])
            values = f"is {column[row].as_py()!r}, and {other[row].as_py()!r} when scored {how}"
            raise AssertionError(f"{name} of row {row} {values}; {hint}")
