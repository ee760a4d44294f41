"""The commands between a teacher and its student: what they read, what they write, what they refuse."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from thresher.filters.embeddings.matrix import column_of
from thresher.jobs.cli import cli
from thresher.jobs.scored_records import files_of
from thresher.jobs.training import NotTrainableError

GOOD = "the river ran past the old mill and turned its wheel of stone"
OTHER = "buy now at the best price with free shipping on all orders today"
SMALL = ["--dim", "4", "--bucket", "100", "--epoch", "50", "--lr", "0.5", "--held-out", "0"]


def train(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["train", *map(str, arguments)], prog_name="thresher")


def answer(*arguments: object) -> Any:
    done = train(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """Twenty records, in two files, of which the odd ones are good; the score is the number."""
    rows = [
        {
            "id": f"r{n:02d}",
            "text": f"{GOOD if n % 2 else OTHER} {n}",
            "good": n * (n % 2),
            "site": f"s{n % 2}",
        }
        for n in range(20)
    ]
    pq.write_table(pa.Table.from_pylist(rows[:9]), tmp_path / "a.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in rows[9:])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return tmp_path


def test_a_student_learns_the_share_that_a_teacher_ranks_highest(scored: Path) -> None:
    files = ["--teacher", scored / "a.parquet", "--teacher", scored / "b.jsonl.gz"]
    found = answer(
        "student",
        *files,
        "--by",
        "good",
        "--top",
        "50%",
        "--others",
        "lowest",
        "--out",
        scored / "m.bin",
        *SMALL,
    )
    assert (found["records"], found["positive"], found["negative"]) == (20, 10, 10)
    from thresher.filters.fasttext_model import load

    good, other = load(scored / "m.bin").probability([GOOD, OTHER], "hq")
    assert good > 0.5 > other


def test_a_student_learns_domains_by_their_weights_and_leaves_unknown_ones_out(scored: Path) -> None:
    (scored / "weights.json").write_text('{"s1": 0.5, "s0": 0, "s9": 0.5}')
    extra = pa.Table.from_pylist([{"id": "x", "text": "of a site that nobody weighed", "site": "s7"}])
    pq.write_table(extra, scored / "c.parquet")
    found = answer(
        "student",
        *("--teacher", scored / "a.parquet", "--teacher", scored / "c.parquet"),
        *("--weights", scored / "weights.json", "--domain", "site", "--out", scored / "m.bin", *SMALL),
    )
    assert (found["records"], found["positive"], found["negative"]) == (10, 4, 5)


def test_a_student_says_how_its_model_is_used(scored: Path) -> None:
    done = train(
        *("student", "--teacher", scored / "a.parquet", "--by", "good", "--min", 3),
        *("--label", "best", "--out", scored / "m.bin", *SMALL),
    )
    assert done.exit_code == 0
    assert "of 9 records 3 are positive and 6 negative\n" in done.output
    assert "label: best" in done.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--by", "nothing", "--top", "10%"], "has no column nothing; it has"),
        (["--by", "text", "--top", "10%"], "column text is string; scores are numbers"),
        (["--by", "good"], "give one of top and min"),
        (["--top", "10%"], "give the column that the teacher made"),
        (["--by", "good", "--top", "10"], "is a fraction or a percentage|no share|write 10%|10"),
        (["--by", "good", "--min", "99"], "no record is good enough"),
        (["--weights", "w.json", "--top", "10%"], "leave top, min and others out"),
        (["--weights", "w.json"], "w.json: holds no weights of domains"),
    ],
)
def test_a_student_that_cannot_learn_says_why(scored: Path, arguments: list[str], told: str) -> None:
    done = train("student", "--teacher", scored / "a.parquet", "--out", scored / "m.bin", *arguments)
    assert done.exit_code != 0
    assert re.search(told, done.output), done.output
    assert not (scored / "m.bin").exists()


def test_the_folder_of_an_output_stands_for_its_shards_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(NotTrainableError, match="not of a job's output"):
        files_of([str(tmp_path / "out")])
    shards = [{"path": "shard-00001.parquet"}, {"path": "shard-00000.parquet"}]
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"shards": shards}))
    expected = [str(tmp_path / "out" / shard["path"]) for shard in shards]
    assert files_of([str(tmp_path / "out"), str(tmp_path / "out")]) == expected


LOSSES = {
    # Five models, the first the best: low losses where it is good, high ones where it is bad.
    "easy.org": [1.0, 1.1, 1.2, 1.3, 1.4],
    "hard.org": [1.4, 1.3, 1.2, 1.1, 1.0],
    "half.org": [1.0, 1.1, 1.4, 1.3, 1.2],
}
MODELS = ["m1", "m2", "m3", "m4", "m5"]


@pytest.fixture
def losses(tmp_path: Path) -> Path:
    """The same losses with a row for each model, and with two records for each domain, around their mean."""
    with (tmp_path / "models.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["model", *LOSSES], *zip(MODELS, *LOSSES.values(), strict=True)])
    rows: list[dict[str, Any]] = [
        {"site": site, "tokens": 10, **{name: one + shift for name, one in zip(MODELS, found, strict=True)}}
        for site, found in LOSSES.items()
        for shift in (-0.5, 0.5)
    ]
    rows[0]["tokens"] = 50
    rows += [{**rows[0], "m2": None}, {**rows[0], "site": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "records.parquet")
    (tmp_path / "errors.csv").write_text(
        "benchmark,m3,m1,m2,m4,m5\na,0.3,0.1,0.2,0.4,0.5\nb,0.9,0.1,0.2,0.4,0.5\n"
    )
    (tmp_path / "accuracies.csv").write_text("model,a\nm1,0.9\nm2,0.8\nm3,0.7\nm4,0.6\nm5,0.5\nm6,0.4\n")
    return tmp_path


def weights(folder: Path, *arguments: object) -> Any:
    found = answer("perplexity-correlations", *arguments, "--out", folder / "weights.json")
    return found, json.loads((folder / "weights.json").read_text())


def test_losses_by_model_and_by_record_give_the_same_weights(losses: Path) -> None:
    told, by_model = weights(
        losses, "--losses", losses / "models.csv", "--scores", losses / "accuracies.csv", "--accuracy",
        "--share", "0.5",
    )  # fmt: skip
    assert told["models"] == MODELS
    assert by_model == pytest.approx({"easy.org": 2 / 3, "half.org": 1 / 3, "hard.org": 0})
    told, by_record = weights(
        losses, "--losses", losses / "records.parquet", "--scores", losses / "errors.csv", "--benchmark", "a",
        "--domain", "site", "--share", "0.5",
    )  # fmt: skip
    assert by_record == pytest.approx(by_model)
    assert told["skipped"] == 2
    table = list(csv.DictReader((losses / "weights.json.csv").open()))
    assert [row["domain"] for row in table] == ["easy.org", "half.org", "hard.org"]
    # Ranks 1 2 5 4 3 against 1 2 3 4 5: 1 - 6 (4 + 4) / (5 · 24).
    assert [float(row["estimate"]) for row in table] == pytest.approx([1, 0.6, -1])


def test_a_domain_weighs_no_more_than_its_share_of_tokens_allows(losses: Path) -> None:
    _, found = weights(
        losses, "--losses", losses / "records.parquet", "--scores", losses / "errors.csv", "--benchmark", "a",
        "--domain", "site", "--size", "tokens", "--share", "0.8",
    )  # fmt: skip
    # Of 100 tokens 60, 20 and 20.
    assert found == pytest.approx({"easy.org": 0.75, "half.org": 0.25, "hard.org": 0})


def test_several_benchmarks_count_by_their_mean(losses: Path) -> None:
    weights(losses, "--losses", losses / "models.csv", "--scores", losses / "errors.csv", "--share", "0.5")
    table = list(csv.DictReader((losses / "weights.json.csv").open()))
    # The mean errors are .1 .2 .6 .4 .5, of ranks 1 2 5 3 4.
    expected = {"easy.org": 1 - 6 * 6 / 120, "hard.org": -(1 - 6 * 6 / 120), "half.org": 1 - 6 * 2 / 120}
    assert {row["domain"]: float(row["estimate"]) for row in table} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("losses_file", "scores", "benchmark", "told"),
    [
        ("records.parquet", "errors.csv", "a", "has no column signal_domain"),
        ("models.csv", "accuracies.csv", "c", "has no column c; it has model, a"),
        ("models.csv", "errors.csv", "c", "has no benchmark c"),
        ("models.csv", "records.parquet", "a", "neither a column model nor a column benchmark"),
        ("text.csv", "errors.csv", "a", "has 1 domains and 0 models with a score"),
    ],
)
def test_tables_of_another_shape_are_told(
    losses: Path, losses_file: str, scores: str, benchmark: str, told: str
) -> None:
    (losses / "text.csv").write_text("model,easy.org\nm9,1.0\n")
    done = train(
        *("perplexity-correlations", "--losses", losses / losses_file, "--scores", losses / scores),
        *("--out", losses / "w.json", "--benchmark", benchmark),
    )
    assert done.exit_code != 0
    assert told in done.output


def test_benchmark_ranks_keep_records_without_an_embedding_as_null(tmp_path: Path) -> None:
    documents = np.eye(4, dtype=np.float32)
    has = np.array([True, True, False, True, True])
    table = pa.table({"id": list("abcde"), "text": list("vwxyz"), "embedding": column_of(documents, has)})
    pq.write_table(table, tmp_path / "sample.parquet", row_group_size=2)
    examples = np.array([[0.9, 0.1, 0.2, 0.0], [0.8, 0.0, 0.7, 0.1]], np.float32)
    pq.write_table(pa.table({"embedding": column_of(examples)}), tmp_path / "examples.parquet")
    found = answer(
        *("benchmark-ranks", "--documents", tmp_path / "sample.parquet"),
        *("--examples", tmp_path / "examples.parquet", "--out", tmp_path / "ranked.parquet"),
        *("--aggregate", "reciprocal"),
    )
    assert (found["ranked"], found["without"], found["examples"]) == (4, 1, 2)
    rows = pq.read_table(tmp_path / "ranked.parquet").to_pylist()
    assert [(row["id"], row["text"]) for row in rows] == list(zip("abcde", "vwxyz", strict=True))
    # a: 1, 1; b: 3, 4; d: 2, 2; e: 4, 3.
    assert [row["benchmark_rank"] for row in rows] == [1, 3, None, 2, 3]
    means = [1.0, (1 / 3 + 1 / 4) / 2, None, 0.5, (1 / 4 + 1 / 3) / 2]
    assert [row["benchmark_score"] for row in rows] == [pytest.approx(mean) for mean in means]
