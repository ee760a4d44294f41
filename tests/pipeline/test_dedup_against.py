"""Keys that a run leaves, and later runs that go on from them."""

from __future__ import annotations

import itertools
import json
import random
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
from test_dedup_clusters import ledger, run_inline
from test_whole_jobs import output_digest, shards, split_input
from thresher.filters.dedup.minhash import MinHashScheme, band_keys
from thresher.jobs.problems import JobFileError
from thresher.pipeline.against import check_against
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.steps.against import MatchOlder
from thresher.schemas.dedup import Dedup

SCHEME = {"bands": 30, "rows": 2, "ngram": 2, "words": "whitespace"}


def texts(prefix: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Texts that share much with each other and, for the same first words, with those of other prefixes."""
    made = []
    for number in range(count):
        draw = random.Random(number % 40)
        words = draw.choices(corpus.WORDS, k=30)
        draw = random.Random(1000 * seed + number)
        for _ in range(draw.randrange(14)):
            words[draw.randrange(30)] = draw.choice(corpus.WORDS) + str(draw.randrange(9))
        made.append({"id": f"{prefix}{number:03d}", "text": " ".join(words)})
    return made


def job(source: str, out: Path, method: str, **options: Any) -> dict[str, Any]:
    made = corpus.job(source, out)
    made["steps"] = [{"dedup": {method: options}}]
    made["output"]["shuffle"] = "none"
    return made


def bands(records: list[dict[str, Any]]) -> list[set[int]]:
    keys = band_keys(pa.array([record["text"] for record in records]), MinHashScheme(**SCHEME))  # type: ignore[arg-type]
    return [set(row) for row in keys.to_pylist()]


def first_of_clusters(records: list[dict[str, Any]]) -> dict[str, str]:
    """For each record the first of those that it is joined with by shared keys, through others too."""
    keys, label = bands(records), list(range(len(records)))
    for a in range(len(records)):
        for b in range(a):
            if keys[a] & keys[b]:
                low, high = sorted((label[a], label[b]))
                label = [low if one == high else one for one in label]
    return {record["id"]: records[root]["id"] for record, root in zip(records, label, strict=True)}


def expected(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> dict[str, str]:
    """Id of each new record that goes -> who stands for it, with the first of a cluster kept."""
    kept = [record for record in old if first_of_clusters(old)[record["id"]] == record["id"]]
    old_keys = bands(kept)
    gone, fresh = {}, []
    for record, keys in zip(new, bands(new), strict=True):
        meets = [other["id"] for other, theirs in zip(kept, old_keys, strict=True) if keys & theirs]
        if meets:
            gone[record["id"]] = meets[0]
        else:
            fresh.append(record)
    return gone | {id_: root for id_, root in first_of_clusters(fresh).items() if id_ != root}


def test_a_later_run_drops_what_an_earlier_kept_and_nothing_through_it(tmp_path: Path) -> None:
    old, new = texts("old", 70, 1), texts("new", 90, 2)
    before = job(
        split_input(old, tmp_path / "old", 3),
        tmp_path / "before",
        "minhash",
        **SCHEME,
        keep="first",
        save_keys=True,
    )
    run_inline(before)
    wanted = expected(old, new)
    kinds = {value[:3] for value in wanted.values()}
    assert kinds == {"old", "new"}
    assert len(wanted) < 85
    source = split_input(new, tmp_path / "new", 4)
    for name, partition_bytes, memory in (("one", None, "1GB"), ("many", 20_000, 1)):
        after = job(
            source,
            tmp_path / name,
            "minhash",
            **SCHEME,
            keep="first",
            cluster_memory=memory,
            against=str(tmp_path / "before"),
        )
        totals = run_inline(after, partition_bytes).totals
        assert {row["id"]: row["value"] for row in ledger(tmp_path / name)} == wanted
        assert {row["verdict"] for row in ledger(tmp_path / name)} == {"duplicate"}
        assert totals["duplicates"] == {"dedup:minhash": len(wanted)}
    joined = first_of_clusters(old + new)
    # In one run old records would have bridged: more would have gone.
    assert sum(id_.startswith("new") and id_ != root for id_, root in joined.items()) > len(wanted)


@pytest.mark.parametrize("options", [{}, {"on": "url"}, {"normalize": "lower"}])
def test_exact_copies_of_an_earlier_run_go(tmp_path: Path, options: dict[str, Any]) -> None:
    def records(prefix: str, numbers: list[int]) -> list[dict[str, Any]]:
        return [
            {
                "id": f"{prefix}{at}",
                "text": f"text {n}" if n >= 0 else "",
                "url": f"http://x/{n}" if n >= 0 else None,
            }
            for at, n in enumerate(numbers)
        ]

    old, new = records("old", [1, 2, 2, -1, 5]), records("new", [7, 2, 1, 7, 9, -1])
    run_inline(
        job(
            split_input(old, tmp_path / "old", 2),
            tmp_path / "before",
            "exact",
            keep="first",
            save_keys=True,
            **options,
        )
    )
    out = tmp_path / "after"
    run_inline(
        job(
            split_input(new, tmp_path / "new", 2),
            out,
            "exact",
            keep="first",
            against=[str(tmp_path / "before")],
            **options,
        )
    )
    wanted = {"new1": "old1", "new2": "old0", "new3": "new0"} | (
        {} if options.get("on") else {"new5": "old3"}
    )
    assert {row["id"]: row["value"] for row in ledger(out)} == wanted


def test_a_chain_of_runs_keeps_what_one_run_would_keep_of_exact_copies(tmp_path: Path) -> None:
    draw = random.Random(3)
    everything = [{"id": f"r{n:03d}", "text": f"text {draw.randrange(60)}"} for n in range(150)]
    kept: list[str] = []
    against: list[str] = []
    for number in range(3):
        out = tmp_path / f"out-{number}"
        source = split_input(everything[number * 50 : number * 50 + 50], tmp_path / f"in-{number}", 2)
        run_inline(job(source, out, "exact", keep="first", save_keys=True, against=list(against)))
        against.append(str(out))
        kept += [row["id"] for row in shards(out)]
    seen: dict[str, str] = {}
    for record in everything:
        seen.setdefault(record["text"], record["id"])
    assert sorted(kept) == sorted(seen.values())


def saved(tmp_path: Path, **options: Any) -> Path:
    source = split_input(texts("old", 20, 1), tmp_path / "old", 2)
    run_inline(job(source, tmp_path / "before", "minhash", **{**SCHEME, "save_keys": True, **options}))
    return tmp_path / "before"


def test_saved_keys_say_how_they_were_made_and_hold_what_survived(tmp_path: Path) -> None:
    folder = saved(tmp_path) / "keys" / "dedup-minhash"
    said = json.loads((folder / "scheme.json").read_text())
    assert said["step"] == "dedup:minhash"
    assert said["scheme"]["digest"] == MinHashScheme(**SCHEME).digest  # type: ignore[arg-type]
    table = pa.concat_tables(pq.read_table(folder / file["path"]) for file in said["files"])
    rows = shards(tmp_path / "before")
    assert said["records"] == table.num_rows == len(rows)
    assert sorted(table.column("id").to_pylist()) == sorted(row["id"] for row in rows)
    of = dict(zip(table.column("id").to_pylist(), table.column("keys").to_pylist(), strict=True))
    assert {id_: set(keys) for id_, keys in of.items()} == {
        row["id"]: keys for row, keys in zip(rows, bands(rows), strict=True)
    }


def test_keys_are_left_only_where_the_job_says_so_and_go_with_the_next_run(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    assert (folder / "keys").is_dir()
    run_inline(job(str(tmp_path / "old" / "*.jsonl"), folder, "minhash", **SCHEME))
    assert not (folder / "keys").exists()


def checked(path: Path | str, method: str = "minhash", **options: Any) -> str | None:
    base = SCHEME if method == "minhash" else {}
    return check_against(Dedup.model_validate({method: {**base, "against": str(path), **options}}))


def test_another_scheme_is_refused_with_the_difference(tmp_path: Path) -> None:
    before = saved(tmp_path)
    assert checked(before) is None
    assert checked(before / "keys" / "dedup-minhash") is None
    message = checked(before, ngram=5, lowercase=True)
    assert message is not None
    assert "ngram 2, here 5" in message
    assert "lowercase False, here True" in message
    assert "bands" not in message
    assert "method minhash, here exact" in str(checked(before, "exact"))


def test_missing_cut_and_unreadable_keys_are_refused(tmp_path: Path) -> None:
    before = saved(tmp_path)
    assert "no saved keys" in str(checked(tmp_path / "nowhere"))
    folder = before / "keys" / "dedup-minhash"
    description = (folder / "scheme.json").read_bytes()
    (folder / "scheme.json").write_text("{}")
    assert "cannot be read" in str(checked(before))
    (folder / "scheme.json").write_bytes(description)
    part = next(folder.glob("part-*"))
    part.write_bytes(part.read_bytes()[:-1])
    assert "is missing or cut" in str(checked(before))


def test_two_steps_of_one_scheme_must_be_told_apart(tmp_path: Path) -> None:
    made = job(
        split_input(texts("old", 9, 1), tmp_path / "old", 1), tmp_path / "out", "exact", save_keys=True
    )
    made["steps"] *= 2
    run_inline(made)
    assert "name one of" in str(checked(tmp_path / "out", "exact"))
    assert checked(tmp_path / "out" / "keys" / "dedup-exact_2", "exact") is None


def test_a_job_with_the_wrong_keys_is_refused_before_it_starts(tmp_path: Path) -> None:
    before = saved(tmp_path)
    source = split_input(texts("new", 5, 2), tmp_path / "new", 1)
    made = job(source, tmp_path / "after", "minhash", **{**SCHEME, "ngram": 3}, against=str(before))
    with pytest.raises(JobFileError, match="ngram 2, here 3"):
        thresher.load(made)
    assert not (tmp_path / "after").exists()


def test_processes_and_a_run_that_was_stopped_write_the_same(tmp_path: Path) -> None:
    before = saved(tmp_path)
    made = job(
        split_input(texts("new", 60, 2), tmp_path / "new", 3),
        tmp_path / "out",
        "minhash",
        **SCHEME,
        against=str(before),
        save_keys=True,
    )
    run_inline(made)
    wanted = output_digest(tmp_path / "out")
    assert any(name.startswith("keys/") for name in wanted)
    for stage in sorted((Path(made["run"]["work"]) / "stages").iterdir())[1:]:
        for entry in list(stage.glob("*.json"))[::2]:
            entry.unlink()
    thresher.run(thresher.load(made))
    assert output_digest(tmp_path / "out") == wanted


keys = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=25).map(sorted)


def _batches(rows: list[tuple[int, int]], name: str, cuts: list[int]) -> list[pa.RecordBatch]:
    table = pa.RecordBatch.from_pydict(
        {
            "key": pa.array([key for key, _ in rows], pa.uint64()),
            "low": pa.array([low for _, low in rows], pa.uint64()),
            name: pa.array(np.arange(len(rows)), pa.uint64()),
        }
    )
    bounds = [0, *sorted(cuts), len(rows) + 25]
    return [table.slice(a, b - a) for a, b in itertools.pairwise(bounds) if a <= len(rows)]


@given(
    new=keys,
    old=keys,
    cuts=st.lists(st.integers(0, 25), max_size=5),
    more=st.lists(st.integers(0, 25), max_size=5),
)
def test_a_match_is_the_first_old_row_with_both_halves_of_the_hash(
    tmp_path_factory: pytest.TempPathFactory,
    new: list[tuple[int, int]],
    old: list[tuple[int, int]],
    cuts: list[int],
    more: list[int],
) -> None:
    out = PartOutput(tmp_path_factory.mktemp("out"), 0, "run")
    MatchOlder().reduce(
        {"new": iter(_batches(new, "position", cuts)), "old": iter(_batches(old, "old", more))}, out
    )
    found = pq.read_table(out.commit(0, 0).streams["matches"].path).to_pylist()
    wanted = [(at, old.index(pair)) for at, pair in enumerate(new) if pair in old]
    assert [(row["position"], row["old"]) for row in found] == wanted
