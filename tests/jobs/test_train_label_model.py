"""`thresher train label-model`: from files of votes to a model, and to records by their labels."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from thresher.jobs.train_commands import register
from thresher.jobs.training import NotTrainableError
from thresher.scorers.votes.label_model import read


@click.group()
def train() -> None:
    """The group that the commands are added to."""


register(train)

RIGHT = (0.9, 0.8, 0.65)  # how often each function is
NAMES = ["by_money", "by_link", "by_coin"]


def records(count: int, seed: int = 0) -> pa.Table:
    """Three functions that vote on most records, and the truth of every fifth."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(count) < 0.4).astype(np.int8)
    columns: dict[str, pa.Array] = {
        "id": pa.array([f"{seed}-{row}" for row in range(count)]),
        "text": pa.array([f"text {row}" for row in range(count)]),
    }
    for name, right in zip(NAMES, RIGHT, strict=True):
        votes = np.where(rng.random(count) < right, truth, 1 - truth)
        columns[name] = pa.array(votes, pa.int8(), mask=rng.random(count) < 0.3)
    columns["truth"] = pa.array(np.array(["ham", "spam"])[truth], mask=np.arange(count) % 5 > 0)
    return pa.table(columns)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(records(3000), tmp_path / "votes-0.parquet", row_group_size=700)
    pq.write_table(records(1000, seed=1), tmp_path / "votes-1.parquet")
    return tmp_path


def call(folder: Path, *more: str, source: str = "votes-*.parquet") -> Result:
    common = ["label-model", "--input", str(folder / source), "--out", str(folder / "m.json")]
    return CliRunner().invoke(
        train, [*common, "--votes", ",".join(NAMES), "--classes", "ham,spam", *more], catch_exceptions=True
    )


def test_a_model_is_learned_and_told_with_the_step_that_uses_it(folder: Path) -> None:
    done = call(folder, "--gold", "truth")
    assert done.exit_code == 0, done.exception
    assert "learned from 3," in done.output
    assert "of 4,000 records with a vote" in done.output
    assert f"- score: {{label_model: {{model: {folder / 'm.json'}, votes: [{', '.join(NAMES)}]" in done.output
    assert read(folder / "m.json").functions == tuple(NAMES)
    card = (folder / "m.json.md").read_text()
    assert card.startswith("# m.json\n")
    assert "by the majority of votes" in card


def test_the_figures_are_near_the_truth_and_the_model_beats_the_majority(folder: Path) -> None:
    answer = json.loads(call(folder, "--gold", "truth", "--json").output)
    assert answer["balance"] == pytest.approx([0.6, 0.4], abs=0.06)
    for one, right in zip(answer["functions"], RIGHT, strict=True):
        assert one["accuracy"] == pytest.approx(right, abs=0.06)
        assert one["true_accuracy"] == pytest.approx(right, abs=0.06)
        assert one["coverage"] == pytest.approx(0.7, abs=0.03)
        assert one["is_useful"]
    assert answer["accuracy"]["label_model"] > answer["accuracy"]["majority"] + 0.01


def test_the_same_votes_in_other_files_and_formats_give_the_same_model(folder: Path) -> None:
    call(folder)
    expected = (folder / "m.json").read_bytes()
    rows = pa.concat_tables([records(1000, seed=1), records(3000)]).to_pylist()
    # Leaving a field out is to abstain as well.
    lines = [
        json.dumps({name: value for name, value in row.items() if value is not None}) + "\n" for row in rows
    ]
    (folder / "all.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    done = call(folder, source="all.jsonl.gz")
    assert done.exit_code == 0, done.exception
    assert (folder / "m.json").read_bytes() == expected


@pytest.mark.parametrize("source", ["votes-*.parquet", "all.jsonl"])
def test_records_are_written_by_their_likeliest_class(folder: Path, source: str) -> None:
    rows = pa.concat_tables([records(3000), records(1000, seed=1)]).to_pylist()
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--labelled", str(folder / "by"), "--min-probability", "0.7"]
    done = call(folder, *options, source=source)
    assert done.exit_code == 0, done.exception
    model = read(folder / "m.json")
    expected: dict[str, list[Any]] = {"ham": [], "spam": []}
    for row in rows:
        votes = [-1 if row[name] is None else row[name] for name in NAMES]
        (shares,) = model.probabilities(np.array([votes], np.int8)).tolist()
        if max(votes) >= 0 and max(shares) >= 0.7:
            expected[model.classes[shares.index(max(shares))]].append((row["id"], row["text"], shares[1]))
    for label, wanted in expected.items():
        table = pq.read_table(folder / "by" / f"{label}.parquet")
        assert table.column_names == ["id", "text", "url", "probability_ham", "probability_spam"]
        found = [(row["id"], row["text"], row["probability_spam"]) for row in table.to_pylist()]
        assert [one[:2] for one in found] == [one[:2] for one in wanted]
        assert [one[2] for one in found] == pytest.approx([one[2] for one in wanted])
        assert f"{label}.parquet: {len(wanted):,} records" in done.output


def test_a_function_that_is_no_better_than_chance_is_called_so(folder: Path) -> None:
    table = records(3000).append_column("by_nothing", pa.nulls(3000, pa.int8()))
    wrong = 1 - np.array(table["by_money"].fill_null(0))
    table = table.append_column("by_liar", pa.array(wrong, mask=table["by_link"].is_null().to_numpy()))
    pq.write_table(table, folder / "worse.parquet")
    names = ",".join([*NAMES, "by_liar", "by_nothing"])
    done = call(folder, "--votes", names, source="worse.parquet")
    (liar,) = [line for line in done.output.splitlines() if line.startswith("by_liar")]
    (nothing,) = [line for line in done.output.splitlines() if line.startswith("by_nothing")]
    assert liar.endswith("no better than chance")
    assert nothing.endswith("never votes")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--votes", "by_money,by_link"], "3 are the fewest"),
        (["--votes", "by_money,by_link,by_luck"], "has no column by_luck; it has id, text"),
        (["--votes", "by_money,by_link,text"], "column text is string; a vote is an integer"),
        (["--balance", "0.5,0.6"], "add up to 1"),
        (["--balance", "1"], "1 shares for 2 classes"),
        (["--classes", "ham,spam,ham"], "a name is there twice"),
        (["--gold", "id"], "'0-0' is none of ham, spam"),
        (["--smoothing", "-1"], "smoothing is -1"),
        (["--labelled", "x", "--min-probability", "2"], "between 0 and 1"),
    ],
)
def test_what_makes_no_model_is_told_in_one_sentence(folder: Path, more: list[str], message: str) -> None:
    done = call(folder, *more)
    assert done.exit_code != 0
    assert isinstance(done.exception, NotTrainableError)
    assert message in str(done.exception)
    assert not (folder / "m.json").exists()


def test_lines_that_are_no_objects_and_fields_that_nobody_has_are_told(folder: Path) -> None:
    (folder / "bad.jsonl").write_text('{"by_money": 1}\n[]\n')
    assert "bad.jsonl: byte 16: no JSON object" in str(call(folder, source="bad.jsonl").exception)
    (folder / "bad.jsonl").write_text('{"by_money": 1}\n')
    assert "no record has by_link; there are by_money" in str(call(folder, source="bad.jsonl").exception)
    (folder / "bad.parquet").write_bytes(b"PAR1 nothing")
    assert "bad.parquet: cannot be read" in str(call(folder, source="bad.parquet").exception)
