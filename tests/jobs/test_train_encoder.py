"""`thresher train encoder`: from files of labels to heads in a job."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from thresher.jobs.train_commands import register
from thresher.jobs.training import NotTrainableError
from thresher.jobs.training_encoder import taught, told, train_encoder
from thresher.scorers.assets import LocalAssets
from thresher.scorers.encoders.scoring import EncoderScorer

pytest.importorskip("torch")
pytest.importorskip("transformers")

TINY = [
    "--width",
    "16",
    "--layers",
    "1",
    "--attention-heads",
    "2",
    "--vocabulary",
    "120",
    "--max-tokens",
    "40",
]
STEPS = ["--epochs", "3", "--lr", "0.01", "--batch", "32", "--device", "cpu", "--threads", "1"]


@click.group()
def train() -> None:
    """The group that the commands are added to."""


register(train)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(train, ["encoder", *map(str, arguments)])


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """100 records of JSON Lines in `body`, and the same as Parquet in `text`."""
    draw = random.Random(0)
    records = []
    for number in range(100):
        words = draw.choices(["river", "mill", "water"] if number % 2 else ["school", "lesson", "book"], k=8)
        records.append(
            {"body": " ".join(words), "points": number % 2 * 2, "kind": ["school", "river"][number % 2]}
        )
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    columns = {name: [record[name] for record in records] for name in ("points", "kind")}
    texts = [record["body"] for record in records]
    pq.write_table(pa.table({"text": texts, **columns}), tmp_path / "labels.parquet")
    return path


def test_an_encoder_from_nothing_is_told_with_the_step_that_uses_it(labels: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    done = call("--input", labels, "--text", "body", "--target", "points,kind", "--out", out, *TINY, *STEPS)
    assert done.exit_code == 0, done.output
    assert "learning: epoch 1 of 3, loss " in done.stderr
    assert f"{out}: learned from " in done.stdout
    assert "  points: R² " in done.stdout
    assert "  kind: accuracy " in done.stdout
    assert f"  - score: {{encoder: {{model: {out}, outputs: [points, kind_label]}}}}" in done.stdout
    scorer = EncoderScorer(str(out), outputs=["points", "kind_label"])
    scorer.open(LocalAssets())


def test_heads_on_a_frozen_encoder_are_learned_from_parquet_and_told_as_json(
    labels: Path, tmp_path: Path
) -> None:
    small, out = tmp_path / "small", tmp_path / "heads"
    first = call("--pretrain", labels, "--text", "body", "--out", small, "--pretrain-epochs", "1", *TINY)
    assert first.exit_code == 0, first.output
    assert "learned to fill in tokens of 100 texts, to a loss of " in first.stdout
    done = call(
        "--input", labels.with_suffix(".parquet"), "--target", "points", "--target", "kind", "--from", small,
        "--kind", "points=classification", "--frozen", "--out", out, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["heads"]["points"]["classes"] == ["0", "2"]
    assert answer["heads"]["kind"]["figures"]["accuracy"] > 0.9
    assert answer["texts"] + answer["held_out"] == 100
    assert (out / "model.safetensors").read_bytes() == (small / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--target", "nothing"], "no record has a field 'nothing'; there are: kind, points"),
        (["--target", "points", "--from", "FROM", "--layers", "2"], "layers: are of a new encoder"),
        ([], "go together"),
        (["--target", "kind", "--frozen"], "frozen needs an encoder to start from"),
    ],
)
def test_what_teaches_nothing_is_an_error_that_says_so(
    labels: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = call("--input", labels, "--text", "body", "--out", tmp_path / "out", *arguments)
    assert isinstance(done.exception, NotTrainableError)
    assert told in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_kind_of_a_target_that_is_not_there_is_refused(labels: Path, tmp_path: Path) -> None:
    done = call(
        "--input", labels, "--target", "points", "--kind", "edu=regression", "--out", tmp_path / "x"
    )  # fmt: skip
    assert done.exit_code == 2
    assert "there is no --target edu" in done.stderr


def test_ctrl_c_keeps_the_best_and_ends_with_130(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from thresher.jobs import training_encoder

    def stop(progress: Any) -> str:
        if progress.epoch == 2:
            raise KeyboardInterrupt
        return "seen"

    monkeypatch.setattr(training_encoder, "told_progress", stop)
    out = tmp_path / "small"
    done = call("--input", labels, "--text", "body", "--target", "kind", "--out", out, *TINY, *STEPS)
    assert done.exit_code == 130
    assert done.stdout.startswith("interrupted; this is the best until then")
    assert (out / "heads.json").is_file()


def test_numbers_of_several_types_and_gaps_are_one_column(tmp_path: Path) -> None:
    rows = [{"text": "a", "score": 1}, {"text": "b", "score": 2.5}, {"text": "c"}, {"text": None, "score": 3}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (batch,) = taught([str(path)], {}, ["score"])
    assert batch.column("score").to_pylist()[:3] == [1.0, 2.5, None]
    (tmp_path / "mixed.jsonl").write_text('{"text": "a", "score": 1}\n{"text": "b", "score": "two"}\n')
    with pytest.raises(NotTrainableError, match="score: is of several types"):
        list(taught([str(tmp_path / "mixed.jsonl")], {}, ["score"]))


def test_the_same_from_python(labels: Path, tmp_path: Path) -> None:
    answer = train_encoder(
        [str(labels)],
        ["kind"],
        tmp_path / "small",
        seed=1,
        text="body",
        parameters={
            "width": 16,
            "layers": 1,
            "attention_heads": 2,
            "vocabulary": 120,
            "epochs": 1,
            "held_out": 0.0,
        },
    )
    assert answer["heads"]["kind"]["figures"] == {}
    assert "  kind: not measured" in told(answer)
