"""Whole jobs whose records are written several times: what the shards hold, and what the accounts say."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpus
import pyarrow.parquet as pq
import pytest
import thresher
from inline_engine import inline_tasks
from thresher.jobs.problems import JobFileError

REPLACEMENT = {"select": {"budget": 90, "sample": "replacement", "by": "word_count", "max_copies": 4}}


@pytest.fixture(scope="module", autouse=True)
def _inline() -> Iterator[None]:
    with inline_tasks():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty texts of one to nine words in three files."""
    folder = tmp_path_factory.mktemp("copies")
    for part in range(3):
        records = [
            {"id": f"r{number}", "text": " ".join(["word"] * (number % 9 + 1) + [str(number)])}
            for number in range(20 * part, 20 * part + 20)
        ]
        corpus.write(folder / f"{part}.jsonl", records)
    return folder


def run(folder: Path, out: Path, steps: list[Any], output: dict[str, Any] | None = None, **more: Any) -> Any:
    job = {
        "name": "copies",
        "input": str(folder / "*.jsonl"),
        "steps": steps,
        "output": {"path": str(out / "out"), "format": "jsonl", "compression": "none", **(output or {})},
        "run": {"workers": 1, "seed": 3, "work": str(out / "work"), **more},
    }
    return thresher.run(thresher.load(job))


def rows(out: Path) -> list[dict[str, Any]]:
    files = sorted((out / "out").glob("shard-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_each_record_is_written_as_often_as_its_column_says(folder: Path, tmp_path: Path) -> None:
    result = run(folder, tmp_path, [REPLACEMENT])
    found = rows(tmp_path)
    counts = Counter(row["id"] for row in found)
    assert all(counts[row["id"]] == row["copies"] for row in found)
    assert max(counts.values()) > 1
    totals = result.totals
    assert (totals["in"], totals["kept"], totals["written"]) == (60, len(counts), 90)
    assert sum(totals["dropped"]["select:word_count"].values()) == 60 - len(counts)
    assert [key for key, _ in itertools.groupby(row["id"] for row in found)] == list(counts)


def test_parts_shards_and_order_change_nothing_but_the_order(folder: Path, tmp_path: Path) -> None:
    found = {}
    for shuffle, (part, shard) in itertools.product(
        ["none", "parts", "global"], [("64MB",) * 2, ("400B",) * 2]
    ):
        out = tmp_path / f"{shuffle}-{part}"
        run(folder, out, [REPLACEMENT], {"shuffle": shuffle, "shard": shard}, part=part)
        found[shuffle, part] = [row["id"] for row in rows(out)]
        assert (shard == "64MB") == (len(list((out / "out").glob("shard-*"))) == 1)
    assert len({tuple(sorted(ids)) for ids in found.values()}) == 1
    assert found["none", "64MB"] == found["none", "400B"]
    assert found["global", "64MB"] == found["global", "400B"]


def test_shuffled_copies_do_not_stay_together(folder: Path, tmp_path: Path) -> None:
    for shuffle in ("parts", "global"):
        out = tmp_path / shuffle
        run(folder, out, [REPLACEMENT], {"shuffle": shuffle})
        found = [row["id"] for row in rows(out)]
        together = sum(one == two for one, two in itertools.pairwise(found))
        assert together < (len(found) - len(set(found))) / 2


def test_samples_of_a_webdataset_have_keys_of_their_own(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path, [REPLACEMENT], {"format": "webdataset"})
    (shard,) = (tmp_path / "out").glob("*.tar")
    with tarfile.open(fileobj=io.BytesIO(shard.read_bytes())) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names)) == 2 * 90


def test_two_steps_multiply_and_a_step_between_sees_each_record_once(folder: Path, tmp_path: Path) -> None:
    epochs = {"mix": {"unimax": {"epochs": 2}, "budget": 1000}, "as": "epochs"}
    result = run(folder, tmp_path, [REPLACEMENT, {"dedup": "exact"}, epochs])
    found = rows(tmp_path)
    assert {row["epochs"] for row in found} == {2}
    assert result.totals["duplicates"] == {}
    assert result.totals["written"] == 180 == len(found)
    counts = Counter(row["id"] for row in found)
    assert all(counts[row["id"]] == 2 * row["copies"] for row in found)


