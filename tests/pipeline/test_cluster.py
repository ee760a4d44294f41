"""Clusters of embeddings in whole jobs, against k-means in plain numpy, however the corpus is cut."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest
import thresher
import xxhash
from inline_engine import inline_tasks
from test_dedup_clusters import stage_names
from test_whole_jobs import output_digest, shards, split_input
from thresher.jobs.problems import JobFileError
from thresher.pipeline.stage import TaskFailed
from thresher.schemas.contracts import AssetError
from thresher.schemas.progress import Silent

SCORER = '''\
import json

import pyarrow as pa
from thresher.scorers import Scorer


class Given(Scorer):
    """The embedding that stands in the text: as lists of float16, or of float32."""

    version = 1
    inputs = ("text",)

    def __init__(self, wide=False):
        self._type = pa.list_(pa.float32() if wide else pa.float16())

    @property
    def outputs(self):
        return {"vector": self._type}

    def score(self, batch):
        values = [json.loads(text) for text in batch.column("text").to_pylist()]
        return {"vector": pa.array(values, pa.list_(pa.float32())).cast(self._type)}
'''


def clouds(count: int, dimensions: int = 6, groups: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """Records whose text is an embedding near one of a few directions; each tenth has none."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((groups, dimensions))
    made = []
    for number in range(count):
        vector = centres[number % groups] + 0.3 * rng.standard_normal(dimensions)
        text = "null" if number % 10 == 7 else json.dumps([round(float(value), 3) for value in vector])
        made.append({"id": f"r{number:04d}", "text": text})
    random.Random(seed).shuffle(made)
    return made


def job(folder: Path, source: str, name: str, *steps: Any, part: str = "2KB", wide: bool = True) -> Any:
    """A job whose records have an embedding as the column `vector`."""
    (folder / "given.py").write_text(SCORER)
    described = corpus.job(source, folder / name, part=part, directory=str(folder))
    scorer = {"score": {"given:Given": {"wide": wide}}, "as": "vector", "on_null": "keep"}
    described["steps"] = [scorer, *steps]
    described["output"]["shuffle"] = "none"
    return described


