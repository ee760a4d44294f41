"""Checks that a scorer keeps the promises of its contract; for the tests of whoever writes one."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..schemas.contracts import AssetError, Assets, Scorer
from .assets import LocalAssets
from .testing_comparison import Columns, compare, joined, numbers_of
from .testing_examples import NEVER_NULL, ODD_TEXTS, example_batch

__all__ = ["ODD_TEXTS", "check_scorer"]


# What a column of a record may be called, less the name of the step before it.
_OUTPUT_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,60}")

# Run by another Python process: it has nothing but names, plain values and files.
_ELSEWHERE: Final = """
import pickle, sys
build, assets, batch = pickle.load(sys.stdin.buffer)
scorer = build()
scorer.open(assets)
found = pickle.dumps(scorer.score(scorer.prepare(batch)))
sys.stdout.flush()
sys.stdout.buffer.write(b"--scores--" + found)
"""
_MARK: Final = b"--scores--"  # a library may print before it


def check_scorer(
    scorer: Scorer | Callable[[], Scorer],
    examples: pa.RecordBatch | None = None,
    *,
    assets: Assets | None = None,
    columns: Mapping[str, pa.DataType] | None = None,
) -> None:
    """Raises AssertionError, saying what to mend, if a scorer breaks a promise of the contract `Scorer`.

    `scorer`: a class without arguments, `functools.partial(Class, name=value, …)`, or an instance that is not
    open; a partial or a class is checked more closely, since a job builds scorers from names and plain
    values.
    `examples`: a batch with the columns that the scorer reads, at least 2 rows; by default odd and ordinary
    texts and images for the columns of a record, and odd values for what `columns` names, by their types:
    signals and scores of earlier steps. `{"clip": pa.list_(pa.float16(), 512)}` is embeddings of 512 numbers.
    `assets`: where its models are; by default the working directory and THRESHER_MODELS.

    It builds the scorer several times, in another process too, and scores the examples: whole, sliced, row by
    row, in another order, without rows, with null and with 64-bit strings; where the scorer prepares, also in
    slices of what was prepared, and prepared ahead in another thread. Numbers may differ by the scorer's
    `tolerance`, also those of lists; everything else must be equal.
    """
    build = _factory(scorer)
    assets = assets or LocalAssets([Path()])
    first = build()
    _check_declarations(first)
    batch = example_batch(first.inputs, columns or {}) if examples is None else examples
    missing = [name for name in first.inputs if name not in batch.schema.names]
    assert not missing, (
        f"the examples have no column {', '.join(missing)}; name its type in `columns`, or pass `examples` "
        f"with {first.inputs}"
    )
    assert len(batch) > 1, "pass at least two rows as examples"
    batch = batch.select(list(dict.fromkeys(first.inputs)))  # a job hands over no other columns
    opens, declared = _count_opens(first), _declared(first)
    used = _Recorded(assets)
    first.open(used)
    _check_assets(first, used)
    _check_unchanged(declared, _declared(first))
    scores = _scored(first, batch, "the examples")
    _check_parquet(scores)
    _check_shapes(first, batch, scores)
    if type(first).prepare is not Scorer.prepare:
        _check_preparation(first, batch, scores)
    _check_repetition(build, first, assets, batch, scores)
    assert opens() == 1, "score called open; the model is to be loaded once, by the runner, in open"
    _check_elsewhere(build, first, used, batch, scores)


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
    for key, what in (("assets", "file names"), ("listed", "file names"), ("kernels", "module names")):
        value = getattr(scorer, key)
        texts = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        assert texts, f"{key} is {value!r}; write a tuple of {what}"
    unnamed = sorted(set(scorer.listed) - set(scorer.assets))
    assert not unnamed, f"listed has {', '.join(unnamed)}, which assets lacks; name them in both"
    outputs = scorer.outputs
    assert isinstance(outputs, dict), f"outputs is {outputs!r}; return a dict of column name to Arrow type"
    assert outputs, "outputs is empty; name at least one column"
    for name, dtype in outputs.items():
        assert _OUTPUT_NAME.fullmatch(str(name)), (
            f"outputs names a column {name!r}; write letters, digits and _, for rules to name it"
        )
        assert isinstance(dtype, pa.DataType), (
            f"outputs gives {name} as {dtype!r}; write a type such as pa.float32()"
        )


def _declared(scorer: Scorer) -> dict[str, Any]:
    return {"inputs": scorer.inputs, "outputs": scorer.outputs, "assets": scorer.assets}


def _check_unchanged(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for name, value in before.items():
        assert after[name] == value, (
            f"{name} is {value!r}, and {after[name]!r} after open; a job is planned before there is a model: "
            "take it from the arguments"
        )


def _count_opens(scorer: Scorer) -> Callable[[], int]:
    count, original = 0, scorer.open

    def counted(assets: Assets) -> None:
        nonlocal count
        count += 1
        original(assets)

    scorer.open = counted  # type: ignore[method-assign]
    return lambda: count


class _Recorded:
    """Notes which assets are asked for and where they are."""

    def __init__(self, assets: Assets) -> None:
        self.paths: dict[str, str] = {}
        self._assets = assets

    def locate(self, name: str) -> Path:
        path = self._assets.locate(name)
        self.paths[name] = str(path.absolute())
        return path


class _Located:
    """Assets whose places are known, for another process with another working directory."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = dict(paths)

    def locate(self, name: str) -> Path:
        if name not in self._paths:
            raise AssetError(f"open asks for {name!r} in one process and not in another")
        return Path(self._paths[name])


def _check_assets(scorer: Scorer, used: _Recorded) -> None:
    hidden = sorted(set(used.paths) - set(scorer.assets))
    assert not hidden, (
        f"open reads {', '.join(hidden)}, which assets does not name ({scorer.assets!r}); a change of that "
        "file would go unseen"
    )