def test_inputs_that_pass_no_such_step_are_written_once(folder: Path, tmp_path: Path) -> None:
    job = {
        "name": "copies",
        "input": [
            {"name": "drawn", "path": str(folder / "0.jsonl"), "steps": [REPLACEMENT]},
            {"name": "whole", "path": str(folder / "1.jsonl")},
        ],
        "output": {"path": str(tmp_path / "out"), "format": "parquet"},
        "run": {"workers": 1, "work": str(tmp_path / "work")},
    }
    result = thresher.run(thresher.load(job))
    found = pq.read_table(tmp_path / "out" / result.shards[0].path).to_pylist()
    counts = Counter(row["id"] for row in found)
    assert all(counts[row["id"]] == (row["copies"] or 1) for row in found)
    assert sum(row["copies"] is None for row in found) == 20
    assert result.totals["written"] == len(found) == 20 + 80  # of 20 records no more than 4 times each


def test_a_report_says_how_often_and_writes_each_record_once(folder: Path, tmp_path: Path) -> None:
    reporting = {"select": REPLACEMENT["select"] | {"action": "report"}, "as": "times"}
    run(folder, tmp_path / "report", [reporting])
    run(folder, tmp_path / "drop", [REPLACEMENT | {"name": "select:word_count"}])
    told = {row["id"]: row["times"] for row in rows(tmp_path / "report")}
    assert len(rows(tmp_path / "report")) == len(told) == 60
    assert {name: count for name, count in told.items() if count} == Counter(
        row["id"] for row in rows(tmp_path / "drop")
    )


def test_gumbel_of_a_small_temperature_takes_the_best_and_of_a_large_one_others(
    folder: Path, tmp_path: Path
) -> None:
    chosen = []
    for temperature in (1e-6, 1e6, None):
        options: dict[str, Any] = {"budget": 12, "by": "char_count"}
        if temperature is not None:
            options |= {"sample": "gumbel", "temperature": temperature}
        out = tmp_path / str(temperature)
        run(folder, out, [{"select": options}], part="400B")
        chosen.append({len(row["text"]) for row in rows(out)})
    assert chosen[0] == chosen[2] != chosen[1]


def test_gumbel_goes_with_caps_of_groups(folder: Path, tmp_path: Path) -> None:
    options = {"cap": 2, "by": "char_count", "within": "word_count", "sample": "gumbel"}
    run(folder, tmp_path, [{"select": options}])
    found = Counter(len(row["text"].split()) for row in rows(tmp_path))
    assert found == dict.fromkeys(range(2, 11), 2)


DOREMI = {"train_domain_weights": {"0": 0.75, "1": 0.25, "2": 0}, "eval_domain_weights": {"0": 1.0}}
WEIGHT_FILES = {
    "doremi.json": json.dumps(DOREMI),
    "regmix.yaml": "train:\n  '0': 0.75\n  '1': 0.25\n  '2': 0.0\nvalid:\n  valid_a: 1.0\nmodel_name: m\n",
    "mixture.csv": "index,0,1,2\n7,0.75,0.25,0.0\n",
    "pairs.csv": "domain,weight\n0,3\n1,1\n",
    "plain.json": '{"0": 3, "1": 1}',
}


