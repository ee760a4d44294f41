"""Nearest neighbours and their components in whole jobs against all pairs, however the corpus is cut."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inline_engine import inline_tasks
from PIL import Image
from test_dedup_clusters import ledger
from test_semantic import CUTS, FLAG, duplicates, embeddings, job, records, run, unit
from test_whole_jobs import split_input
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.draws import draws
from thresher.pipeline.exchange import sorted_partition
from thresher.pipeline.stage import TaskFailed
from thresher.pipeline.steps.groups import groups
from thresher.pipeline.steps.neighbours import ByLists, FindNeighbours, MergeNeighbours


@pytest.fixture(autouse=True)
def _inline() -> Iterator[None]:
    with inline_tasks():
        yield


def components(described: list[dict[str, Any]], k: int, bar: float, step: str) -> list[list[str]]:
    """The ids of each component of all exact nearest neighbours, in the order of the corpus."""
    there = [record for record in described if record["text"].strip() != "[]"]
    ids = [record["id"] for record in there]
    rows = unit(np.array([json.loads(record["text"]) for record in there]))
    draw = draws(pa.array(ids), 0, step).tolist()
    cosines = np.round(rows @ rows.T, 9)
    of = list(range(len(ids)))
    for row in range(len(ids)):
        others = sorted(
            (other for other in range(len(ids)) if other != row and cosines[row, other] > bar),
            key=lambda other: (-cosines[row, other], draw[other], other),
        )
        for other in others[:k]:
            of = [of[row] if mark == of[other] else mark for mark in of]
    return [[ids[n] for n in range(len(ids)) if of[n] == mark] for mark in dict.fromkeys(of)]


def step(**options: Any) -> dict[str, Any]:
    return {"dedup": {"neighbours": {"of": "e", "lists": 1, **options}}}


def test_of_each_component_of_exact_neighbours_the_first_stays_however_the_corpus_is_cut(
    tmp_path: Path,
) -> None:
    described = records(embeddings(120))
    source = split_input(described, tmp_path / "in", 5)
    for k in (1, 2, 64):
        expected = {
            id_: first
            for first, *others in components(described, k, 0.975, "dedup:neighbours")
            for id_ in others
        }
        assert 20 < len(expected) < 110
        for number, (partition_bytes, part) in enumerate(CUTS if k == 2 else CUTS[:1]):
            folder = tmp_path / f"{k}-{number}"
            memory = 1 if number == 2 else "1GB"
            options = {"k": k, "min_similarity": 0.975, "cluster_memory": memory}
            result = run(job(folder, source, step(**options), part=part), partition_bytes)
            assert duplicates(folder / "out") == expected
            assert result.totals["kept"] == len(described) - len(expected)


@pytest.mark.parametrize("keep", ["longest", {"best": "char_count"}, {"best": "word_count"}])
def test_the_record_that_stays_is_the_one_that_is_asked_for(tmp_path: Path, keep: Any) -> None:
    described = records(embeddings(80))
    for number, record in enumerate(described):
        record["text"] += "\n" * (number * 7 % 5)  # which is no part of the numbers
    source = split_input(described, tmp_path / "in", 4)
    run(job(tmp_path, source, step(min_similarity=0.975, keep=keep), part="2KB"), 1500)
    texts = {record["id"]: record["text"] for record in described}
    of = {"longest": len, "char_count": len, "word_count": lambda text: len(text.split())}
    measure = of[keep if isinstance(keep, str) else keep["best"]]
    expected = {}
    for ids in components(described, 64, 0.975, "dedup:neighbours"):
        best = min(ids, key=lambda id_: (-measure(texts[id_]), id_))  # type: ignore[operator]
        expected |= {id_: best for id_ in ids if id_ != best}
    assert duplicates(tmp_path / "out") == expected
    assert len(expected) > 20


def test_a_component_with_a_contaminated_record_goes_as_a_whole(tmp_path: Path) -> None:
    described = records(embeddings(100, seed=2))
    for record in described[::9]:
        record["text"] += " "
    described += [{"id": "alone", "text": "[] "}, {"id": "clean", "text": "[]"}]
    tainted = {record["id"] for record in described if record["text"][-1] == " "}
    expected: dict[str, tuple[str, str, str | None]] = dict.fromkeys(
        tainted, ("dropped", "contaminated", None)
    )
    embedded = [record | {"text": record["text"].strip()} for record in described]
    for first, *others in components(embedded, 64, 0.975, "dedup:neighbours"):
        if tainted & {first, *others}:
            expected |= dict.fromkeys([first, *others], ("dropped", "contaminated", None))
        else:
            expected |= dict.fromkeys(others, ("duplicate", "duplicate", first))
    assert {"dropped", "duplicate"} == {verdict for verdict, _, _ in expected.values()}
    assert len(expected) < len(described)
    source = split_input(described, tmp_path / "in", 4)
    for number, (partition_bytes, part) in enumerate(CUTS):
        folder = tmp_path / str(number)
        options = step(min_similarity=0.975, contaminated="flag")
        result = run(job(folder, source, FLAG, options, part=part), partition_bytes)
        told = {row["id"]: (row["verdict"], row["reason"], row["value"]) for row in ledger(folder / "out")}
        assert told == expected
        assert result.totals["kept"] == len(described) - len(expected)


def test_what_is_contaminated_is_a_column_of_true_and_false(tmp_path: Path) -> None:
    source = split_input(records(embeddings(10)), tmp_path / "in", 1)
    with pytest.raises(TaskFailed, match=r"contaminated: column char_count holds .*int"):
        run(job(tmp_path, source, step(contaminated="char_count")))


def test_what_is_searched_are_the_nearest_lists(tmp_path: Path) -> None:
    described = records(embeddings(120), without=0)
    source = split_input(described, tmp_path / "in", 3)
    found = []
    for probes in (1, 3, 7, 99):
        folder = tmp_path / str(probes)
        options = step(lists=7, probes=probes, min_similarity=0.975)
        run(job(folder, source, options), 3000 if probes == 3 else None)
        found.append(duplicates(folder / "out"))
    every = {
        id_: first
        for first, *others in components(described, 64, 0.975, "dedup:neighbours")
        for id_ in others
    }
    assert found[2] == found[3] == every
    assert 0 < len(found[0]) <= len(found[1]) <= len(every)
    (path,) = (tmp_path / "3" / "work").glob("stages/*-centroids-*/*.centroids-1.*.npy")
    centroids = np.load(path).astype(np.float64)
    rows = {record["id"]: unit(np.array([json.loads(record["text"])]))[0] for record in described}
    lists = {id_: np.argsort(-(centroids @ row)).tolist() for id_, row in rows.items()}
    order = [record["id"] for record in described]
    of = {id_: id_ for id_ in order}
    for one in order:
        for other in order:
            if one != other and lists[other][0] in lists[one][:3] and rows[one] @ rows[other] > 0.975:
                first, second = sorted((of[one], of[other]), key=order.index)
                of = {id_: first if root == second else root for id_, root in of.items()}
    assert found[1] == {id_: root for id_, root in of.items() if id_ != root}


def test_lists_that_are_not_held_give_what_those_that_are_held_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = embeddings(200, 6, seed=4)
    np.save(tmp_path / "axes.npy", np.eye(2, 6, dtype=np.float32))
    operator = ByLists("e", str(tmp_path / "axes.npy"), 2, 0, "step", 1)
    operator.open()
    rows = operator.apply(
        pa.RecordBatch.from_pydict(
            {
                "position": pa.array(np.arange(200, dtype=np.uint64)),
                "id": [f"r{n}" for n in range(200)],
                "e": pa.array(list(matrix), pa.list_(pa.float16())),
            }
        ),
        None,  # type: ignore[arg-type]
    )
    assert len(rows) == 400
    assert sum(rows.column("base").to_pylist()) == 200
    monkeypatch.setattr("thresher.filters.embeddings.neighbours.BLOCK_ROWS", 32)
    monkeypatch.setattr("thresher.pipeline.steps.groups.PIECE_ROWS", 50)
    answers = []
    for number, limit in enumerate((10**6, 1)):
        monkeypatch.setattr(
            "thresher.pipeline.steps.neighbours.groups",
            lambda batches, new_file, limit=limit: groups(batches, new_file, limit),
        )
        edges = rows
        for reducer, name, stream in (
            (FindNeighbours(5, 0.9), "records", "neighbours"),
            (MergeNeighbours(5), "neighbours", "edges"),
        ):
            out = PartOutput(tmp_path / f"{number}-{stream}", 0, "run")
            in_order = edges.take(pa.array(np.argsort(edges.column("key").to_numpy(), kind="stable")))
            reducer.reduce({name: sorted_partition([in_order], edges.schema, "key", 0, 1)}, out)
            found = pq.read_table(out.commit(0, 0).streams[stream].path).combine_chunks()
            edges = found.to_batches()[0]
        answers.append(sorted(zip(*(column.to_pylist() for column in edges.columns), strict=True)))
    cosines = np.round(unit(matrix) @ unit(matrix).T, 9)
    np.fill_diagonal(cosines, -2)
    assert answers[0] == answers[1]
    degrees = np.minimum((cosines > 0.9).sum(axis=1), 5)
    assert len(answers[0]) == degrees.sum()


def test_the_largest_image_stays(tmp_path: Path) -> None:
    directions = [[1, 0], [1, 0.01], [0, 1], [0.01, 1], [0, -1]]
    sizes = [(4, 4), (9, 9), (30, 2), (3, 19), (5, 5)]  # the fourth has fewer pixels than the third
    described = []
    for number, (direction, size) in enumerate(zip(directions, sizes, strict=True)):
        file = io.BytesIO()
        Image.new("RGB", size, (number, 0, 0)).save(file, "PNG")
        described.append({"id": f"r{number}", "image": file.getvalue(), "caption": json.dumps(direction)})
    corpus.write_parquet(tmp_path / "in.parquet", described)
    pictures = job(tmp_path, str(tmp_path / "in.parquet"), step(min_similarity=0.9, keep="largest"))
    pictures["modality"] = "image-text"
    pictures["input"] = [{"path": pictures["input"], "columns": {"id": "id", "text": "caption"}}]
    run(pictures)
    assert duplicates(tmp_path / "out") == {"r0": "r1", "r3": "r2"}
