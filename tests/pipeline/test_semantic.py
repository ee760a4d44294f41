"""Semantic dedup in whole jobs against all pairs of each cluster, however the corpus is cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
from inline_engine import inline_tasks
from test_dedup_clusters import ledger, stage_names
from test_whole_jobs import output_digest, shards, split_input
from thresher.filters.dedup.stars import spread
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.draws import draws
from thresher.pipeline.exchange import sorted_partition
from thresher.pipeline.stage import TaskFailed
from thresher.pipeline.steps.groups import groups
from thresher.pipeline.steps.semantic import ByCluster, FindTooNear

# A scorer whose embeddings are the numbers of the text.
MODULE = '''\
import json

import pyarrow as pa
from thresher.scorers import Scorer


class NumberLists(Scorer):
    """`embedding`: the numbers of the text, null where it has none."""

    version = 1
    inputs = ("text",)

    def __init__(self, type="halffloat"):
        self._type = pa.list_(pa.type_for_alias(type))

    @property
    def outputs(self):
        return {"embedding": self._type}

    def score(self, batch):
        numbers = [json.loads(text) or None for text in batch.column("text").to_pylist()]
        return {"embedding": pa.array(numbers, self._type)}


class Flag(Scorer):
    """Whether the text ends with a space; null where it does not."""

    version = 1
    inputs = ("text",)
    outputs = {"flag": pa.bool_()}

    def score(self, batch):
        flags = [text[-1:] == " " or None for text in batch.column("text").to_pylist()]
        return {"flag": pa.array(flags, pa.bool_())}
'''
SCORE = {"score": {"number_lists:NumberLists": {}}, "as": "e", "on_null": "keep"}
FLAG = {"score": {"number_lists:Flag": {}}, "as": "flag", "on_null": "keep"}
CUTS = ((None, "1MB"), (2000, "4KB"), (900, "2KB"))


@pytest.fixture(autouse=True)
def _inline() -> Iterator[None]:
    with inline_tasks():
        yield


def embeddings(count: int, dimensions: int = 8, seed: int = 0) -> np.ndarray:
    """Directions as float16, in some groups; the last ones are near copies, and copies, of the first."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((6, dimensions))
    found = centres[random.integers(0, 6, count)] + 0.5 * random.standard_normal((count, dimensions))
    half, tenth = count // 2, count // 10
    found[half:-tenth] = found[: count - tenth - half]
    found[half:-tenth] += 0.12 * random.standard_normal((count - tenth - half, dimensions))
    found[-tenth:] = found[:tenth]
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def records(rows: np.ndarray, without: int = 3) -> list[dict[str, Any]]:
    """Records whose texts are these numbers, shuffled, and some without."""
    made = [{"id": f"r{n:03d}", "text": json.dumps(row.tolist())} for n, row in enumerate(rows)]
    made += [{"id": f"none{n}", "text": "[]"} for n in range(without)]
    return [made[n] for n in np.random.default_rng(1).permutation(len(made))]