def _scored(scorer: Scorer, batch: pa.RecordBatch, what: str) -> Columns:
    return _scored_prepared(scorer, _prepared(scorer, batch, what), what)


def _prepared(scorer: Scorer, batch: pa.RecordBatch, what: str) -> pa.RecordBatch:
    try:
        prepared = scorer.prepare(batch)
    except Exception as error:
        raise AssertionError(
            f"prepare raises {type(error).__name__} on {what}: {error}; leave to score, as null, what cannot "
            "be read"
        ) from error
    assert isinstance(prepared, pa.RecordBatch), (
        f"prepare returns {type(prepared).__name__}; return a pa.RecordBatch, such as "
        "pa.record_batch({…}), of as many rows as it got"
    )
    assert len(prepared) == len(batch), (
        f"prepare makes {len(prepared)} rows of {len(batch)} on {what}; score must be able to tell which is "
        "which: put null where there is nothing"
    )
    return prepared


def _scored_prepared(scorer: Scorer, batch: pa.RecordBatch, what: str) -> Columns:
    try:
        found = scorer.score(batch)
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
        numbers = numbers_of(column)
        if pa.types.is_floating(numbers.type):
            assert not pc.any(pc.is_nan(numbers)).as_py(), (
                f"{name} is NaN on {what}; null means that there is no score"
            )
    return found


def _check_parquet(scores: Columns) -> None:
    for name, column in scores.items():
        try:
            pq.write_table(pa.table({name: column}), io.BytesIO())
        except Exception as error:
            raise AssertionError(
                f"{name} is {column.type}, which Parquet cannot hold ({error}); choose another type"
            ) from error


def _check_shapes(scorer: Scorer, batch: pa.RecordBatch, scores: Columns) -> None:
    rows = len(batch)
    _scored(scorer, batch.slice(0, 0), "a batch without rows")
    singles = [_scored(scorer, batch.slice(row, 1), f"row {row} alone") for row in range(rows)]
    compare(scorer, scores, joined(singles), "row by row", "a score may depend on its own record only")
    cut = rows // 2
    halves = [_scored(scorer, half, "half a batch") for half in (batch.slice(0, cut), batch.slice(cut))]
    compare(scorer, scores, joined(halves), "in two halves", "a score may depend on its own record only")
    order = np.random.default_rng(0).permutation(rows)
    mixed = _scored(scorer, batch.take(pa.array(order)), "the examples in another order")
    back = pa.array(np.argsort(order))
    restored = {name: column.take(back) for name, column in mixed.items()}
    compare(scorer, scores, restored, "in another order", "score must not depend on the order of records")
    wide = [
        column.cast(pa.large_string()) if pa.types.is_string(column.type) else column
        for column in batch.columns
    ]
    large = pa.RecordBatch.from_arrays(wide, names=batch.schema.names)
    compare(
        scorer,
        scores,
        _scored(scorer, large, "large_string"),
        "as large_string",
        "take pa.large_string() as well",
    )
    nothing = {
        name: batch.column(name).slice(0, 2) if name in NEVER_NULL else pa.nulls(2, batch.column(name).type)
        for name in batch.schema.names
    }
    _scored(scorer, pa.RecordBatch.from_pydict(nothing), "records whose columns are all null")


def _check_preparation(scorer: Scorer, batch: pa.RecordBatch, scores: Columns) -> None:
    rows, cut = len(batch), len(batch) // 2
    told = "score must find all it needs in the rows that prepare returned, and no more rows than those"
    prepared = _prepared(scorer, batch, "the examples")
    for size, how in ((cut, "in portions of what was prepared"), (1, "row by row of what was prepared")):
        slices = [prepared.slice(start, size) for start in range(0, rows, size)]
        found = [_scored_prepared(scorer, one, "a portion of what was prepared") for one in slices]
        compare(scorer, scores, joined(found), how, told)
    with ThreadPoolExecutor(1) as pool:
        pending = [
            pool.submit(_prepared, scorer, half, "half a batch, in another thread")
            for half in (batch.slice(0, cut), batch.slice(cut))
        ]
        ahead = [future.result() for future in pending]
    later = joined([_scored_prepared(scorer, half, "what was prepared ahead") for half in ahead])
    told = "prepare runs ahead of score, in another thread, and must change nothing that score reads"
    compare(scorer, scores, later, "after later records were prepared", told)


def _check_repetition(
    build: Callable[[], Scorer], scorer: Scorer, assets: Assets, batch: pa.RecordBatch, scores: Columns
) -> None:
    again = _scored(scorer, batch, "the examples, again")
    compare(scorer, scores, again, "a second time", "score must not keep anything from one batch to the next")
    fresh = build()
    assert fresh.outputs == scorer.outputs, (
        "outputs of two instances differ; it may depend on the arguments only"
    )
    fresh.open(assets)
    compare(
        scorer, scores, _scored(fresh, batch, "the examples"), "by a second instance", "fix every random seed"
    )


def _check_elsewhere(
    build: Callable[[], Scorer], scorer: Scorer, used: _Recorded, batch: pa.RecordBatch, scores: Columns
) -> None:
    told = "it must be built by name from plain values, in a module that can be imported"
    try:
        package = pickle.dumps((build, _Located(used.paths), batch))
    except Exception as error:
        raise AssertionError(f"the scorer cannot be sent to another process: {error}; {told}") from error
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
    assert done.returncode == 0, (
        f"the scorer fails in another process: {reason}; {told}, and its files named in assets and found "
        "with assets.locate"
    )
    found = pickle.loads(done.stdout[done.stdout.index(_MARK) + len(_MARK) :])
    compare(scorer, scores, found, "in another process", "use no hash() and no time")
