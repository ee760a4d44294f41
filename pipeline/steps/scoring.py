"""The step that runs a scorer and looks after the scores it gives."""

from __future__ import annotations

import gc
import json
import logging
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import Scorer
from ...scorers import registry
from ...scorers.assets import LocalAssets
from ..operator import Operator, Output
from ..stage import OperatorRef

GROW_AFTER: Final = 100  # portions in a row that fitted: then twice as many records are tried once more

PREPARED: Final = 2  # pieces that are prepared ahead
PIECE_ROWS: Final = 256  # of a batch that is prepared, as decoded images are much larger than encoded ones

# What errors say that have no class of their own. In this order: older versions and other back ends of
# PyTorch, what CUDA and HIP call it, JAX, TensorFlow, ONNX Runtime.
_SAYS_OUT_OF_MEMORY: Final = re.compile(
    r"(CUDA|HIP|XPU|MPS)\b[^\n]*out of memory"
    r"|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|hipErrorOutOfMemory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|RESOURCE_EXHAUSTED:[^\n]*(memory|allocat)"
    r"|OOM when allocating"
    r"|Failed to allocate memory for requested buffer of size",
    re.IGNORECASE,
)

Found = TypeVar("Found")


class Portions:
    """Hands a model the records of a batch in portions that its device has room for.

    A portion that is too large is halved, and no later one is larger, until many in a row have fitted: so one
    batch of very long records does not slow down all others. That a step goes on with smaller portions is
    logged once.
    """

    def __init__(self, step: str) -> None:
        self._step = step
        self.rows: int | None = None  # of a portion at most; None: whole batches
        self._fitted = 0
        self._too_large: int | None = None  # what did not fit at first
        self._is_told = False

    def run(
        self,
        work: Callable[[pa.RecordBatch], Found],
        batch: pa.RecordBatch,
        prepared: pa.RecordBatch | None = None,
    ) -> list[Found]:
        """What `work` makes of each portion of `batch`, in its order; of a batch without rows there is one.

        Where a batch has been prepared, `work` gets the rows of that. Raises what `work` raises, and
        RuntimeError where there is no room for a single record.
        """
        done: list[Found] = []
        start = 0
        while start < len(batch) or not done:
            portion = batch.slice(start, self.rows or len(batch))
            given = portion if prepared is None else prepared.slice(start, len(portion))
            try:
                done.append(work(given))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(portion) <= 1:
                    raise RuntimeError(self._too_much(portion, error)) from error
            else:
                start += len(portion)
                self._has_fitted(len(portion))
                continue
            # Behind the handler, since the error holds the frames that hold what was allocated.
            self._halve(len(portion))
            _free_caches()
        return done

    def _has_fitted(self, rows: int) -> None:
        if self._too_large is not None and not self._is_told:
            self._is_told = True
            logging.getLogger("thresher").warning(
                "step %s: %d records at a time need more memory than its device has; going on with %d",
                self._step,
                self._too_large,
                self.rows,
            )
        self._fitted += rows == self.rows
        if self.rows is not None and self._fitted >= GROW_AFTER:
            self.rows, self._fitted = 2 * self.rows, 0

    def _halve(self, rows: int) -> None:
        self._too_large = self._too_large or rows
        self.rows, self._fitted = rows // 2, 0

    def _too_much(self, portion: pa.RecordBatch, error: Exception) -> str:
        which = f"record {portion.column('id')[0].as_py()}" if len(portion) else "a batch without records"
        told = str(error).strip().partition("\n")[0]
        return (
            f"step {self._step}: {which} alone needs more memory than the device has left ({told}); let the "
            "model read less of each record, let fewer workers share the device (resources: actors, gpus), "
            "or give it a larger one"
        )


def joined(arrays: list[pa.Array]) -> pa.Array:
    """The arrays of all portions as one; a single one is not copied."""
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that a device has no memory left.

    By class it does in PyTorch and CuPy. The host's own MemoryError is none: there, the process is too large.
    """
    named = any(class_.__name__.endswith("OutOfMemoryError") for class_ in type(error).__mro__)
    if named or _SAYS_OUT_OF_MEMORY.search(str(error)):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def _free_caches() -> None:
    """Gives back what the attempt that failed has allocated."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.cuda.empty_cache()


