"""Retrieval around a curated set in whole jobs against all products of embeddings, in double precision."""

from __future__ import annotations

from collections import Counter
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from fields import Record, field, run
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.filters.embeddings.nearest_records import NearestRecords
from thresher.pipeline import retrieval
from thresher.pipeline.stage import TaskFailed
from thresher.schemas.contracts import AssetError
from thresher.schemas.progress import Silent

Matrix = npt.NDArray[np.float64]
DIMENSIONS = 12
EMBEDDING = field("embedding", "embedding")


def unit(matrix: Any) -> Matrix:
    matrix = np.asarray(matrix, np.float64)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def records_with(matrix: Any, missing: tuple[int, ...] = ()) -> list[Record]:
    """A record for each row, as float16 holds it; some have no embedding."""
    rows = np.asarray(matrix, np.float16).astype(np.float64)
    return [
        {
            "id": f"r{number:03d}",
            "text": "t" * (1 + number % 9),
            "n": number,
            "embedding": None if number in missing else row.tolist(),
        }
        for number, row in enumerate(rows)
    ]


def corpus_and_queries(count: int, queries: int, seed: int = 0) -> tuple[list[Record], Matrix]:
    draw = np.random.default_rng(seed)
    records = records_with(draw.normal(size=(count, DIMENSIONS)), missing=(3, count - 1))
    return records, draw.normal(size=(queries, DIMENSIONS)).astype(np.float16).astype(np.float64)


def cosines(records: list[Record], queries: Matrix) -> tuple[list[str], Matrix]:
    """The ids of the records that have an embedding, and the cosine of each of them (column) and query."""
    there = [record for record in records if record["embedding"] is not None]
    return [r["id"] for r in there], unit(queries) @ unit([r["embedding"] for r in there]).T


def nearest(records: list[Record], queries: Matrix, k: int, least: float = -1) -> set[str]:
    ids, near = cosines(records, queries)
    found = set()
    for row in near:
        order = np.argsort(-row)
        edge = row[order[k - 1 : k + 1]]
        assert len(edge) < 2 or edge[0] - edge[1] > 1e-6, "the example has no ties that rounding decides"
        found |= {ids[at] for at in order[:k] if row[at] >= least}
    return found


def retrieve(folder: Path, queries: Any, **options: Any) -> Record:
    folder.mkdir(exist_ok=True)
    np.save(folder / "curated.npy", np.asarray(queries, np.float16))
    return {"retrieve": {"of": "embedding", "around": "curated.npy", **options}, "name": "near"}


CUTS = ((3, "1MB"), (12, "1KB"), (20, "4KB"))


@pytest.mark.parametrize(("k", "least"), [(1, -1.0), (4, -1.0), (7, 0.55)])
def test_the_nearest_records_of_each_query_stay_however_the_corpus_is_cut(
    tmp_path: Path, k: int, least: float
) -> None:
    records, queries = corpus_and_queries(90, 9)
    step = retrieve(tmp_path, queries, neighbours={"k": k, "min_similarity": least})
    wanted = nearest(records, queries, k, least)
    assert k < len(wanted) < 60
    for files, part in CUTS:
        kept, lost = run(tmp_path, records, [EMBEDDING, step], files=files, part=part, out=f"out-{files}")
        assert set(kept) == wanted
        without = {id_ for id_, why in lost.items() if why == ("dropped", "null_embedding")}
        assert without == {"r003", "r089"}
        assert {why for id_, why in lost.items() if id_ not in without} == {("dropped", "not_retrieved")}


def test_more_than_a_record_has_neighbours_is_everything_that_has_an_embedding(tmp_path: Path) -> None:
    records, queries = corpus_and_queries(30, 2)
    step = retrieve(tmp_path, queries, neighbours={"k": 500})
    kept, _ = run(tmp_path, records, [EMBEDDING, step], files=12)
    assert set(kept) == {r["id"] for r in records if r["embedding"] is not None}


