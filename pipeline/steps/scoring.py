"""The step that runs a scorer and looks after the scores it gives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import Scorer
from ...scorers import registry
from ...scorers.assets import LocalAssets
from ..operator import Operator, Output
from ..stage import OperatorRef


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
        self._assets = LocalAssets([Path(directory or ".")])
        self.scorer: Scorer = registry.build(
            registry.SCORER, scorer, arguments, directory=Path(directory or "."), allow_code=allow_code
        )
        names = list(self.scorer.outputs)
        self.names = {name: column if len(names) == 1 else f"{column}_{name}" for name in names}

    @classmethod
    def kernels_with(cls, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        return cls(**arguments).scorer.kernels

    @staticmethod
    def columns(ref: OperatorRef) -> tuple[tuple[str, ...], dict[str, str]]:
        """What the step reads, and what it adds, with Arrow's name of each type."""
        operator = Score(**json.loads(ref.arguments))
        outputs = operator.scorer.outputs
        return operator.scorer.inputs, {operator.names[name]: str(type_) for name, type_ in outputs.items()}

    def open(self) -> None:
        self.scorer.open(self._assets)

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        found = self.scorer.score(batch.select(list(dict.fromkeys(self.scorer.inputs))))
        null = pa.array([False] * len(batch), pa.bool_())
        for name, type_ in self.scorer.outputs.items():
            scores = found[name]
            if len(scores) != len(batch):
                raise ValueError(
                    f"step {self._step}: {len(scores)} values of {name} for {len(batch)} records"
                )
            null = pc.or_(null, pc.is_null(scores))
            batch = batch.append_column(self.names[name], scores.cast(type_))
        if self._on_null == "fail" and pc.any(null).as_py():
            missing = batch.filter(null).column("id")[0].as_py()
            raise ValueError(f"step {self._step}: record {missing} has no score, and on_null is fail")
        lost = null if self._on_null == "drop" else pa.array([False] * len(batch), pa.bool_())
        return out.drop(self._step, batch, pc.if_else(lost, "null_score", None))
