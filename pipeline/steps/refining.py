"""The step that edits text: one executor for every refiner."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...scorers import registry
from ...scorers.assets import LocalAssets
from ..operator import Operator, Output
from ..stage import OperatorRef
from .scoring import Portions, joined


class Refine(Operator):
    """Applies a refiner's edits to `text`.

    A record of which the edits leave nothing but white space is dropped as `empty_after_edit`; one that loses
    more than the share `max_removed` of its words (as str.split finds them) as `too_much_removed`, with that
    share as the value. A text that is null or has no edits passes. `fingerprint` is the refiner's.

    Notes in the accounts, of the records that pass: `edited_records`, their `edits`, and `removed_bytes`, by
    which their texts are shorter (negative where they are longer).
    """

    version = 1
    kernels = ("thresher.filters.text.edits",)

    def __init__(
        self,
        step: str,
        refiner: str,
        arguments: Mapping[str, Any],
        max_removed: float | None,
        directory: str,
        allow_code: bool,
        fingerprint: str = "",
    ) -> None:
        self._step, self._max_removed = step, max_removed
        self._portions = Portions(step)
        self._assets = LocalAssets([Path(directory or ".")])
        self.refiner = registry.build(
            registry.REFINER, refiner, arguments, directory=Path(directory or "."), allow_code=allow_code
        )

    @classmethod
    def kernels_with(cls, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        return (*cls.kernels, *cls(**arguments).refiner.kernels)

    @staticmethod
    def columns(ref: OperatorRef) -> tuple[str, ...]:
        """What the step reads; it edits `text` and adds nothing."""
        operator = Refine(**json.loads(ref.arguments))
        return tuple(dict.fromkeys(("text", *operator.refiner.inputs)))

    def open(self) -> None:
        self.refiner.open(self._assets)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        from ...filters.text.edits import EditError, apply_edits

        before = batch.column("text")
        found = self._portions.run(self._edits, batch)
        try:
            edits = joined(found)
            after = apply_edits(before, edits)
        except (EditError, TypeError, ValueError) as error:
            raise type(error)(f"step {self._step}: {error}") from error
        number = pc.fill_null(pc.list_value_length(edits), 0)
        edited = pc.greater(number, 0)
        reasons, values = self._losses(before, after, edited)
        passes = pc.and_(edited, pc.is_null(reasons))
        shorter = pc.subtract(pc.binary_length(before).cast(pa.int64()), pc.binary_length(after))
        out.accounts.note(
            self._step,
            edited_records=pc.sum(passes).as_py() or 0,
            edits=pc.sum(number.filter(passes)).as_py() or 0,
            removed_bytes=pc.sum(shorter.filter(passes)).as_py() or 0,
        )
        place = batch.schema.get_field_index("text")
        field = batch.schema.field(place)
        return out.drop(self._step, batch.set_column(place, field, after), reasons, values)

    def _edits(self, batch: pa.RecordBatch) -> pa.ListArray:
        return self.refiner.edits(batch.select(list(dict.fromkeys(self.refiner.inputs))))

    def _losses(self, before: pa.Array, after: pa.Array, edited: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Why each record is dropped, if it is, and the value that decided."""
        from ...filters.text.edits import count_words

        kept = count_words(after)
        reasons = pc.if_else(pc.and_(edited, pa.array(kept == 0)), "empty_after_edit", None)
        values = pa.nulls(len(before), pa.string())
        if self._max_removed is None:
            return reasons.cast(pa.string()), values
        words = count_words(before)
        removed = (words - kept) / np.maximum(words, 1)
        too_much = pc.and_(pc.and_(edited, pa.array(removed > self._max_removed)), pc.is_null(reasons))
        reasons = pc.if_else(too_much, "too_much_removed", reasons)
        shown = pa.array([f"{share:.6g}" for share in removed], pa.string())
        return reasons.cast(pa.string()), pc.if_else(too_much, shown, values)