def test_equally_near_records_are_taken_by_draw_however_the_corpus_is_cut(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    rows = np.repeat(draw.normal(size=(4, DIMENSIONS)), 10, axis=0)[draw.permutation(40)]
    records, queries = records_with(rows), rows[:1]
    ids, near = cosines(records, queries)
    equal = sorted(
        (id_ for id_, value in zip(ids, near[0], strict=True) if value > 0.999),
        key=lambda id_: xxhash.xxh3_64_intdigest(f"0\0near\0{id_}".encode()),
    )
    assert len(equal) == 10
    for files in (2, 13):
        step = retrieve(tmp_path, queries, neighbours={"k": 4})
        kept, _ = run(tmp_path, records, [EMBEDDING, step], files=files, out=f"out-{files}")
        assert sorted(kept) == sorted(equal[:4])


def test_only_records_that_an_expression_is_true_of_are_looked_at(tmp_path: Path) -> None:
    records, queries = corpus_and_queries(80, 5)
    step = retrieve(tmp_path, queries, neighbours={"k": 3}, where="char_count > 3 and n % 2 == 0")
    eligible = [r for r in records if len(r["text"]) > 3 and r["n"] % 2 == 0]
    wanted = nearest(eligible, queries, 3)
    assert wanted != nearest(records, queries, 3)
    for files in (2, 11):
        kept, _ = run(
            tmp_path, records, [EMBEDDING, field("n", "int64"), step], files=files, out=f"out-{files}"
        )
        assert set(kept) == wanted


def test_a_report_says_what_was_retrieved_and_a_rule_joins_it_with_another_choice(tmp_path: Path) -> None:
    records, queries = corpus_and_queries(60, 6)
    step = retrieve(tmp_path, queries, neighbours={"k": 5}, action="report") | {"as": "in_image_based"}
    top = {"select": {"top": "50%", "by": "n", "action": "report"}, "as": "top_clip"}
    wanted = nearest(records, queries, 5)
    told, lost = run(tmp_path, records, [EMBEDDING, field("n", "int64"), step, top])
    assert {id_ for id_, row in told.items() if row["in_image_based"]} == wanted
    assert len(told) == 60
    assert not lost
    rule = {"rule": "in_image_based and top_clip"}
    both, _ = run(tmp_path, records, [EMBEDDING, field("n", "int64"), step, top, rule], out="both")
    assert set(both) == wanted & {r["id"] for r in records if r["n"] >= 30}


@pytest.mark.parametrize("action", ["drop", "report"])
def test_records_without_an_embedding_stay_where_the_step_keeps_them(tmp_path: Path, action: str) -> None:
    records, queries = corpus_and_queries(30, 3)
    records[5]["embedding"] = [0.0] * DIMENSIONS
    step = retrieve(tmp_path, queries, neighbours={"k": 2}, action=action, budget=4) | {"on_null": "keep"}
    kept, _ = run(tmp_path, records, [EMBEDDING, step])
    stay = {id_ for id_, row in kept.items() if row.get("retrieved", True)}
    assert {"r003", "r005", "r029"} <= stay
    assert len(stay) == 3 + 4


def test_a_record_without_an_embedding_ends_the_run_where_the_step_says_so(tmp_path: Path) -> None:
    records, queries = corpus_and_queries(10, 1)
    step = retrieve(tmp_path, queries, neighbours={"k": 2}) | {"on_null": "fail"}
    with pytest.raises(TaskFailed, match="r003 has no embedding"):
        run(tmp_path, records, [EMBEDDING, step])


def test_a_budget_draws_from_all_that_was_retrieved(tmp_path: Path) -> None:
    records, queries = corpus_and_queries(90, 8)
    found = nearest(records, queries, 6)
    drawn = sorted(found, key=lambda id_: -xxhash.xxh3_64_intdigest(f"0\0near\0budget\0{id_}".encode()))
    step = retrieve(tmp_path, queries, neighbours={"k": 6}, budget=11)
    for files in (2, 14):
        kept, lost = run(tmp_path, records, [EMBEDDING, step], files=files, out=f"out-{files}")
        assert sorted(kept) == sorted(drawn[:11])
        assert {id_ for id_, (_, why) in lost.items() if why == "over_budget"} == set(drawn[11:])


def islands(seed: int = 0) -> tuple[list[Record], Matrix, Matrix, npt.NDArray[np.int64]]:
    """Records around five centres far from each other, queries near some of them, and where each belongs."""
    draw = np.random.default_rng(seed)
    centres = np.linalg.qr(draw.normal(size=(DIMENSIONS, DIMENSIONS)))[0][:5]
    of_record = draw.integers(0, 5, 100)
    rows = centres[of_record] + draw.normal(size=(100, DIMENSIONS)) / 40
    queries = centres[[0, 0, 0, 2, 4, 4]] + draw.normal(size=(6, DIMENSIONS)) / 40
    return records_with(rows, missing=(2,)), queries, centres, of_record


@pytest.mark.parametrize(("least", "islands_taken"), [(1, {0, 2, 4}), (2, {0, 4}), (3, {0}), (4, set())])
def test_clusters_with_so_many_queries_are_taken_whole(
    tmp_path: Path, least: int, islands_taken: set[int]
) -> None:
    records, queries, _, of_record = islands()
    step = retrieve(tmp_path, queries, clusters={"clusters": 5, "min_queries": least})
    for files in (2, 12):
        kept, lost = run(tmp_path, records, [EMBEDDING, step], files=files, out=f"out-{files}")
        assert set(kept) == {r["id"] for r in records if of_record[r["n"]] in islands_taken} - {"r002"}
        assert lost["r002"] == ("dropped", "null_embedding")


def test_of_each_cluster_so_many_are_drawn_and_the_budget_is_drawn_anew(tmp_path: Path) -> None:
    records, queries, _, of_record = islands()

    def draw_of(purpose: str, id_: str) -> int:
        return xxhash.xxh3_64_intdigest(f"0\0{purpose}\0{id_}".encode())

    members = []
    for island in (0, 2, 4):
        mine = [r["id"] for r in records if of_record[r["n"]] == island and r["id"] != "r002"]
        members += sorted(mine, key=lambda id_: -draw_of("near", id_))[:4]
    step = retrieve(tmp_path, queries, clusters={"clusters": 5, "per_cluster": 4})
    for files in (2, 12):
        kept, _ = run(tmp_path, records, [EMBEDDING, step], files=files, out=f"out-{files}")
        assert sorted(kept) == sorted(members)
    step["retrieve"]["budget"] = 5
    kept, lost = run(tmp_path, records, [EMBEDDING, step], out="budget")
    assert sorted(kept) == sorted(sorted(members, key=lambda id_: -draw_of("near\0budget", id_))[:5])
    assert sum(why == "over_budget" for _, why in lost.values()) == 7


def test_clusters_are_those_of_the_records_that_may_be_retrieved(tmp_path: Path) -> None:
    records, queries, _, of_record = islands()
    where = {"where": "n % 2 == 0", "clusters": {"clusters": 5}}
    step = retrieve(tmp_path, queries, **where)
    kept, _ = run(tmp_path, records, [EMBEDDING, field("n", "int64"), step])
    wanted = {r["id"] for r in records if of_record[r["n"]] in (0, 2, 4) and r["n"] % 2 == 0}
    assert set(kept) == wanted - {"r002"}
    alone, _ = run(
        tmp_path,
        [r for r in records if r["n"] % 2 == 0],
        [EMBEDDING, {"cluster": {"of": "embedding", "clusters": 5}, "name": "near"}],
        out="alone",
    )
    assert len({row["cluster"] for row in alone.values()} - {None}) == 5


def test_datacomp_assigns_by_the_product_with_means_that_are_not_of_length_one(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    close = np.eye(DIMENSIONS)[0] + draw.normal(size=(60, DIMENSIONS)) / 5
    records = records_with(unit(np.concatenate([close, draw.normal(size=(120, DIMENSIONS))])))
    queries = draw.normal(size=(4, DIMENSIONS)).astype(np.float16).astype(np.float64)
    ids = [record["id"] for record in records]
    rows = np.array([record["embedding"] for record in records])
    kept_by = {}
    for assign in ("nearest", "inner_product"):
        clusters = {"clusters": 8, "metric": "euclidean", "assign": assign}
        step = retrieve(tmp_path, queries, clusters=clusters)
        kept_by[assign], _ = run(tmp_path, records, [EMBEDDING, step], out=assign)
        stages = tmp_path / f"{assign}-work" / "stages"
        (file,) = stages.glob("*-near-centroids-*/*.centroids-1.*.npy")
        centroids = np.load(file).astype(np.float64)
        distance = (
            -np.square(unit(queries)[:, None] - centroids).sum(2),
            -np.square(rows[:, None] - centroids).sum(2),
        )
        product = unit(queries) @ centroids.T, rows @ centroids.T
        of_query, of_record = (near.argmax(1) for near in (distance if assign == "nearest" else product))
        wanted = {id_ for id_, at in zip(ids, of_record, strict=True) if at in set(of_query)}
        assert set(kept_by[assign]) == wanted
    assert set(kept_by["nearest"]) != set(kept_by["inner_product"])


def test_queries_are_read_from_npz_and_parquet_and_assigned_in_many_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "QUERY_BYTES", 2 * 4 * DIMENSIONS)
    records, queries, _, of_record = islands(seed=1)
    np.savez(tmp_path / "curated.npz", other=np.zeros(3), images=np.asarray(queries, np.float32))
    column = pa.array([*queries.tolist(), None], pa.list_(pa.float32()))
    pq.write_table(pa.table({"images": column, "id": list("abcdefg")}), tmp_path / "curated.parquet")
    wanted = {r["id"] for r in records if of_record[r["n"]] in (0, 4)} - {"r002"}
    for name in ("curated.npz", "curated.parquet"):
        around = {"of": "embedding", "around": name, "array": "images"}
        step = {"retrieve": {**around, "clusters": {"clusters": 5, "min_queries": 2}}}
        kept, _ = run(tmp_path, records, [EMBEDDING, step], out=name.replace(".", "-"))
        assert set(kept) == wanted


def test_embeddings_of_another_length_than_the_queries_are_refused(tmp_path: Path) -> None:
    records, queries = corpus_and_queries(8, 2)
    step = retrieve(tmp_path, queries[:, :5], neighbours={"k": 1})
    with pytest.raises(TaskFailed, match=r"12 numbers where those of curated.npy have 5"):
        run(tmp_path, records, [EMBEDDING, step])


def test_a_curated_set_without_an_embedding_is_refused(tmp_path: Path) -> None:
    records, _ = corpus_and_queries(8, 2)
    step = retrieve(tmp_path, np.zeros((3, DIMENSIONS)), neighbours={"k": 1})
    with pytest.raises(AssetError, match="no embedding to look for"):
        run(tmp_path, records, [EMBEDDING, step])


def test_a_corpus_without_embeddings_or_records_retrieves_nothing(tmp_path: Path) -> None:
    _, queries = corpus_and_queries(8, 2)
    for number, options in enumerate(
        ({"neighbours": {"k": 3}}, {"clusters": {"clusters": 2, "per_cluster": 1}})
    ):
        step = retrieve(tmp_path, queries, **options, budget=2)
        bare = [{"id": f"r{n}", "text": "t", "embedding": None} for n in range(4)]
        kept, lost = run(tmp_path, bare, [EMBEDDING, step], out=f"bare-{number}")
        assert (kept, len(lost)) == ({}, 4)
        kept, _ = run(tmp_path, bare, [{"rule": "char_count > 9"}, EMBEDDING, step], out=f"none-{number}")
        assert kept == {}


def one_by_one(queries: Matrix, records: Matrix, ties: list[int], k: int, least: float) -> list[list[int]]:
    """The nearest in exact arithmetic of small integers, so that ties are ties."""
    found = []
    for query in queries:
        near = [
            (-float(query @ record), tie, place)
            for place, (record, tie) in enumerate(zip(records, ties, strict=True))
        ]
        found.append([place for value, _, place in sorted(near)[:k] if -value >= least])
    return found


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_lists_of_the_nearest_hold_what_sorting_everything_gives(data: Any) -> None:
    # Rows of four equal or absent halves have length one exactly, and so do their products.
    rows = st.sampled_from([r for r in np.ndindex(3, 3, 3, 3) if sum(x != 1 for x in r) == 4])
    queries = (np.array(data.draw(st.lists(rows, min_size=1, max_size=4))) - 1) / 2
    records = (np.array(data.draw(st.lists(rows, max_size=30))).reshape(-1, 4) - 1) / 2
    ties = data.draw(st.lists(st.integers(0, 3), min_size=len(records), max_size=len(records)))
    k, least = data.draw(st.integers(1, 8)), data.draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0]))
    held = NearestRecords(queries.astype(np.float32), k, np.full(len(queries), least))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=3)))
    for first, stop in zip([0, *cuts], [*cuts, len(records)], strict=True):
        positions = np.arange(first, stop, dtype=np.uint64)
        held.add(records[first:stop].astype(np.float32), np.array(ties[first:stop], np.uint64), positions)
    numbers, similarity, _, positions = held.rows()
    found: list[list[int]] = [[] for _ in queries]
    for query, value, place in zip(numbers, similarity, positions.astype(int), strict=True):
        assert value == queries[query] @ records[place]
        found[query].append(int(place))
    assert found == one_by_one(queries, records, ties, k, least)


