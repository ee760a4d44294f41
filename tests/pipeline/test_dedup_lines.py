"""Dedup of lines and paragraphs in whole jobs, against sets of lines in plain Python."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
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
from thresher.pipeline.commit import PartOutput
from thresher.pipeline.steps.line_dedup import FindCopies

MENU = [
    "Home | About | Contact",
    "Log in",
    "Cookies help us. Accept?",
    "© 2024 Example Ltd.",
    "HOME | about | contact",
]


def pages(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Pages with lines of their own, menus that repeat, and now and then a line twice."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        lines = draw.choices(MENU, k=draw.randrange(4))
        lines += corpus.document(number, words=30).split("\n") if number % 6 else []
        lines += draw.sample(lines, min(len(lines), number % 2))
        draw.shuffle(lines)
        text = "".join(line + draw.choice(["\n", "\n\n", "\n \n"]) for line in lines).rstrip("\n")
        made.append({"id": f"p{number:03d}", "text": text or "x", "site": "ab"[number % 2]})
    return made


def plain(line: str) -> str:
    """The normalisation, as far as these pages need it."""
    return "".join("0" if c.isdigit() else c for c in line.strip().lower())


def expected(records: list[dict[str, Any]], keep: str, within: str | None = None) -> dict[str, list[str]]:
    """The lines that are not blank that each record keeps, by what other records have."""
    owners: dict[tuple[Any, str], list[str]] = defaultdict(list)
    for record in records:
        for line in record["text"].split("\n"):
            owners[record.get(within or ""), plain(line)].append(record["id"])
    left: dict[str, list[str]] = {}
    for record in records:
        seen: Counter[str] = Counter()
        left[record["id"]] = []
        for line in filter(str.strip, record["text"].split("\n")):
            having = owners[record.get(within or ""), plain(line)]
            seen[plain(line)] += 1
            mine = having[0] == record["id"] if keep == "first" else len(set(having)) == 1
            if mine and seen[plain(line)] == 1:
                left[record["id"]].append(line)
    return left


def lines_job(source: str, out: Path, *before: Any, unit: str = "lines", **options: Any) -> dict[str, Any]:
    job = corpus.job(source, out)
    job["steps"] = [*before, {"dedup": {unit: options}}]
    job["output"]["shuffle"] = "none"
    return job


@pytest.mark.parametrize("keep", ["first", "none"])
def test_each_line_stays_where_the_definition_says(tmp_path: Path, keep: str) -> None:
    records = pages(90)
    source = split_input(records, tmp_path / "in", 5)
    wanted = {id_: lines for id_, lines in expected(records, keep).items() if lines}
    for name, partition_bytes in (("one", None), ("many", 20_000)):
        job = lines_job(source, tmp_path / name, keep=keep)
        job["run"]["part"] = "3KB"
        totals = run_inline(job, partition_bytes).totals
        kept = {
            row["id"]: list(filter(str.strip, row["text"].split("\n"))) for row in shards(tmp_path / name)
        }
        assert kept == wanted
        gone = {row["id"]: row["reason"] for row in ledger(tmp_path / name)}
        assert gone == dict.fromkeys({record["id"] for record in records} - set(wanted), "emptied")
        assert totals["kept"] == len(wanted)
    assert len(wanted) < 90
    assert output_digest(tmp_path / "one").keys() == output_digest(tmp_path / "many").keys()


def test_blank_lines_go_with_the_line_before_them(tmp_path: Path) -> None:
    records = [
        {"id": "a", "text": "\nMenu\n\n\nOne.\n\nFooter\n"},
        {"id": "b", "text": "MENU\n\nTwo.\n \n\nFooter"},
        {"id": "c", "text": "Three.\n\nmenu\n\nfour\n"},
    ]
    out = tmp_path / "out"
    run_inline(lines_job(split_input(records, tmp_path / "in", 1), out))
    assert {row["id"]: row["text"] for row in shards(out)} == {
        "a": "\nMenu\n\n\nOne.\n\nFooter\n",
        "b": "Two.",
        "c": "Three.\n\nfour\n",
    }


def test_with_blank_lines_compared_the_texts_are_those_of_ccnet(tmp_path: Path) -> None:
    records = pages(60, seed=4)
    out = tmp_path / "out"
    run_inline(lines_job(split_input(records, tmp_path / "in", 3), out, keep="none", min_length=0))
    having: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for line in record["text"].split("\n"):
            having[plain(line)].add(record["id"])
    wanted = {}
    for record in records:
        seen: set[str] = set()
        lines = []
        for line in record["text"].split("\n"):
            if len(having[plain(line)]) == 1 and plain(line) not in seen:
                lines.append(line)
            seen.add(plain(line))
        if text := "\n".join(lines):
            wanted[record["id"]] = text
    assert {row["id"]: row["text"] for row in shards(out)} == wanted


def test_paragraphs_are_compared_whole(tmp_path: Path) -> None:
    records = [
        {"id": "a", "text": "One line\nand another.\n\nShared\nparagraph 12.\n\nEnd of a."},
        {"id": "b", "text": "One line\n\nSHARED\nparagraph 34.\n\n\nand another."},
        {"id": "c", "text": "shared\nparagraph 56."},
    ]
    out = tmp_path / "out"
    run_inline(lines_job(split_input(records, tmp_path / "in", 2), out, unit="paragraphs"))
    assert {row["id"]: row["text"] for row in shards(out)} == {
        "a": records[0]["text"],
        "b": "One line\n\nand another.",
    }
    (row,) = ledger(out)
    assert (row["id"], row["step"], row["verdict"]) == ("c", "dedup:paragraphs", "dropped")
    assert (row["reason"], row["value"]) == ("emptied", "0")


def test_groups_of_a_column_are_compared_within_themselves(tmp_path: Path) -> None:
    records = pages(80, seed=2)
    for record in records:
        record["url"] = f"https://{record['site']}.example/"
    out = tmp_path / "out"
    run_inline(lines_job(split_input(records, tmp_path / "in", 3), out, within="url"))
    left = expected(records, "first", "url")
    kept = {row["id"]: list(filter(str.strip, row["text"].split("\n"))) for row in shards(out)}
    assert kept == {id_: lines for id_, lines in left.items() if lines}
    assert kept != {id_: lines for id_, lines in expected(records, "first").items() if lines}


def test_what_is_too_short_afterwards_is_dropped_with_its_length(tmp_path: Path) -> None:
    records = [{"id": "a", "text": "menu\nA text."}, {"id": "b", "text": "menu\nAnother text that is long."}]
    out = tmp_path / "out"
    run_inline(lines_job(split_input(records, tmp_path / "in", 1), out, min_chars=13))
    (row,) = ledger(out)
    assert (row["id"], row["reason"], row["value"]) == ("a", "too_short", "12")
    assert [row["text"] for row in shards(out)] == ["Another text that is long."]


def test_steps_behind_see_the_texts_without_the_copies(tmp_path: Path) -> None:
    records = [
        {"id": "a", "text": "menu one\nsame words here\nfirst"},
        {"id": "b", "text": "menu one\nother words here\nbut longer"},
        {"id": "c", "text": "menu two\nmenu one\nfirst of c"},
        {"id": "d", "text": "menu two\nsecond of d"},
    ]
    out = tmp_path / "out"
    job = lines_job(split_input(records, tmp_path / "in", 2), out, {"rule": "word_count > 3"})
    job["steps"] += [
        {"rule": "word_count < 6"},
        {"dedup": "exact"},
        {"select": {"by": "word_count", "top": "100%"}},
    ]
    run_inline(job)
    assert {row["id"]: row["text"] for row in shards(out)} == {
        "b": "other words here\nbut longer",
        "c": "menu two\nfirst of c",
        "d": "second of d",
    }
    (row,) = ledger(out)
    assert (row["id"], row["step"], row["value"]) == ("a", "rule:word_count_lt_6", "6")


def test_texts_that_only_the_lines_told_apart_are_duplicates_behind(tmp_path: Path) -> None:
    records = [{"id": f"r{n}", "text": f"menu {'x' * n}\nthe same text\nmenu {'x' * n}"} for n in range(4)]
    records += [{"id": f"s{n}", "text": f"menu {'x' * n}"} for n in range(4)]
    out = tmp_path / "out"
    job = lines_job(split_input(records, tmp_path / "in", 2), out, keep="none")
    job["steps"].append({"dedup": {"exact": {"keep": "first"}}})
    totals = run_inline(job).totals
    # The text itself is a line that four records have: nothing is left of any.
    assert totals["kept"] == 0
    for record in records[:4]:
        record["text"] = record["text"].replace("the same text", f"Text {record['id']} a")
    job = lines_job(split_input(records, tmp_path / "in2", 2), tmp_path / "out2", keep="none")
    job["steps"].append({"dedup": {"exact": {"normalize": "lower", "keep": "first"}}})
    assert run_inline(job).totals["kept"] == 0  # digits do not count in lines


def test_sizes_of_shards_follow_the_shorter_texts(tmp_path: Path) -> None:
    records = [
        {"id": f"r{n:03d}", "text": f"{'copied ' * 200}\nown {chr(97 + n % 26) * (n + 1)}"} for n in range(50)
    ]
    job = lines_job(split_input(records, tmp_path / "in", 3), tmp_path / "out", keep="none")
    job["output"]["shard"] = "1KB"
    job["steps"].append({"rule": "char_count > 4"})
    run_inline(job)
    sizes = Counter(
        shard["records"] for shard in json.loads((tmp_path / "out" / "manifest.json").read_text())["shards"]
    )
    bytes_ = sum(
        len(row[name] or "")
        for row in shards(tmp_path / "out")
        for name in ("id", "text", "url", "source", "meta")
    )
    assert sum(sizes.values()) == pytest.approx(bytes_ / 1000, abs=2)


def test_one_and_two_workers_and_a_stopped_run_write_the_same(tmp_path: Path) -> None:
    source = split_input(pages(60, seed=6), tmp_path / "in", 4)
    job = lines_job(source, tmp_path / "out")
    job["steps"].append({"dedup": {"paragraphs": {"keep": "none"}}})
    run_inline(job)
    expected_digest = output_digest(tmp_path / "out")
    for stage in sorted((Path(job["run"]["work"]) / "stages").iterdir())[2:]:
        for entry in list(stage.glob("*.json"))[::2]:
            entry.unlink()
    thresher.run(thresher.load(job))
    assert output_digest(tmp_path / "out") == expected_digest


rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=24).map(sorted)


def _copies(rows: Iterable[tuple[int, int]], keep: str) -> list[tuple[int, int]]:
    numbered = [(key, position, piece) for piece, (key, position) in enumerate(rows)]
    gone = []
    for key, position, piece in numbered:
        same = [row for row in numbered if row[0] == key]
        alone = len({row[1] for row in same}) == 1
        if same[0][2] != piece if keep == "first" or alone else True:
            gone.append((position, piece))
    return gone


@pytest.mark.parametrize("keep", ["first", "none"])
@given(rows=rows, cuts=st.lists(st.integers(0, 24), max_size=6))
def test_copies_do_not_depend_on_where_batches_end(
    tmp_path_factory: pytest.TempPathFactory, keep: str, rows: list[tuple[int, int]], cuts: list[int]
) -> None:
    table = pa.RecordBatch.from_pydict(
        {
            "key": pa.array([key for key, _ in rows], pa.uint64()),
            "position": pa.array([position for _, position in rows], pa.uint64()),
            "piece": pa.array(np.arange(len(rows)), pa.uint32()),
        }
    )
    bounds = [0, *sorted(cuts), 24]
    batches = [table.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    out = PartOutput(tmp_path_factory.mktemp("out"), 0, "run")
    FindCopies(keep).reduce({"pieces": iter(batches)}, out)
    found = pq.read_table(out.commit(0, 0).streams["copies"].path).to_pylist()
    assert sorted((row["position"], row["piece"]) for row in found) == sorted(_copies(rows, keep))
