"""Selection by score against the same selection by one sort of everything."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from thresher.pipeline.selectors import TopSelector, prefix
from thresher.pipeline.selectors.groups import NullScoreError
from thresher.schemas.contracts import Again, Decision, Selector

UNIT_COLUMNS = {"records": None, "characters": "char_count"}
SCORES = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, math.inf, -math.inf, math.nan]),
    st.floats(allow_nan=True, width=32),
    st.integers(-3, 3).map(float),
)


def corpus(
    scores: Sequence[Any],
    ids: Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
    units: Sequence[Any] | None = None,
    dtype: pa.DataType | None = None,
) -> pa.RecordBatch:
    n = len(scores)
    return pa.record_batch(
        {
            "id": pa.array(ids if ids is not None else [f"doc-{row:05}" for row in range(n)], pa.string()),
            "position": pa.array(np.arange(n, dtype=np.uint64) + (7 << 32)),
            "quality": pa.array(scores, dtype or pa.float64()),
            "lang": pa.array(groups if groups is not None else ["en"] * n, pa.string()),
            "char_count": pa.array(units if units is not None else [1] * n, pa.int64()),
        }
    )


def cut_up(batch: pa.RecordBatch, edges: Sequence[int]) -> list[pa.RecordBatch]:
    bounds = [0, *sorted(edge % (len(batch) + 1) for edge in edges), len(batch)]
    return [batch.slice(a, b - a) for a, b in itertools.pairwise(bounds)]


def select(
    selector: Selector, parts: Sequence[Sequence[pa.RecordBatch]], lopsided: bool = False
) -> tuple[Decision, int]:
    """The decision over parts of batches, and the passes it took; requests travel as JSON, as in a job."""
    learned, passes = None, 0
    while True:
        passes += 1
        states = []
        for part in parts:
            state = selector.start(learned)
            for batch in part:
                state = selector.update(state, batch, learned)
            states.append(state)
        while len(states) > 1:
            if lopsided:
                states[-2:] = [selector.merge(states[-2], states[-1], learned)]
            else:
                states[:2] = [selector.merge(states[0], states[1], learned)]
        outcome = selector.finish(states[0] if states else selector.start(learned), learned)
        values = json.loads(json.dumps(outcome.values, allow_nan=False))
        if isinstance(outcome, Decision):
            return Decision(values), passes
        learned = Again(values)


def kept(selector: Selector, batch: pa.RecordBatch, edges: Sequence[int] = ()) -> list[str]:
    parts = [[part] for part in cut_up(batch, edges)]
    decision, _ = select(selector, parts)
    verdicts = [selector.decide(part, decision) for (part,) in parts]
    keep = [value for verdict in verdicts for value in verdict.column("keep").to_pylist()]
    return [name for name, kept in zip(batch.column("id").to_pylist(), keep, strict=True) if kept]


def sorted_choice(
    rows: Sequence[dict[str, Any]], *, top: str | None, budget: int | None, unit: str
) -> set[int]:
    """Positions kept by the definition: sort each group, take until the next record would exceed."""
    chosen: set[int] = set()
    for group in {row["lang"] for row in rows}:
        members = [row for row in rows if row["lang"] == group]
        size = {
            row["position"]: 1 if unit == "records" else max(row["char_count"] or 0, 0) for row in members
        }
        if budget is None:
            numerator, denominator = (int(part) for part in str(top).split("/"))
            room = sum(size.values()) * numerator // denominator
        else:
            room = budget
        ranked = [row for row in members if row["quality"] is not None and not math.isnan(row["quality"])]
        for row in sorted(ranked, key=lambda row: (-row["quality"], row["id"].encode(), row["position"])):
            room -= size[row["position"]]
            if room < 0:
                break
            chosen.add(row["position"])
    return chosen


@st.composite
def corpora(draw: st.DrawFn) -> pa.RecordBatch:
    row = st.tuples(
        SCORES,
        st.text(st.sampled_from("ab\0é"), max_size=20),
        st.sampled_from(["en", "de", "", None]),
        st.one_of(st.none(), st.integers(-1, 5)),
    )
    rows = draw(st.lists(row, max_size=40))
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return corpus(columns[0], columns[1], columns[2], columns[3])


@given(
    batch=corpora(),
    percent=st.integers(0, 100),
    edges=st.lists(st.integers(0, 1000), max_size=5),
    unit=st.sampled_from(["records", "characters"]),
    budget=st.one_of(st.none(), st.integers(0, 60)),
    collect_rows=st.sampled_from([1, 2, 5, 1000]),
    lopsided=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_the_selection_is_the_prefix_of_one_sort_however_the_corpus_is_cut(
    batch: pa.RecordBatch,
    percent: int,
    edges: list[int],
    unit: Any,
    budget: int | None,
    collect_rows: int,
    lopsided: bool,
) -> None:
    selector = TopSelector(
        "quality",
        top=None if budget is not None else percent / 100,
        budget=budget,
        within="lang",
        unit=unit,
        unit_column=UNIT_COLUMNS[unit],
    )
    parts = [[part] for part in cut_up(batch, edges)]
    with pytest.MonkeyPatch.context() as patch:
        # Few records may be collected, so that scores and ids are told apart by histograms alone.
        patch.setattr(prefix, "COLLECT_ROWS", collect_rows)
        decision, _ = select(selector, parts, lopsided)
    verdict = selector.decide(batch, decision)
    wanted = sorted_choice(batch.to_pylist(), top=f"{percent}/100", budget=budget, unit=unit)
    found = {
        row["position"]
        for row, keep in zip(batch.to_pylist(), verdict.column("keep").to_pylist(), strict=True)
        if keep
    }
    assert found == wanted
    assert sum(group["kept_records"] for group in decision.values["groups"]) == len(wanted)
    assert select(selector, [[batch]])[0] == decision


@given(scores=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30), count=st.integers(0, 30))
@settings(deadline=None)
def test_large_integers_are_compared_exactly(scores: list[int], count: int) -> None:
    batch = corpus(scores, dtype=pa.int64())
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    assert sorted(kept(TopSelector("quality", budget=count), batch)) == [
        f"doc-{row:05}" for row in sorted(order[:count])
    ]


def test_unsigned_and_half_precision_scores_are_accepted() -> None:
    for dtype, scores in ((pa.uint64(), [2**64 - 1, 2**64 - 2, 0]), (pa.float16(), np.float16([3, 2, 1]))):
        assert kept(TopSelector("quality", budget=1), corpus(scores, dtype=dtype)) == ["doc-00000"]


def test_ten_percent_of_ten_records_is_one_and_29_percent_of_100_is_29() -> None:
    assert len(kept(TopSelector("quality", top=0.1), corpus(list(range(10))))) == 1
    assert len(kept(TopSelector("quality", top=0.29), corpus(list(range(100))))) == 29


def test_the_fractions_nought_and_one_keep_nothing_and_everything() -> None:
    batch = corpus([3.0, 1.0, 2.0])
    assert kept(TopSelector("quality", top=0.0), batch) == []
    assert kept(TopSelector("quality", top=1.0), batch) == ["doc-00000", "doc-00001", "doc-00002"]


def test_an_empty_corpus_and_a_single_record_have_decisions() -> None:
    decision, _ = select(TopSelector("quality", top=0.5), [])
    assert decision.values["groups"] == []
    assert kept(TopSelector("quality", top=0.5), corpus([1.0])) == []
    assert kept(TopSelector("quality", budget=1), corpus([1.0])) == ["doc-00000"]


def test_zeros_of_both_signs_tie_and_the_smaller_id_is_taken() -> None:
    batch = corpus([0.0, -0.0, 0.0], ids=["b", "a", "c"])
    assert kept(TopSelector("quality", budget=1), batch) == ["a"]


def test_equal_scores_and_equal_ids_are_taken_by_position() -> None:
    selector, batch = TopSelector("quality", budget=2), corpus([1.0] * 4, ids=["same"] * 4)
    verdict = selector.decide(batch, select(selector, [[batch]])[0])
    assert verdict.column("keep").to_pylist() == [True, True, False, False]


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.9])
def test_without_ties_the_cut_is_the_threshold_of_datacomp(fraction: float) -> None:
    # DataComp (mlfoundations/datacomp, baselines/apply_filter.py, get_threshold): the score at index int(n *
    # f) of the descending order; it keeps that record too, we stop before it.
    scores = np.random.default_rng(5).permutation(997).astype(np.float32) / 997
    selector, batch = TopSelector("quality", top=fraction), corpus(scores, dtype=pa.float32())
    decision, _ = select(selector, [[batch]])
    threshold = -np.sort(-scores)[int(len(scores) * fraction)]
    keep = selector.decide(batch, decision).column("keep").to_numpy(zero_copy_only=False)
    assert (keep == (scores > threshold)).all()
    assert decision.values["groups"][0]["first_dropped"]["score"] == threshold


def test_a_record_that_does_not_fit_ends_the_selection_even_if_a_later_one_would_fit() -> None:
    batch = corpus([3.0, 2.0, 1.0], units=[5, 10, 1])
    selector = TopSelector("quality", budget=8, unit="characters", unit_column="char_count")
    assert kept(selector, batch) == ["doc-00000"]


def test_a_null_group_has_a_budget_of_its_own() -> None:
    batch = corpus([4.0, 3.0, 2.0, 1.0], groups=[None, None, "en", ""])
    assert kept(TopSelector("quality", budget=1, within="lang"), batch) == [
        "doc-00000",
        "doc-00002",
        "doc-00003",
    ]


def test_records_without_a_score_are_dropped_kept_or_refused_as_the_step_says() -> None:
    batch = corpus([None, 1.0, math.nan, 2.0])
    dropping = TopSelector("quality", top=0.5)
    verdict = dropping.decide(batch, select(dropping, [[batch]])[0])
    assert verdict.column("keep").to_pylist() == [False, True, False, True]
    assert verdict.column("copies").to_pylist() == [0, 1, 0, 1]
    assert verdict.column("reason").to_pylist() == ["null_score", None, "null_score", None]
    keeping = TopSelector("quality", budget=1, on_null="keep")
    assert kept(keeping, batch) == ["doc-00000", "doc-00002", "doc-00003"]
    with pytest.raises(NullScoreError, match="record doc-00000 has no quality"):
        select(TopSelector("quality", budget=1, on_null="fail"), [[batch]])


def test_a_dropped_record_says_its_reason_and_its_score() -> None:
    selector, batch = TopSelector("quality", budget=1), corpus([0.25, 0.5], dtype=pa.float32())
    verdict = selector.decide(batch, select(selector, [[batch]])[0])
    assert verdict.column("reason").to_pylist() == ["below_cut", None]
    assert verdict.column("value").to_pylist() == ["0.25", "0.5"]


def test_a_score_column_that_is_all_null_keeps_nothing() -> None:
    batch = corpus([None, None], dtype=pa.null())
    assert kept(TopSelector("quality", top=1.0), batch) == []
    mixed = [[batch], [corpus([1.0, 2.0])]]
    assert select(TopSelector("quality", budget=5), mixed)[0].values["groups"][0]["kept_records"] == 2


def test_random_ties_draw_a_fair_sample_that_the_seed_decides() -> None:
    batch = corpus([1.0] * 2000)
    first, again, other = (
        kept(TopSelector("quality", top=0.5, ties="random", seed=seed), batch, edges)
        for seed, edges in ((1, [3, 500]), (1, [77]), (2, []))
    )
    assert first == again
    assert len(first) == len(other) == 1000
    assert first != other
    lower_half = sum(name < "doc-01000" for name in first)
    assert 430 < lower_half < 570  # six standard deviations of the hypergeometric distribution are 67


def test_a_decision_is_small_and_says_where_the_cut_is_and_what_tied() -> None:
    decision, _ = select(TopSelector("quality", budget=3), [[corpus([1.0, 0.5, 0.5, 0.5, 0.5, 0.1])]])
    (group,) = decision.values["groups"]
    assert group == {
        "group": None,
        "records": 6,
        "units": 6,
        "null_scores": 0,
        "budget": 3,
        "kept_records": 3,
        "kept_units": 3,
        "first_dropped": {"score": 0.5, "id": "doc-00003", "position": (7 << 32) + 3},
        "tied_with_it": 4,
        "kept_of_tied": 2,
    }


def million(ties: str) -> list[pa.RecordBatch]:
    """A million rows in batches of 64 Ki; ids have a long common beginning, as WARC-Record-IDs do."""
    rng = np.random.default_rng(11)
    n = 1_000_000
    scores = {
        "none": lambda: rng.random(n),
        "few": lambda: rng.integers(0, 6, n).astype(np.float64),
        "all": lambda: np.full(n, 0.25),
    }[ties]()
    digits = rng.permutation(n).astype("U7")
    ids = np.char.add("<urn:uuid:0000-", digits)
    table = pa.table({"id": ids, "position": np.arange(n, dtype=np.uint64) + (3 << 32), "quality": scores})
    return list(table.to_batches(max_chunksize=1 << 16))


@pytest.mark.parametrize("ties", ["none", "few", "all"])
def test_a_million_records_are_cut_exactly_in_bounded_state(ties: str) -> None:
    batches = million(ties)
    selector = TopSelector("quality", top=0.1)
    learned, largest, started = None, 0, time.process_time()
    for _ in range(12):
        state = selector.start(learned)
        for batch in batches:
            state = selector.update(state, batch, learned)
            largest = max(largest, state.num_rows)
        state = prefix.compact(state)
        assert state.num_rows <= prefix.COLLECT_ROWS + (1 << prefix.BUCKET_BITS)
        assert state.nbytes < 8 << 20
        outcome = selector.finish(state, learned)
        if isinstance(outcome, Decision):
            break
        learned = outcome
    assert isinstance(outcome, Decision), "no decision after 12 passes"
    assert time.process_time() - started < 20
    keep = np.concatenate(
        [selector.decide(batch, outcome).column("keep").to_numpy(zero_copy_only=False) for batch in batches]
    )
    table = pa.Table.from_batches(batches)
    order = [("quality", "descending"), ("id", "ascending"), ("position", "ascending")]
    wanted = np.zeros(len(keep), bool)
    wanted[pa.compute.sort_indices(table, sort_keys=order).to_numpy()[:100_000]] = True
    assert (keep == wanted).all()


def test_states_of_many_groups_stay_below_the_bound_on_buckets() -> None:
    rng = np.random.default_rng(2)
    n, groups = 60_000, 200
    batch = corpus(rng.normal(size=n), groups=[f"g{row % groups}" for row in range(n)])
    selector = TopSelector("quality", top=0.3, within="lang")
    wide, _ = select(selector, [[part] for part in cut_up(batch, [20_000, 41_000])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "MAX_BUCKETS", 1000)
        state = selector.start(None)
        for part in batch.slice(0, 30_000), batch.slice(30_000):
            state = prefix.compact(selector.update(state, part, None))
            assert state.num_rows <= 1000
        narrow, _ = select(selector, [[part] for part in cut_up(batch, [10_000, 50_000])], lopsided=True)
    assert wide == narrow


def test_more_groups_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "MAX_GROUPS", 3)
    batch = corpus([1.0] * 4, groups=["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="more than 3 groups"):
        select(TopSelector("quality", top=0.5, within="lang"), [[batch]])


def test_two_parts_with_scores_of_different_number_types_are_refused() -> None:
    parts = [[corpus([1.0])], [corpus([1], dtype=pa.int64())]]
    with pytest.raises(ValueError, match="float64 in one part and int64 in another"):
        select(TopSelector("quality", top=0.5), parts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either top"),
        ({"top": 0.1, "budget": 3}, "either top"),
        ({"top": 10}, "fraction between 0 and 1"),
        ({"budget": -1}, "cannot be negative"),
        ({"top": 0.1, "on_null": "ignore"}, "drop, keep, fail"),
    ],
)
def test_wrong_arguments_are_refused_with_what_to_write(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TopSelector("quality", **arguments)


def test_columns_that_cannot_be_ordered_or_grouped_by_are_refused_by_name() -> None:
    batch = corpus(["high", "low"], dtype=pa.string())
    with pytest.raises(ValueError, match="column quality holds string"):
        select(TopSelector("quality", top=0.5), [[batch]])
    grouped = corpus([1.0]).append_column("score", pa.array([0.5]))
    with pytest.raises(ValueError, match="column score holds double"):
        select(TopSelector("quality", top=0.5, within="score"), [[grouped]])


def test_large_strings_dictionaries_and_slices_read_as_plain_columns_do() -> None:
    plain = corpus([1.0, 3.0, 2.0, 2.0], groups=["a", "a", "b", "b"])
    odd = plain.set_column(0, "id", plain.column("id").cast(pa.large_string()))
    odd = odd.set_column(3, "lang", plain.column("lang").dictionary_encode()).slice(1)
    selector = TopSelector("quality", budget=1, within="lang")
    assert kept(selector, odd) == kept(selector, plain.slice(1)) == ["doc-00001", "doc-00002"]