def test_what_a_list_holds_is_the_same_to_the_bit_whatever_is_multiplied_together() -> None:
    draw = np.random.default_rng(9)
    records = unit(draw.normal(size=(700, 33))).astype(np.float32)
    queries = unit(draw.normal(size=(50, 33))).astype(np.float32)
    ties = draw.integers(0, 1 << 60, 700).astype(np.uint64)
    positions = np.arange(700, dtype=np.uint64)
    answers = []
    for step, together in ((700, 50), (1, 50), (7, 1), (300, 3)):
        rows = []
        for start in range(0, 50, together):
            held = NearestRecords(queries[start : start + together], 5, np.full(50, -1.0)[:together])
            for first in range(0, 700, step):
                block = slice(first, first + step)
                held.add(records[block], ties[block], positions[block])
            rows.append(held.rows()[1:])
        answers.append([np.concatenate(column).tobytes() for column in zip(*rows, strict=True)])
    assert answers[0] == answers[1] == answers[2] == answers[3]


class Rows(Silent):
    """Notes the rows that the reduce side of each stage gets, and the tasks of each stage."""

    def __init__(self) -> None:
        self.of_stage: Counter[str] = Counter()
        self.tasks: dict[str, int] = {}

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None:
        self.tasks[name] = tasks

    def task_done(self, name: str, rows_in: int, rows_out: int, bytes: int) -> None:
        self.of_stage[name] += rows_in


def test_of_many_parts_the_first_tell_the_others_what_need_not_be_sent(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    records, queries = records_with(draw.normal(size=(480, DIMENSIONS))), draw.normal(size=(10, DIMENSIONS))
    step = retrieve(tmp_path, queries, neighbours={"k": 2})
    rows = Rows()
    kept, _ = run(tmp_path, records, [EMBEDDING, step], files=24, part="4KB", listener=rows)
    assert set(kept) == nearest(records, np.asarray(queries, np.float16).astype(np.float64), 2)
    parts = rows.tasks["near-apply"]
    assert parts > 20
    first = len(range(0, parts, isqrt(parts)))
    assert rows.of_stage["near-bounds"] == first * 10 * 2
    assert rows.of_stage["near-nearest"] < (parts - first) * 10 * 2 / 2
