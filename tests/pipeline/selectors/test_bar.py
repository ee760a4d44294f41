"""The bar of a share with ties kept, against DataComp's own rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.pipeline.selectors import TopSelector, prefix


def bar_of_datacomp(scores: list[float], fraction: float) -> set[int]:
    values = np.array(scores, np.float32)
    n = int(len(values) * fraction)
    threshold = -np.sort(-values)[n]
    return set(np.flatnonzero(values >= threshold).tolist())


@given(
    scores=st.lists(st.integers(0, 12).map(lambda n: n / 7), min_size=1, max_size=60),
    fraction=st.floats(0, 1, exclude_max=True) | st.sampled_from([0.01, 0.29, 0.3, 0.57]),
    edges=st.lists(st.integers(0, 60), max_size=3),
    backwards=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_the_bar_is_that_of_datacomp(
    decide: Any, scores: list[float], fraction: float, edges: list[int], backwards: bool
) -> None:
    batch = pa.record_batch(
        {
            "id": pa.array(f"r{n}" for n in range(len(scores))),
            "position": pa.array(np.arange(len(scores), dtype=np.uint64)),
            "clip": pa.array(scores, pa.float32()),
        }
    )
    decision, rows = decide(TopSelector("clip", top=fraction, ties="keep"), batch, edges, backwards)
    kept = {number for number, row in enumerate(rows) if row["keep"]}
    assert kept == bar_of_datacomp(scores, fraction)
    (group,) = decision.values["groups"]
    assert np.float32(group["bar"]["score"]) == np.float32(min(scores[number] for number in kept))
    assert group["kept_records"] == len(kept)


def test_a_bar_is_found_among_more_scores_than_are_collected_at_once(
    decide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "COLLECT_ROWS", 5)
    scores = np.repeat(np.random.default_rng(2).random(700), 4).astype(np.float32)
    batch = pa.record_batch(
        {
            "id": pa.array(["same"] * len(scores)),
            "position": pa.array(np.arange(len(scores), dtype=np.uint64)),
            "clip": pa.array(scores),
        }
    )
    _, rows = decide(TopSelector("clip", top=0.3, ties="keep"), batch, [500])
    assert {n for n, row in enumerate(rows) if row["keep"]} == bar_of_datacomp(scores.tolist(), 0.3)


def test_scores_that_are_null_count_for_the_share_and_stay_below_the_bar(decide: Any) -> None:
    scores = [0.5, None, 0.9, float("nan"), 0.5, 0.1]
    batch = pa.record_batch(
        {
            "id": pa.array("abcdef"),
            "position": pa.array(np.arange(6, dtype=np.uint64)),
            "clip": pa.array(scores, pa.float32()),
        }
    )
    for top, on_null, wanted in (
        (0.34, "drop", "ace"),
        (0.34, "keep", "abcde"),
        (0.7, "drop", "acef"),
        (0, "drop", "c"),
    ):
        _, rows = decide(TopSelector("clip", top=top, ties="keep", on_null=on_null), batch, [3])
        kept = "".join(id_ for id_, row in zip("abcdef", rows, strict=True) if row["keep"])
        assert kept == wanted


@pytest.mark.parametrize("arguments", [{"budget": 3}, {"top": 0.5, "unit_column": "char_count"}])
def test_ties_are_kept_of_shares_of_records_only(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a fraction of the records"):
        TopSelector("clip", ties="keep", **arguments)
