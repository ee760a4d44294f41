"""The vocabulary step in whole jobs against counts in plain Python, however the corpus is cut."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import corpus
import pyarrow as pa
import pytest
import thresher
from hypothesis import given
from hypothesis import strategies as st
from test_dedup_clusters import ledger, run_inline, stage_names
from test_whole_jobs import shards, split_input
from thresher.pipeline.planner import describe
from thresher.pipeline.steps.vocabulary import HISTOGRAM, least_known

CUTS = ((None, "1MB"), (3000, "500B"), (500, "200B"))
WORDS = ["the", "a", "cat", "dog", "on", "mat", "IMG", "jpg", "blue", "sky", "été"]


def captions(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Captions of words of which some are far more frequent than others."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        words = [WORDS[min(int(draw.expovariate(0.35)), 10)] for _ in range(draw.randrange(6))]
        words += [f"own{number}"] if number % 9 == 0 else []
        words = [word.title() if draw.random() < 0.3 else word for word in words]
        made.append({"id": f"c{number:03d}", "text": " ".join(words) + draw.choice(["", ".", "!"])})
    return made


def ngrams(text: str, sizes: list[int], lowercase: bool = True) -> list[str]:
    words = (text.lower() if lowercase else text).translate(str.maketrans(".!", "  ")).split()
    made = []
    for number, word in enumerate(words):
        made += [word] if 1 in sizes else []
        made += [f"{word} {words[number + 1]}"] if 2 in sizes and number + 1 < len(words) else []
    return made


def known(records: list[dict[str, Any]], size: int, sizes: list[int], lowercase: bool) -> set[str]:
    """The most frequent words and pairs, `size` at most, none where another is as frequent and left out."""
    counts = Counter(ngram for record in records for ngram in ngrams(record["text"], sizes, lowercase))
    ordered = counts.most_common()
    if len(ordered) <= size:
        return set(counts)
    border = ordered[size][1]
    return {ngram for ngram, count in ordered[:size] if count > border}


def vocabulary_job(source: str, out: Path, part: str = "500B", **options: Any) -> dict[str, Any]:
    job = corpus.job(source, out, part=part)
    job["steps"] = [{"vocabulary": options}]
    job["output"]["shuffle"] = "none"
    return job


@pytest.mark.parametrize(
    ("size", "sizes", "lowercase"), [(60, [1, 2], True), (9, [1], True), (25, [2], True), (50, [1, 2], False)]
)
def test_what_stays_has_only_words_and_pairs_that_are_frequent(
    tmp_path: Path, size: int, sizes: list[int], lowercase: bool
) -> None:
    records = captions(150)
    vocabulary = known(records, size, sizes, lowercase)
    first_rare = {
        record["id"]: next((n for n in ngrams(record["text"], sizes, lowercase) if n not in vocabulary), None)
        for record in records
    }
    wanted = {id_ for id_, ngram in first_rare.items() if ngram is None}
    assert 10 < len(wanted) < 140
    source = split_input(records, tmp_path / "in", 5)
    for number, (partition_bytes, part) in enumerate(CUTS):
        out = tmp_path / str(number)
        options = {"size": size, "ngrams": sizes, "lowercase": lowercase}
        result = run_inline(vocabulary_job(source, out, part, **options), partition_bytes)
        assert {row["id"] for row in shards(out)} == wanted
        told = {row["id"]: (row["reason"], row["value"]) for row in ledger(out)}
        assert told == {id_: ("rare_word", ngram) for id_, ngram in first_rare.items() if ngram is not None}
        assert result.totals["dropped"] == {"vocabulary": {"rare_word": 150 - len(wanted)}}


def test_where_all_words_are_known_nothing_is_dropped_and_nothing_sent_back(tmp_path: Path) -> None:
    records = captions(40)
    distinct = len({ngram for record in records for ngram in ngrams(record["text"], [1, 2])})
    source = split_input(records, tmp_path / "in", 3)
    for size, dropped in ((distinct, False), (distinct - 1, True)):
        job = vocabulary_job(source, tmp_path / str(size), size=size)
        totals = run_inline(job).totals
        assert (totals["kept"] < 40) == dropped
        assert ("vocabulary-rare" in stage_names(job["run"]["work"])) == dropped
        assert totals["in"] == 40


def test_words_are_counted_among_the_survivors_of_earlier_steps(tmp_path: Path) -> None:
    records = [{"id": f"k{n}", "text": "red house"} for n in range(2)]
    records += [{"id": f"g{n}", "text": "a garden that is green"} for n in range(5)]
    source = split_input(records, tmp_path / "in", 2)
    job = vocabulary_job(source, tmp_path / "out", size=3)
    run_inline(job)
    assert {row["id"] for row in shards(tmp_path / "out")} == set()  # nine of the garden are as frequent
    job["steps"].insert(0, {"rule": "word_count < 3"})
    job["output"]["path"] = str(tmp_path / "after")
    run_inline(job)
    assert {row["id"] for row in shards(tmp_path / "after")} == {"k0", "k1"}


@given(st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=4), st.integers(1, 30))
def test_the_border_lets_in_as_many_as_fit_and_no_part_of_a_tie(counts: list[list[int]], size: int) -> None:
    tables = [
        pa.table({"occurrences": list(c), "ngrams": list(c.values())}, schema=HISTOGRAM)
        for c in map(Counter, counts)
    ]
    least, known_ones, total = least_known(tables, size)
    flat = [count for some in counts for count in some]
    assert total == len(flat)
    if least is None:
        assert len(flat) == known_ones <= size
        return
    assert known_ones == sum(count >= least for count in flat) <= size < len(flat)
    following = max((count for count in flat if count < least), default=None)
    assert following is not None
    assert sum(count >= following for count in flat) > size


def test_the_plan_says_that_the_step_reads_the_text(tmp_path: Path) -> None:
    job = thresher.load(
        vocabulary_job(split_input(captions(3), tmp_path / "in", 1), tmp_path / "out", size=5)
    )
    stages = {stage["stage"]: stage for stage in describe(job)}
    assert (stages["vocabulary"]["kind"], stages["vocabulary"]["reads"]) == ("exchange", ["text"])
