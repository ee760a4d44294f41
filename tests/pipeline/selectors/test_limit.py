"""The first records by position."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from thresher.pipeline.selectors import LimitSelector, prefix
from thresher.schemas.contracts import Decision


def decided(count: int, parts: list[pa.RecordBatch]) -> tuple[Decision, LimitSelector]:
    selector, learned = LimitSelector(count), None
    for _ in range(20):
        states = [selector.update(selector.start(learned), part, learned) for part in parts]
        state = selector.start(learned)
        for more in states:
            state = selector.merge(state, more, learned)
        outcome = selector.finish(state, learned)
        if isinstance(outcome, Decision):
            return outcome, selector
        learned = outcome
    raise AssertionError("no decision after 20 passes")


@given(
    positions=st.sets(st.integers(0, 2**64 - 1), max_size=40),
    count=st.integers(0, 45),
    edge=st.integers(0, 40),
    collect_rows=st.sampled_from([1, 3, 1000]),
)
@settings(deadline=None)
def test_the_records_with_the_smallest_positions_are_kept(
    positions: set[int], count: int, edge: int, collect_rows: int
) -> None:
    batch = pa.record_batch({"position": pa.array(sorted(positions), pa.uint64())})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "COLLECT_ROWS", collect_rows)
        decision, selector = decided(count, [batch.slice(edge), batch.slice(0, edge)])
    verdict = selector.decide(batch, decision)
    assert verdict.column("keep").to_pylist() == [row < count for row in range(len(positions))]
    assert decision.values["kept_records"] == min(count, len(positions))


def test_records_beyond_the_limit_say_so_with_their_position() -> None:
    batch = pa.record_batch({"position": pa.array([5, 6], pa.uint64())})
    decision, selector = decided(1, [batch])
    verdict = selector.decide(batch, decision)
    assert verdict.column("reason").to_pylist() == [None, "beyond_limit"]
    assert verdict.column("value").to_pylist() == ["5", "6"]
    assert decision.values == {"limit": 1, "records": 2, "kept_records": 1, "first_dropped": 6}


def test_a_million_positions_in_many_parts_are_cut_exactly() -> None:
    parts = [
        pa.record_batch({"position": (np.uint64(part << 32) + np.arange(50_000, dtype=np.uint64))})
        for part in range(20)
    ]
    decision, _ = decided(432_101, parts)
    assert decision.values["kept_records"] == 432_101
    assert decision.values["first_dropped"] == (8 << 32) + 32_101


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        LimitSelector(-1)