def job(folder: Path, source: str, *steps: dict[str, Any], part: str = "4KB", **run: Any) -> dict[str, Any]:
    """A job beside the scorer, which writes to `<folder>/out`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "number_lists.py").write_text(MODULE)
    return {
        "name": "near",
        "input": source,
        "steps": [SCORE, *steps],
        "output": {"path": str(folder / "out"), "shuffle": "none"},
        "run": {"directory": str(folder), "work": str(folder / "work"), "part": part, **run},
    }


def run(described: dict[str, Any], partition_bytes: int | None = None) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        if partition_bytes:
            patch.setattr("thresher.pipeline.driver.PARTITION_BYTES", partition_bytes)
        return thresher.run(thresher.load(described, allow_code=True), allow_code=True)


def duplicates(out: Path) -> dict[str, str]:
    assert all(row["verdict"] == row["reason"] == "duplicate" for row in ledger(out))
    return {row["id"]: row["value"] for row in ledger(out)}


def unit(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def thinned(
    described: list[dict[str, Any]], centroids: np.ndarray, threshold: float, keep: str, step: str
) -> dict[str, str]:
    """What goes, and for what, by all pairs of each cluster, in the order that the paper's code has."""
    there = [record for record in described if record["text"] != "[]"]
    rows = unit(np.array([json.loads(record["text"]) for record in there]))
    nearness = rows @ centroids.T.astype(np.float64)
    ids = [record["id"] for record in there]
    draw = draws(pa.array(ids), 0, step).tolist()
    gone: dict[str, str] = {}
    for number in range(len(centroids)):
        mine = [row for row in range(len(rows)) if nearness[row].argmax() == number]
        sign = {"hard": 1, "easy": -1, "random": 0}[keep]
        mine.sort(key=lambda row: (sign * round(nearness[row, number], 6), draw[row]))
        for place, row in enumerate(mine):
            cosines = [round(float(rows[row] @ rows[other]), 9) for other in mine[:place]]
            assert all(abs(cosine - threshold) > 1e-6 for cosine in cosines)
            if cosines and max(cosines) > threshold:
                gone[ids[row]] = ids[mine[cosines.index(max(cosines))]]
    return gone


def centroids_of(work: Path) -> np.ndarray:
    (found,) = work.glob("stages/*-centroids-*/*.centroids-1.*.npy")
    return np.load(found)


@pytest.mark.parametrize("keep", ["hard", "easy", "random"])
def test_what_goes_is_what_all_pairs_of_each_cluster_say_however_the_corpus_is_cut(
    tmp_path: Path, keep: str
) -> None:
    described = records(embeddings(120))
    source = split_input(described, tmp_path / "in", 5)
    step = {"dedup": {"semantic": {"of": "e", "threshold": 0.97, "clusters": 5, "keep": keep}}}
    answers, cuts = [], set()
    for number, (partition_bytes, part) in enumerate(CUTS):
        folder = tmp_path / str(number)
        result = run(job(folder, source, step, part=part), partition_bytes)
        answers.append(duplicates(folder / "out"))
        exchange = list((folder / "work").glob("stages/*-semantic-clusters-*/0*.json"))
        parts = list((folder / "work").glob("stages/*-semantic-apply-*/0*.json"))
        cuts.add((len(exchange), len(parts)))
        assert result.totals["duplicates"] == {"dedup:semantic": len(answers[-1])}
    expected = thinned(described, centroids_of(tmp_path / "0" / "work"), 0.97, keep, "dedup:semantic")
    assert answers[0] == expected
    assert answers[1] == answers[2] == expected
    assert len(cuts) == 3
    assert 20 < len(expected) < 80