class Heard(Silent):
    """What a person is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def run(described: Any, partition_bytes: int | None = None) -> list[str]:
    """Runs a job in this process; returns what it tells."""
    heard = Heard()
    with inline_tasks(), pytest.MonkeyPatch.context() as patch:
        if partition_bytes:
            patch.setattr("thresher.pipeline.driver.PARTITION_BYTES", partition_bytes)
        thresher.run(thresher.load(described, allow_code=True), allow_code=True, listener=heard)
    return heard.notes


def vectors(records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    given = {record["id"]: json.loads(record["text"]) for record in records}
    return {name: np.array(value, np.float32) for name, value in given.items() if value is not None}


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def published(out: Path, step: str, level: int = 1) -> np.ndarray:
    return np.load(out / "centroids" / f"{step}-{level}.npy")


def lowest_draws(names: Iterable[str], step: str, count: int, seed: int = 0) -> list[str]:
    def draw(name: str) -> int:
        return xxhash.xxh3_64_intdigest(f"{seed}\0{step}\0{name}".encode())

    return sorted(names, key=draw)[:count]


def test_records_get_the_cluster_whose_centre_they_are_nearest_to(tmp_path: Path) -> None:
    records = clouds(150)
    source = split_input(records, tmp_path / "in", 4)
    step = {"cluster": {"of": "vector", "clusters": 4, "iterations": 100, "publish": True}}
    (told,) = run(job(tmp_path, source, "out", step))
    assert told == "cluster: 4 clusters, found from 135 embeddings"
    rows = {row["id"]: row for row in shards(tmp_path / "out")}
    centroids = published(tmp_path / "out", "cluster")
    assert centroids.dtype == np.float32
    given = vectors(records)
    assert set(rows) == {record["id"] for record in records}
    for name, row in rows.items():
        if name not in given:
            assert (row["cluster"], row["cluster_similarity"]) == (None, None)
            continue
        cosines = centroids @ unit(given[name])
        assert row["cluster"] == cosines.argmax()
        assert row["cluster_similarity"] == pytest.approx(cosines.max(), abs=1e-6)
    for number in range(4):  # the rounds sufficed for them to stand still
        members = [unit(given[name]) for name in given if rows[name]["cluster"] == number]
        np.testing.assert_allclose(centroids[number], unit(np.mean(members, axis=0)), atol=1e-6)


def test_centroids_come_from_the_records_with_the_lowest_draws(tmp_path: Path) -> None:
    records = clouds(200)
    source = split_input(records, tmp_path / "in", 3)
    # With one record for each cluster, and no two alike, every one is a centroid.
    step = {"cluster": {"of": "vector", "clusters": 9, "sample": 1, "publish": True}, "name": "few"}
    (told,) = run(job(tmp_path, source, "out", step))
    assert told == "few: 9 clusters, found from 9 embeddings"
    given = vectors(records)
    expected = unit(np.stack([given[name] for name in lowest_draws(given, "few", 9)]))
    found = published(tmp_path / "out", "few")
    np.testing.assert_allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], atol=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_how_the_corpus_is_cut_makes_no_difference(tmp_path: Path, metric: str) -> None:
    records = clouds(240, seed=2)
    source = split_input(records, tmp_path / "in", 5)
    options = {"of": "vector", "clusters": [12, 3], "sample": 9, "metric": metric, "resample": 1}
    step = {"cluster": {**options, "nearest": 2, "publish": True}}
    answers = []
    for name, part, partition_bytes, wide in (
        ("one", "1MB", None, False),
        ("many", "900B", 4000, False),
        ("more", "300B", 500, False),
    ):
        described = job(tmp_path, source, name, step, part=part, wide=wide)
        run(described, partition_bytes)
        rows = {
            row["id"]: (row["cluster"], row["cluster_similarity"], row["cluster_2"])
            for row in shards(tmp_path / name)
        }
        levels = [published(tmp_path / name, "cluster", level).tobytes() for level in (1, 2)]
        answers.append((rows, levels))
    assert answers[0] == answers[1] == answers[2]
    assert len({row[2] for row in answers[0][0].values()} - {None}) == 3


def test_an_engine_with_processes_finds_the_same(tmp_path: Path) -> None:
    source = split_input(clouds(60), tmp_path / "in", 2)
    step = {"cluster": {"of": "vector", "clusters": [5, 2]}, "as": "group"}
    for name in ("inline", "local"):
        described = job(tmp_path, source, name, step)
        if name == "inline":
            run(described)
        else:
            thresher.run(thresher.load(described, allow_code=True), allow_code=True)
    first, second = (output_digest(tmp_path / name) for name in ("inline", "local"))
    names = [name for name in first if name.startswith("shard")]
    assert names
    assert {name: first[name] for name in names} == {name: second[name] for name in names}
    stages = stage_names(described["run"]["work"])
    assert [name for name in stages if name.startswith("cluster")] == ["cluster-apply", "cluster-centroids"]


def test_coarser_levels_say_which_cluster_a_cluster_is_in(tmp_path: Path) -> None:
    records = clouds(120, groups=8)
    source = split_input(records, tmp_path / "in", 2)
    step = {"cluster": {"of": "vector", "clusters": [20, 6, 2], "publish": True}, "as": "topic"}
    run(job(tmp_path, source, "out", step))
    first, second, third = (published(tmp_path / "out", "cluster", level) for level in (1, 2, 3))
    assert [len(level) for level in (first, second, third)] == [20, 6, 2]
    above, top = (first @ second.T).argmax(1), (second @ third.T).argmax(1)
    for row in shards(tmp_path / "out"):
        if row["topic"] is None:
            assert (row["topic_2"], row["topic_3"]) == (None, None)
        else:
            assert row["topic_2"] == above[row["topic"]]
            assert row["topic_3"] == top[above[row["topic"]]]


def test_where_few_records_have_an_embedding_more_are_looked_at(tmp_path: Path) -> None:
    records = [
        {
            "id": f"r{number}",
            "text": json.dumps([math.cos(number), math.sin(number)]) if number % 50 == 0 else "null",
        }
        for number in range(2000)
    ]
    source = split_input(records, tmp_path / "in", 2)
    step = {"cluster": {"of": "vector", "clusters": 5, "sample": 2, "publish": True}}
    described = job(tmp_path, source, "out", step, part="20KB")
    (told,) = run(described)
    assert told == "cluster: 5 clusters, found from 10 embeddings"
    assert stage_names(described["run"]["work"]).count("cluster-centroids") == 2
    chosen = lowest_draws(vectors(records), "cluster", 10)
    expected = {tuple(np.round(unit(vectors(records)[name]), 5)) for name in chosen}
    rows = {row["id"]: row["cluster"] for row in shards(tmp_path / "out")}
    assert len(expected) == 10
    assert {rows[name] for name in chosen} == set(range(5))


def test_there_are_fewer_clusters_than_asked_for_where_embeddings_are_alike(tmp_path: Path) -> None:
    texts = ["[1, 0]", "[2, 0]", "[0, 3]", "[0, 0]", "null", "[0, 1]"]
    records = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    source = split_input(records, tmp_path / "in", 2)
    step = {"cluster": {"of": "vector", "clusters": [4, 3]}}
    told = run(job(tmp_path, source, "out", step))
    assert told[1:] == [
        f"cluster: 2 clusters instead of {wanted} of level {level}, for there are no more different "
        "embeddings"
        for level, wanted in ((1, 4), (2, 3))
    ]
    rows = {row["id"]: (row["cluster"], row["cluster_similarity"]) for row in shards(tmp_path / "out")}
    assert rows["0"] == rows["1"]
    assert rows["2"] == rows["5"]
    assert {rows["0"], rows["2"]} == {(0, 1.0), (1, 1.0)}
    assert rows["3"] == rows["4"] == (None, None)


def test_without_any_embedding_there_is_no_cluster(tmp_path: Path) -> None:
    records = [{"id": str(number), "text": "null"} for number in range(5)]
    source = split_input(records, tmp_path / "in", 2)
    told = run(job(tmp_path, source, "out", {"cluster": {"of": "vector", "clusters": [3, 2]}}))
    assert told[0] == "cluster: 0 clusters, found from 0 embeddings"
    assert {(row["cluster"], row["cluster_2"]) for row in shards(tmp_path / "out")} == {(None, None)}


def test_by_distance_how_near_a_record_is_is_minus_the_distance(tmp_path: Path) -> None:
    texts = ["[0]", "[4]", "[100]", "[103]"]
    records = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    source = split_input(records, tmp_path / "in", 2)
    run(job(tmp_path, source, "out", {"cluster": {"of": "vector", "clusters": 2, "metric": "euclidean"}}))
    rows = {row["id"]: (row["cluster"], row["cluster_similarity"]) for row in shards(tmp_path / "out")}
    assert rows["0"][0] == rows["1"][0] != rows["2"][0] == rows["3"][0]
    assert {name: row[1] for name, row in rows.items()} == {"0": -2, "1": -2, "2": -1.5, "3": -1.5}


def test_centroids_of_the_job_are_used_as_they_are(tmp_path: Path) -> None:
    records = clouds(40, dimensions=3)
    source = split_input(records, tmp_path / "in", 2)
    centroids = np.array([[0, 0, 2], [0, 5, 0], [1, 0, 0]], np.float32)
    np.save(tmp_path / "mine.npy", centroids)
    step = {"cluster": {"of": "vector", "clusters": 3, "centroids": "mine.npy", "publish": True}}
    described = job(tmp_path, source, "out", step)
    assert run(described) == []
    assert (published(tmp_path / "out", "cluster") == centroids).all()
    for row in shards(tmp_path / "out"):
        if row["cluster"] is not None:
            direction = unit(np.array(row["vector"], np.float32))
            assert row["cluster"] == [2, 1, 0][int(direction.argmax())]
            assert row["cluster_similarity"] == pytest.approx(direction.max(), abs=1e-6)
    np.save(tmp_path / "mine.npy", centroids[::-1])
    described["run"]["work"] = str(tmp_path / "out-work")
    described["output"]["path"] = str(tmp_path / "again")
    run(described)
    before, after = (
        {row["id"]: row["cluster"] for row in shards(tmp_path / name)} for name in ("out", "again")
    )
    assert after == {name: None if number is None else 2 - number for name, number in before.items()}


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((2, 3), np.float32), "has 2 centroids where clusters says 3"),
        (np.zeros((3, 3), np.int64), "a row of floating-point numbers for each cluster"),
        (np.zeros(3, np.float32), "a row of floating-point numbers for each cluster"),
        (np.full((3, 1), np.nan), "a centroid has a number that is not finite"),
        (None, "not a .npy of centroids"),
    ],
)
def test_what_are_no_centroids_is_refused_before_anything_runs(
    tmp_path: Path, array: np.ndarray | None, told: str
) -> None:
    if array is None:
        (tmp_path / "mine.npy").write_text("1, 2, 3")
    else:
        np.save(tmp_path / "mine.npy", array)
    source = split_input(clouds(4), tmp_path / "in", 1)
    step = {"cluster": {"of": "vector", "clusters": 3, "centroids": "mine.npy"}}
    with pytest.raises((AssetError, JobFileError), match=told):
        run(job(tmp_path, source, "out", step))


@pytest.mark.parametrize(
    ("of", "texts", "told"),
    [
        ("vector", ["[1, 2]", "[1, 2, 3]"], "an embedding has . numbers where others have ."),
        ("vector", ["[1, 2]", "[1, NaN]"], "column vector: an embedding has a number that is not finite"),
        ("url", ["[1]", "[2]"], '"url" holds no embeddings'),
    ],
)
def test_what_is_no_embedding_is_told(tmp_path: Path, of: str, texts: list[str], told: str) -> None:
    records = [{"id": str(number), "text": text, "url": "u"} for number, text in enumerate(texts)]
    source = split_input(records, tmp_path / "in", 2)
    with pytest.raises((TaskFailed, JobFileError), match=told):
        run(job(tmp_path, source, "out", {"cluster": {"of": of, "clusters": 2}}))


def test_a_cap_is_for_each_cluster_and_takes_those_next_to_its_centre(tmp_path: Path) -> None:
    source = split_input(clouds(80), tmp_path / "in", 3)
    cluster = {"cluster": {"of": "vector", "clusters": [7, 2]}}
    run(job(tmp_path, source, "all", cluster))
    members: dict[int, list[tuple[float, str]]] = defaultdict(list)
    for row in shards(tmp_path / "all"):
        if row["cluster"] is not None:
            members[row["cluster"]].append((-row["cluster_similarity"], row["id"]))
    cap = {"select": {"cap": 3, "by": "cluster_similarity", "within": "cluster"}}
    run(job(tmp_path, source, "capped", cluster, cap))
    expected = {name for group in members.values() for _, name in sorted(group)[:3]}
    assert {row["id"] for row in shards(tmp_path / "capped")} == expected
    # The numbers of clusters are a column like any other.
    steps = ({"select": {"top": "50%", "by": "cluster", "within": "cluster_2"}}, {"rule": "cluster > 1"})
    run(job(tmp_path, source, "half", cluster, *steps))
    assert {row["cluster"] for row in shards(tmp_path / "half")} <= set(range(2, 7))