class Score(Operator):
    """Adds a scorer's columns. Its only column is named `column`; of several, each is `column_<name>`."""

    def __init__(
        self,
        step: str,
        scorer: str,
        arguments: Mapping[str, Any],
        column: str,
        on_null: str,
        directory: str,
        allow_code: bool,
        fingerprint: str = "",
    ) -> None:
        self._step, self._on_null = step, on_null
        self._portions = Portions(step)
        self._assets = LocalAssets([Path(directory or ".")])
        self.scorer: Scorer = registry.build(
            registry.SCORER, scorer, arguments, directory=Path(directory or "."), allow_code=allow_code
        )
        self.types = {name: _kept_as(type_) for name, type_ in self.scorer.outputs.items()}
        names = list(self.types)
        self.names = {name: column if len(names) == 1 else f"{column}_{name}" for name in names}

    @classmethod
    def kernels_with(cls, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        return cls(**arguments).scorer.kernels

    @staticmethod
    def columns(ref: OperatorRef) -> tuple[tuple[str, ...], dict[str, str]]:
        """What the step reads, and what it adds, with Arrow's name of each type."""
        operator = Score(**json.loads(ref.arguments))
        types = {operator.names[name]: str(type_) for name, type_ in operator.types.items()}
        return operator.scorer.inputs, types

    def open(self) -> None:
        self.scorer.open(self._assets)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        return self._scored(batch, self._prepared(batch), out)

    def flow(self, batches: Iterator[pa.RecordBatch], out: Output) -> Iterator[pa.RecordBatch]:
        if type(self.scorer).prepare is Scorer.prepare:
            yield from super().flow(batches, out)
            return
        waiting: deque[tuple[pa.RecordBatch, Future[pa.RecordBatch]]] = deque()
        with ThreadPoolExecutor(1, "thresher-prepare") as pool:
            try:
                # What comes before writes to `out`, and so is asked for in this thread.
                for piece in _pieces(batches):
                    waiting.append((piece, pool.submit(self._prepared, piece)))
                    if len(waiting) > PREPARED:
                        batch, prepared = waiting.popleft()
                        yield self._scored(batch, prepared.result(), out)
                while waiting:
                    batch, prepared = waiting.popleft()
                    yield self._scored(batch, prepared.result(), out)
            finally:
                for _, prepared in waiting:
                    prepared.cancel()

    def _prepared(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        prepared = self.scorer.prepare(batch.select(list(dict.fromkeys(self.scorer.inputs))))
        if len(prepared) != len(batch):
            raise ValueError(f"step {self._step}: prepare made {len(prepared)} rows of {len(batch)} records")
        return prepared

    def _scored(self, batch: pa.RecordBatch, prepared: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        found = self._portions.run(self._scores, batch, prepared)
        null = pa.array([False] * len(batch), pa.bool_())
        for name, column in self.names.items():
            scores = joined([columns[name] for columns in found])
            null = pc.or_(null, pc.is_null(scores))
            batch = batch.append_column(column, scores)
        if self._on_null == "fail" and pc.any(null).as_py():
            missing = batch.filter(null).column("id")[0].as_py()
            raise ValueError(f"step {self._step}: record {missing} has no score, and on_null is fail")
        lost = null if self._on_null == "drop" else pa.array([False] * len(batch), pa.bool_())
        return out.drop(self._step, batch, pc.if_else(lost, "null_score", None))

    def _scores(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        found = self.scorer.score(batch)
        for name in self.names:
            if len(found[name]) != len(batch):
                raise ValueError(
                    f"step {self._step}: {len(found[name])} values of {name} for {len(batch)} records"
                )
        return {name: found[name].cast(type_) for name, type_ in self.types.items()}


def _kept_as(type_: pa.DataType) -> pa.DataType:
    """Lists of one size as lists of any: Parquet cannot give the former back where one is null (Arrow 25)."""
    return pa.list_(type_.value_type) if pa.types.is_fixed_size_list(type_) else type_


def _pieces(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield from (batch.slice(start, PIECE_ROWS) for start in range(0, max(1, len(batch)), PIECE_ROWS))