def test_of_copies_one_stays_and_is_named_whatever_its_place(tmp_path: Path) -> None:
    rows = np.repeat(np.eye(3, 4, dtype=np.float16), 9, axis=0)
    source = split_input(records(rows, without=0), tmp_path / "in", 3)
    run(job(tmp_path, source, {"dedup": {"semantic": {"of": "e", "clusters": 2, "threshold": 0.999}}}))
    gone = duplicates(tmp_path / "out")
    kept = {row["id"] for row in shards(tmp_path / "out")}
    assert len(gone) == 24
    assert set(gone.values()) == kept
    assert {int(id_[1:]) // 9 for id_ in kept} == {0, 1, 2}
    assert all(int(id_[1:]) // 9 == int(keeper[1:]) // 9 for id_, keeper in gone.items())


def test_a_record_near_one_that_goes_itself_goes_too(tmp_path: Path) -> None:
    angles = np.radians([0.0, 10.0, 20.0, 30.0])  # neighbours have a cosine of 0.985, the next 0.94
    chain = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float16)
    chain = np.concatenate([chain, np.float16([[0.0, -1.0]] * 2)])  # which make the centroid lie apart
    source = split_input(records(chain, without=0), tmp_path / "in", 1)
    for keep in ("hard", "easy"):
        folder = tmp_path / keep
        options = {"of": "e", "clusters": 1, "threshold": 0.97, "keep": keep}
        run(job(folder, source, {"dedup": {"semantic": options}}))
        gone = duplicates(folder / "out")
        assert gone == thinned(
            records(chain, without=0), centroids_of(folder / "work"), 0.97, keep, "dedup:semantic"
        )
        assert len(gone) == 4


def test_records_without_an_embedding_or_without_a_direction_stay(tmp_path: Path) -> None:
    described = [{"id": f"r{n}", "text": text} for n, text in enumerate(["[]", "[0, 0]", "[0, 0]", "[1, 0]"])]
    described += [{"id": "again", "text": "[2, 0]"}]
    source = split_input(described, tmp_path / "in", 2)
    result = run(job(tmp_path, source, {"dedup": {"semantic": {"of": "e"}}}))
    assert sorted(row["id"] for row in shards(tmp_path / "out") if row["id"] != "again") in (
        ["r0", "r1", "r2"],
        ["r0", "r1", "r2", "r3"],
    )
    assert result.totals["kept"] == 4


def test_a_corpus_without_any_embedding_passes(tmp_path: Path) -> None:
    source = split_input([{"id": str(n), "text": "[]"} for n in range(6)], tmp_path / "in", 2)
    for number, method in enumerate(("semantic", "neighbours")):
        folder = tmp_path / str(number)
        result = run(job(folder, source, {"dedup": {method: {"of": "e"}}}))
        assert result.totals["kept"] == result.totals["in"] == 6


@pytest.mark.parametrize("method", ["semantic", "neighbours"])
def test_embeddings_of_several_lengths_are_an_error_that_names_the_column(
    tmp_path: Path, method: str
) -> None:
    described = [{"id": str(n), "text": "[1, 0]" if n < 4 else "[1, 0, 0]"} for n in range(8)]
    source = split_input(described, tmp_path / "in", 2)
    with pytest.raises(TaskFailed, match=r"an embedding has \d numbers"):
        run(job(tmp_path, source, {"dedup": {method: {"of": "e"}}}, part="100B"))


def test_lists_of_float32_of_any_length_are_compared_by_direction(tmp_path: Path) -> None:
    rows = embeddings(60).astype(np.float32)
    stretched = rows * np.random.default_rng(3).uniform(0.1, 30, (60, 1)).astype(np.float32)
    step = {"dedup": {"semantic": {"of": "e", "threshold": 0.97, "clusters": 3}}}
    gone = []
    for number, (kind, matrix) in enumerate((("halffloat", rows), ("float", stretched))):
        folder = tmp_path / str(number)
        described = job(folder, split_input(records(matrix), folder / "in", 2), step)
        described["steps"][0] = SCORE | {"score": {"number_lists:NumberLists": {"type": kind}}}
        run(described)
        # Of copies any may go: the last six are those of the first.
        gone.append(sorted(int(id_[1:]) % 54 for id_ in duplicates(folder / "out")))
    assert gone[0] == gone[1]
    assert len(gone[0]) > 10


def test_another_threshold_finds_the_centroids_where_they_are(tmp_path: Path) -> None:
    source = split_input(records(embeddings(60)), tmp_path / "in", 2)
    counts = []
    for threshold in (0.95, 0.99):
        options = {"of": "e", "threshold": threshold, "clusters": 3}
        described = job(tmp_path, source, {"dedup": {"semantic": options}})
        described["output"]["path"] = str(tmp_path / f"out-{threshold}")
        run(described)
        counts.append(len(duplicates(tmp_path / f"out-{threshold}")))
    names = stage_names(str(tmp_path / "work"))
    assert names.count("dedup-semantic-centroids") == 1
    assert names.count("dedup-semantic-clusters") == 2
    assert counts[0] > counts[1] > 0


def rows_by_cluster(matrix: np.ndarray, clusters: np.ndarray, folder: Path) -> pa.RecordBatch:
    """What the exchange of one partition brings, with centroids along the axes of the clusters."""
    np.save(folder / "axes.npy", np.eye(int(clusters.max()) + 1, matrix.shape[1], dtype=np.float32))
    operator = ByCluster("e", str(folder / "axes.npy"), 0, "step", 1)
    operator.open()
    positions = np.arange(len(matrix), dtype=np.uint64)
    batch = pa.RecordBatch.from_pydict(
        {
            "position": pa.array(positions),
            "id": [f"r{n}" for n in range(len(matrix))],
            "e": pa.array(list(matrix.astype(np.float16)), pa.list_(pa.float16())),
        }
    )
    found = operator.apply(batch, None)  # type: ignore[arg-type]
    assert found.column("key").to_pylist() == spread(clusters.astype(np.uint64)).tolist()
    return found


@pytest.mark.parametrize("order", ["hard", "easy", "random"])
def test_a_cluster_that_is_not_held_gives_what_one_that_is_held_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    random = np.random.default_rng(5)
    clusters = np.array([0] * 150 + [1] * 40 + [2])
    matrix = np.eye(3, 6)[clusters] + 0.2 * random.standard_normal((len(clusters), 6)) * np.array([0.5] * 6)
    rows = rows_by_cluster(matrix, clusters, tmp_path)
    monkeypatch.setattr("thresher.filters.dedup.semantic.BLOCK_ROWS", 32)
    answers = []
    for number, limit in enumerate((10**6, 1500)):
        monkeypatch.setattr(
            "thresher.pipeline.steps.semantic.groups",
            lambda batches, new_file, limit=limit: groups(batches, new_file, limit),
        )
        out = PartOutput(tmp_path / str(number), 0, "run")
        batches = sorted_partition(
            [rows.take(pa.array(np.argsort(rows.column("key"))))], rows.schema, "key", 0, 1
        )
        FindTooNear(0.97, order).reduce({"records": batches}, out)
        found = pq.read_table(out.commit(0, 0).streams["duplicates"].path)
        answers.append(sorted(zip(*(column.to_pylist() for column in found.columns), strict=True)))
        assert [path.suffix for path in (tmp_path / str(number)).iterdir() if "parquet" not in path.name] == [
            ".json"
        ]
    assert answers[0] == answers[1]
    assert len({position for position, _ in answers[0]}) == len(answers[0]) > 30


def test_output_does_not_depend_on_how_the_corpus_is_cut_into_parts(tmp_path: Path) -> None:
    described = records(embeddings(90))
    digests = []
    for number, (partition_bytes, files) in enumerate(((None, 1), (700, 1), (900, 1))):
        folder = tmp_path / str(number)
        source = split_input(described, tmp_path / "in", files)
        steps = [
            {"dedup": {"semantic": {"of": "e", "threshold": 0.98}}},
            {"dedup": {"neighbours": {"of": "e", "min_similarity": 0.96}}},
        ]
        run(job(folder, source, *steps), partition_bytes)
        digests.append(
            {k: v for k, v in output_digest(folder / "out").items() if "shard" in k or "ledger" in k}
        )
    assert digests[0] == digests[1] == digests[2]
    assert len(digests[0]) > 1


@pytest.mark.slow
def test_worker_processes_find_what_one_process_finds(tmp_path: Path) -> None:
    source = split_input(records(embeddings(120)), tmp_path / "in", 3)
    steps = [
        {"dedup": {"semantic": {"of": "e", "threshold": 0.98, "clusters": 4}}},
        {"dedup": {"neighbours": {"of": "e", "min_similarity": 0.96, "lists": 4, "probes": 2}}},
    ]
    run(job(tmp_path / "inline", source, *steps))
    with pytest.MonkeyPatch.context() as patch:
        from thresher.pipeline.engines import local, opening

        patch.setattr(opening, "LocalEngine", local.LocalEngine)
        run(job(tmp_path / "workers", source, *steps, workers=2))
    assert duplicates(tmp_path / "inline" / "out") == duplicates(tmp_path / "workers" / "out")
