"""The frequency step in whole jobs against counts in plain Python, however the corpus is cut."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
from hypothesis import given
from hypothesis import strategies as st
from test_dedup_clusters import ledger, run_inline, stage_names
from test_whole_jobs import shards, split_input
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.exchange import sorted_partition
from thresher.pipeline.planner import describe
from thresher.pipeline.stage import TaskFailed
from thresher.pipeline.steps.frequency import FREQUENCIES, VALUES, FindFrequencies, HashValues
from thresher.pipeline.steps.occurrences import NO_RECORD, add_up

CAPTIONS = ["A cat", "a cat", "a cat ", "dog", "", "héllo", "thumbnail", "猫"]
CUTS = ((None, "1MB"), (2000, "400B"), (300, "200B"))


def pairs(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Captions of which some are frequent, and addresses of which some are not there."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        often = draw.random() < 0.6
        text = CAPTIONS[min(int(draw.expovariate(0.7)), 7)] if often else f"own {number}"
        url = draw.choice([None, "u/1", "u/2", "u/3", f"u/{number}"])
        made.append({"id": f"c{number:03d}", "text": text, "url": url})
    return made


def step_job(source: str, out: Path, *steps: Any, part: str = "400B") -> dict[str, Any]:
    job = corpus.job(source, out, part=part)
    job["steps"] = list(steps)
    job["output"]["shuffle"] = "none"
    return job


def of_ids(out: Path, column: str) -> dict[str, Any]:
    return {row["id"]: row[column] for row in shards(out)}


@pytest.mark.parametrize(
    ("of", "distinct"), [("text", None), ("url", None), ("text", "url"), ("url", "text")]
)
def test_each_record_has_the_number_of_those_that_share_its_value(
    tmp_path: Path, of: str, distinct: str | None
) -> None:
    records = pairs(120)
    beside: dict[Any, list[Any]] = defaultdict(list)
    for record in records:
        beside[record[of]].append(record[distinct or "id"])
    expected = {
        record["id"]: None if record[of] is None else len(set(beside[record[of]]) - {None})
        for record in records
    }
    source = split_input(records, tmp_path / "in", 6)
    for number, (partition_bytes, part) in enumerate(CUTS):
        out = tmp_path / str(number)
        options = {"of": of, **({"distinct": distinct} if distinct else {})}
        result = run_inline(step_job(source, out, {"frequency": options}, part=part), partition_bytes)
        assert of_ids(out, f"{of}_frequency") == expected
        assert result.totals["kept"] == 120
    assert len({count for count in expected.values() if count is not None}) > 2


def test_what_is_too_frequent_or_too_rare_is_dropped_with_its_frequency(tmp_path: Path) -> None:
    records = pairs(90, seed=3)
    counts = Counter(record["text"] for record in records)
    source = split_input(records, tmp_path / "in", 4)
    job = step_job(source, tmp_path / "out", {"frequency": {"of": "text", "max": 12, "min": 2}, "as": "n"})
    run_inline(job, 1000)
    kept = {r["id"]: counts[r["text"]] for r in records if 2 <= counts[r["text"]] <= 12}
    assert of_ids(tmp_path / "out", "n") == kept
    reasons = {
        r["id"]: ("too_rare" if counts[r["text"]] < 2 else "too_frequent", str(counts[r["text"]]))
        for r in records
        if r["id"] not in kept
    }
    told = {row["id"]: (row["reason"], row["value"]) for row in ledger(tmp_path / "out")}
    assert told == reasons
    assert {reason for reason, _ in reasons.values()} == {"too_rare", "too_frequent"}


def test_null_has_no_frequency_and_is_never_dropped(tmp_path: Path) -> None:
    records = [{"id": str(n), "text": "x", "url": None if n < 5 else "u/1"} for n in range(8)]
    source = split_input(records, tmp_path / "in", 2)
    run_inline(step_job(source, tmp_path / "out", {"frequency": {"of": "url", "max": 2}}))
    assert of_ids(tmp_path / "out", "url_frequency") == dict.fromkeys("01234")


def test_a_value_with_nothing_known_beside_it_has_none(tmp_path: Path) -> None:
    records = [{"id": str(n), "text": "ab"[n % 2], "url": "u" if n == 1 else None} for n in range(6)]
    source = split_input(records, tmp_path / "in", 3)
    run_inline(step_job(source, tmp_path / "out", {"frequency": {"of": "text", "distinct": "url"}}))
    assert of_ids(tmp_path / "out", "text_frequency") == {str(n): n % 2 for n in range(6)}


def test_only_survivors_of_earlier_steps_are_counted_and_two_counts_live_side_by_side(tmp_path: Path) -> None:
    records = pairs(80, seed=7)
    source = split_input(records, tmp_path / "in", 3)
    job = step_job(
        source,
        tmp_path / "out",
        {"frequency": "text"},
        {"rule": "char_count > 3"},
        {"frequency": {"of": "text", "max": 3}, "as": "later"},
        {"rule": "later > 0"},
        {"frequency": {"of": "later"}},
    )
    run_inline(job, 700)
    first = Counter(record["text"] for record in records)
    later = {text: count for text, count in first.items() if len(text) > 3 and count <= 3}
    again = Counter(later[record["text"]] for record in records if record["text"] in later)
    assert {
        row["id"]: (row["text_frequency"], row["later"], row["later_frequency"])
        for row in shards(tmp_path / "out")
    } == {
        record["id"]: (first[record["text"]], later[record["text"]], again[later[record["text"]]])
        for record in records
        if record["text"] in later
    }


def test_a_caption_that_all_records_have_travels_once_for_each_part(tmp_path: Path) -> None:
    records = [{"id": f"c{n}", "text": "the same", "url": f"u/{n}"} for n in range(200)]
    source = split_input(records, tmp_path / "in", 4)
    job = step_job(source, tmp_path / "out", {"frequency": {"of": "text", "distinct": "url"}}, part="1MB")
    run_inline(job)
    assert set(of_ids(tmp_path / "out", "text_frequency").values()) == {200}
    stages = Path(job["run"]["work"]) / "stages"
    (found,) = stages.glob("*-frequency-text-values-*/00000.frequencies.*.parquet")
    assert pq.read_metadata(found).num_rows == len(list(stages.glob("*-frequency-text-apply-*/0*.json")))
    assert {"frequency-text-pairs", "frequency-text-parts"} < set(stage_names(job["run"]["work"]))


def test_equal_bytes_and_equal_numbers_are_equal_values() -> None:
    columns = {
        "image": pa.array([b"\xff\x00", b"\xff\x00", b"\xff", None, b""]),
        "phash": pa.array([2**63, 2**63, 1, None, 0], pa.uint64()),
        "ratio": pa.array([0.0, -0.0, 0.1, None, float("inf")]),
        "flag": pa.array([True, True, False, None, False]),
    }
    for name, values in columns.items():
        operator = HashValues(name, "image", "k", "l", "o")
        out: Any = None
        batch = operator.apply(pa.RecordBatch.from_pydict({"image": columns["image"], name: values}), out)
        for half in ("k", "l"):
            found = batch.column(half).to_pylist()
            assert found[0] == found[1]
            assert found[3] is None
            assert found[2] not in (None, found[0])
        assert batch.column("o").to_pylist()[3] is None


values = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=12), min_size=1, max_size=4
)


@given(values, st.sampled_from([1, 200, 10**6]))
def test_counts_are_right_whatever_is_combined_and_where_hashes_share_their_upper_half(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[tuple[int, int]]], limit: int
) -> None:
    batches = []
    for part, rows in enumerate(parts):
        columns = [
            pa.array([key for key, _ in rows], pa.uint64()),
            pa.array([low for _, low in rows], pa.uint64()),
            pa.array([part << 32 | row for row in range(len(rows))], pa.uint64()),
            pa.array(np.ones(len(rows), np.int64)),
        ]
        batches.append(add_up(pa.RecordBatch.from_arrays(columns, schema=VALUES)))
    lone = pa.RecordBatch.from_arrays(
        [pa.array([2], pa.uint64()), pa.array([1], pa.uint64()), pa.array([NO_RECORD]), pa.array([5])],
        schema=VALUES,
    )
    batches.append(lone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thresher.pipeline.steps.occurrences.groups", _limited(limit))
        out = PartOutput(tmp_path_factory.mktemp("part"), 0, "run")
        inputs = {"values": sorted_partition(batches, VALUES, "key", 0, 1)}
        FindFrequencies().reduce(inputs, out)
        found = pq.read_table(out.commit(0, 0).streams["frequencies"].path)
    assert found.schema.equals(FREQUENCIES)
    expected = Counter(value for rows in parts for value in rows) + Counter({(2, 1): 5})
    firsts = {
        part << 32 | rows.index(value): expected[value]
        for part, rows in enumerate(parts)
        for value in set(rows)
        if expected[value] != 1
    }
    told = dict(zip(*(found.column(name).to_pylist() for name in FREQUENCIES.names), strict=True))
    assert told == firsts
    assert len(told) == len(found)


def _limited(limit: int) -> Any:
    from thresher.pipeline.steps.groups import groups

    def limited(batches: Iterator[pa.RecordBatch], new_file: Any) -> Iterator[Any]:
        return groups(batches, new_file, limit)

    return limited


def test_the_plan_says_what_the_step_reads_and_makes(tmp_path: Path) -> None:
    job = thresher.load(
        step_job(split_input(pairs(3), tmp_path / "in", 1), tmp_path / "out", {"frequency": "url"})
    )
    stages = {stage["stage"]: stage for stage in describe(job)}
    assert stages["frequency:url"]["kind"] == "exchange"
    assert stages["frequency:url"]["keeps"] == ["url_frequency"]
    assert "url_frequency" in stages["export"]["reads"]


def test_the_same_image_is_the_same_bytes_whatever_its_caption(tmp_path: Path) -> None:
    draw = random.Random(4)
    images = [bytes([255, 0, number]) * 9 for number in range(6)]
    records = [
        {"id": f"i{n:02d}", "image": draw.choice(images), "caption": draw.choice("ab")} for n in range(50)
    ]
    corpus.write_parquet(tmp_path / "in.parquet", records)
    job = step_job(
        str(tmp_path / "in.parquet"),
        tmp_path / "out",
        {"frequency": {"of": "image", "distinct": "text"}, "as": "captions"},
        {"frequency": {"of": "text", "distinct": "image"}, "as": "images"},
        part="300B",
    )
    job["modality"], job["input"][0]["columns"] = "image-text", {"id": "id", "text": "caption"}
    run_inline(job, 400)
    of_image, of_text = defaultdict(set), defaultdict(set)
    for record in records:
        of_image[record["image"]].add(record["caption"])
        of_text[record["caption"]].add(record["image"])
    assert {row["id"]: (row["captions"], row["images"]) for row in shards(tmp_path / "out")} == {
        record["id"]: (len(of_image[record["image"]]), len(of_text[record["caption"]])) for record in records
    }


@pytest.mark.parametrize(
    ("step", "counted", "operator"),
    [
        ({"frequency": {"of": "text", "max": 9}}, "values", "frequency.AddFrequency"),
        ({"vocabulary": {"size": 5}}, "ngrams", "vocabulary.DropRare"),
        ({"balance": {"entries": "list.txt", "t": 3}}, "counts", "balance.Balance"),
    ],
)
def test_a_run_that_broke_off_goes_on_with_what_it_has_counted(
    tmp_path: Path, step: dict[str, Any], counted: str, operator: str
) -> None:
    (tmp_path / "list.txt").write_text("cat\ndog\n")
    job = step_job(split_input(pairs(60), tmp_path / "in", 3), tmp_path / "out", step)
    job["run"]["directory"] = str(tmp_path)

    def fails(*arguments: Any) -> None:
        raise OSError("no more")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"thresher.pipeline.steps.{operator}.apply", fails)
        with pytest.raises(TaskFailed, match="no more"):
            run_inline(job, 500)
    stages = Path(job["run"]["work"]) / "stages"
    before = {path: path.stat().st_ino for path in stages.glob(f"*-{counted}-*/*") if path.is_file()}
    assert before
    run_inline(job, 500)
    assert before == {path: path.stat().st_ino for path in stages.glob(f"*-{counted}-*/*") if path.is_file()}
    job["run"]["work"], whole = str(tmp_path / "other"), tmp_path / "whole"
    job["output"]["path"] = str(whole)
    run_inline(job, 500)
    assert shards(whole) == shards(tmp_path / "out")
    assert ledger(whole) == ledger(tmp_path / "out")
