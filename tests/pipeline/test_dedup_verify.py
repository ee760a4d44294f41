"""Dedup with `verify` against every pair of texts that share a band."""

from __future__ import annotations

import random
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_dedup_clusters import ledger, minhash_job, run_inline
from test_whole_jobs import output_digest, split_input
from thresher.filters.dedup.minhash import MinHashScheme, band_keys
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.steps import verify
from thresher.pipeline.steps.verify import ShingleSets, VerifyClusters

SCHEME: dict[str, Any] = {"bands": 30, "rows": 2, "ngram": 2, "words": "whitespace"}


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts that share many pairs of words, from nearly equal to hardly alike."""
    draw = random.Random(seed)
    made: list[str] = []
    for number in range(count):
        words = made[draw.randrange(len(made))].split() if number % 4 else draw.choices(corpus.WORDS, k=40)
        for _ in range(draw.randrange(12)):
            words[draw.randrange(len(words))] = draw.choice(corpus.WORDS)
        made.append(" ".join(words))
    return made


def bigrams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return set(pairwise(words))


def expected_roots(some: list[str], bound: float, heads: int = 64) -> list[int]:
    """The first of each text's component among the pairs that are compared and similar."""
    keys = np.array(band_keys(pa.array(some), MinHashScheme(**SCHEME)).to_pylist(), np.uint64)
    label = list(range(len(some)))
    for band in range(keys.shape[1]):
        for key in set(keys[:, band].tolist()):
            bucket = np.flatnonzero(keys[:, band] == np.uint64(key)).tolist()
            for a, b in combinations(bucket, 2):
                mine, theirs = bigrams(some[a]), bigrams(some[b])
                if bucket.index(a) < heads and len(mine & theirs) / len(mine | theirs) >= bound:
                    low, high = sorted((label[a], label[b]))
                    label = [low if one == high else one for one in label]
    return label


def candidate_batch(some: list[str]) -> pa.RecordBatch:
    """All texts as one cluster of candidates."""
    batch = pa.RecordBatch.from_pydict(
        {
            "position": pa.array(range(len(some)), pa.uint64()),
            "keys": band_keys(pa.array(some), MinHashScheme(**SCHEME)),
            "text": some,
            "root": pa.array([0] * len(some), pa.uint64()),
        }
    )
    return ShingleSets("keys", "text", SCHEME, 1 << 16).apply(batch, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("heads", [1, 3, 64])
@pytest.mark.parametrize(
    ("group_bytes", "gather_bytes"), [(1 << 30, 1 << 30), (1 << 30, 300), (1, 1 << 30), (1, 300)]
)
def test_what_lies_on_disk_is_compared_like_what_lies_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heads: int, group_bytes: int, gather_bytes: int
) -> None:
    some = texts(120)
    whole = verify.groups
    monkeypatch.setattr(verify, "groups", lambda batches, new_file: whole(batches, new_file, group_bytes))
    monkeypatch.setattr(verify, "GATHER_BYTES", gather_bytes)
    rows = candidate_batch(some)
    out = PartOutput(tmp_path, 0, "run")
    # The order in which rows of one key come is that of parts; positions alone decide which is first.
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(len(rows))))
    cut = [shuffled.slice(at, 11) for at in range(0, len(rows), 11)]
    VerifyClusters(0.5, heads, 1 << 16).reduce({"members": iter(cut)}, out)
    found = pq.read_table(out.commit(0, 0).streams["members"].path).to_pydict()
    roots = dict(zip(found["position"], found["root"], strict=True))
    expected = expected_roots(some, 0.5, heads)
    assert {at: root for at, root in enumerate(expected) if expected.count(root) > 1} == roots
    assert len(set(roots.values())) > 3
    assert [path for path in tmp_path.iterdir() if "unfinished" in path.name] == []


@pytest.mark.parametrize("bound", [0.4, 0.7, 0.95])
def test_a_job_removes_what_is_similar_and_nothing_else(tmp_path: Path, bound: float) -> None:
    some = texts(150, seed=2)
    records = [{"id": f"r{n:03d}", "text": text} for n, text in enumerate(some)]
    expected = expected_roots(some, bound)
    answers = []
    for name, memory, partition_bytes in (("whole", "1GB", None), ("many", 1, 30_000)):
        out = tmp_path / name
        job = minhash_job(
            split_input(records, tmp_path / "in", 4),
            out,
            **SCHEME,
            verify=bound,
            keep="first",
            cluster_memory=memory,
        )
        run_inline(job, partition_bytes)
        answers.append({row["id"]: row["value"] for row in ledger(out)})
    gone = {f"r{n:03d}": f"r{root:03d}" for n, root in enumerate(expected) if n != root}
    assert answers == [gone, gone]
    assert len(gone) > 5


def test_a_lower_bound_removes_more_and_no_bound_most(tmp_path: Path) -> None:
    records = [{"id": f"r{n:03d}", "text": text} for n, text in enumerate(texts(150, seed=3))]
    source = split_input(records, tmp_path / "in", 2)
    gone = []
    for bound in (0.9, 0.6, None):
        out = tmp_path / f"out-{bound}"
        run_inline(minhash_job(source, out, **SCHEME, keep="first", **({"verify": bound} if bound else {})))
        gone.append({row["id"] for row in ledger(out)})
    assert gone[0] < gone[1] < gone[2]


def test_the_source_is_read_again_where_the_text_was_never_copied(tmp_path: Path) -> None:
    records = [{"id": f"r{n:03d}", "text": text} for n, text in enumerate(texts(80, seed=4))]
    lines = split_input(records, tmp_path / "in", 1)
    table = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pylist(records), table)
    digests = []
    for source in (lines, str(table)):
        out = tmp_path / "out"
        job = minhash_job(source, out, **SCHEME, verify=0.6)
        job["run"]["work"] = str(tmp_path / Path(source).stem)
        run_inline(job)
        digests.append({row["id"]: row["value"] for row in ledger(out)})
    assert digests[0] == digests[1]
    assert digests[0]
    assert output_digest(tmp_path / "out")