@pytest.mark.parametrize("name", WEIGHT_FILES)
def test_weights_come_from_the_files_of_doremi_and_regmix(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text(WEIGHT_FILES[name], encoding="utf-8")
    job = {
        "name": "mixed",
        "input": [{"name": str(part), "path": str(folder / f"{part}.jsonl")} for part in range(3)],
        "steps": [{"mix": {"weights": str(tmp_path / name), "budget": 24}}],
        "output": {"path": str(tmp_path / "out"), "format": "jsonl", "compression": "none"},
        "run": {"workers": 1, "work": str(tmp_path / "work")},
    }
    thresher.run(thresher.load(job))
    found = Counter(int(row["id"][1:]) // 20 for row in rows(tmp_path))
    assert found == {0: 18, 1: 6}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("w.json", "[1]", "not a mapping"),
        ("w.json", '{"0": -1}', "the weight of 0 is -1"),
        ("w.json", '{"0": 0}', "no group weighs anything"),
        ("w.json", "{", "holds no weights of a mix"),
        ("w.csv", "a,b,c\n1,2,3\n3,4,5\n", "neither one row of weights"),
        ("w.csv", "a,1\na,2\nb,3\n", "twice"),
        ("w.yaml", "'0': 1\nelsewhere: 2\n", 'unknown input "elsewhere"'),
        ("absent.json", None, "no model file"),
    ],
)
def test_a_file_without_weights_is_told_before_the_run(
    name: str, text: str | None, told: str, folder: Path, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    job = {
        "name": "mixed",
        "input": [{"name": "0", "path": str(folder / "0.jsonl")}],
        "steps": [{"mix": {"weights": str(tmp_path / name)}}],
        "output": {"path": str(tmp_path / "out")},
    }
    with pytest.raises(JobFileError) as refused:
        thresher.load(job)
    assert told in str(refused.value)


def test_weights_of_two_columns_are_those_of_each_pair(folder: Path, tmp_path: Path) -> None:
    steps = [
        {"bucket": {"by": "word_count", "cuts": ["50%"], "names": ["short", "long"]}, "as": "size"},
        {
            "mix": {
                "within": ["size", "line_count"],
                "weights": {"long": {"1": 3}, "short": {"1": 1}},
                "budget": 20,
            }
        },
    ]
    run(folder, tmp_path, steps)
    assert Counter(row["size"] for row in rows(tmp_path)) == {"long": 15, "short": 5}


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (
            {"select": {"min": 1, "by": "word_count", "sample": "gumbel"}},
            "sample goes with top, budget or cap",
        ),
        ({"select": {"top": 0.5, "sample": "gumbel"}}, "name it with by"),
        ({"select": {"top": 0.5, "by": "word_count", "temperature": 2}}, "goes with sample: gumbel"),
        ({"select": {"top": 0.5, "by": "word_count", "max_copies": 2}}, "goes with sample: replacement"),
        (
            {"select": {"cap": 5, "by": "word_count", "within": "input", "sample": "replacement"}},
            "replacement goes with top or budget",
        ),
        (
            {"select": {"top": 0.5, "by": "word_count", "sample": "gumbel", "ties": "keep"}},
            "ties: keep has a bar",
        ),
        ({"mix": {"weights": {"a": 1}, "alpha": 0.3}}, "give one of weights, caps, alpha and unimax"),
        ({"mix": {"unimax": {"epochs": 2}}}, "UniMax shares out a budget"),
        ({"mix": {"unimax": {"epochs": 2}, "budget": 5, "epochs": 2}}, "unimax has epochs of its own"),
        ({"mix": {"caps": {"a": 5}, "epochs": 2}}, "epochs goes with weights and alpha"),
        ({"mix": {"weights": {"a": 0}, "within": "url"}}, "the weight of a is a number above 0"),
        ({"mix": {"weights": {"a": {"b": 1}}, "within": "url"}}, "weights of weights go with two columns"),
        ({"mix": {"weights": {"a": 1}, "within": ["url", "input"]}}, "groups of two columns have weights"),
        ({"mix": {"caps": {"a": 1}, "within": ["url", "input"]}}, "caps are for the groups of one column"),
        ({"mix": {"alpha": 0.3, "within": "url"}, "as": "times"}, "writes no record twice"),
        ({"mix": {"alpha": 0.3, "within": ["url", "nothing"]}}, 'unknown column "nothing"'),
    ],
)
def test_what_does_not_go_together_is_told(step: dict[str, Any], told: str, folder: Path) -> None:
    job = {"name": "wrong", "input": str(folder / "*.jsonl"), "steps": [step], "output": {"path": "out"}}
    with pytest.raises(JobFileError) as refused:
        thresher.load(job)
    assert told in str(refused.value)
    assert len(refused.value.problems) == 1


def test_a_subset_takes_no_copies_and_a_second_column_needs_a_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match="a subset names each record once"):
        run(folder, tmp_path, [REPLACEMENT], {"format": "datacomp"})
    with pytest.raises(JobFileError, match='there is a column "copies" already'):
        run(folder, tmp_path, [REPLACEMENT, REPLACEMENT | {"name": "again"}])
