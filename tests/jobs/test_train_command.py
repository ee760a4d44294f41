"""`thresher train fasttext`: from files of documents to a model that a job can use."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from thresher.jobs.cli import cli
from thresher.jobs.trying import try_step
from thresher.scorers.training import FastTextTrainer


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    chance = random.Random(5)
    good, bad = "theorem proof lemma field ring", "casino bonus click win now"
    words = {"good": good.split(), "bad": bad.split()}
    for name, choices in words.items():
        lines = [json.dumps({"body": " ".join(chance.choices(choices, k=20))}) for _ in range(120)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def train(folder: Path, *more: str) -> tuple[int, str, str]:
    arguments = ["--positive", str(folder / "good.jsonl"), "--negative", str(folder / "bad.jsonl")]
    size = ["--dim", "8", "--bucket", "1000", "--epoch", "5", "--text", "body"]
    done = CliRunner().invoke(
        cli, ["train", "fasttext", *arguments, "--out", str(folder / "hq.bin"), *size, *more]
    )
    return done.exit_code, done.stdout, done.stderr


def test_a_model_is_trained_from_files_and_used_by_a_step(documents: Path) -> None:
    status, told, _ = train(documents)
    assert status == 0
    assert "AUC 1.0000" in told
    step = f"score: {{fasttext: {{model: {documents / 'hq.bin'}, label: hq}}}}\nas: quality"
    good = try_step(step, b"a lemma and its proof in a ring")["columns"]["quality"]
    bad = try_step(step, b"click now and win a casino bonus")["columns"]["quality"]
    assert good > bad


def test_the_answer_comes_as_json_too(documents: Path) -> None:
    status, told, _ = train(documents, "--json")
    assert status == 0
    answer = json.loads(told)
    assert sum(answer["documents"].values()) + sum(answer["held_out"].values()) == 240
    assert Path(answer["card"]).is_file()


def test_the_command_tells_of_a_label_that_is_hardly_held_out_what_the_card_tells(documents: Path) -> None:
    lines = (documents / "good.jsonl").read_text().splitlines()
    for count in (1, 3):
        (documents / "good.jsonl").write_text("\n".join(lines[:count]) + "\n")
        status, told, error = train(documents)
        if status == 0 and "(0 hq" in told:
            break
    else:
        pytest.fail(f"hq was held out, or not learned from: {told}{error}")
    (row,) = [
        line for line in (documents / "hq.bin.md").read_text().splitlines() if line.startswith("| hq | 0")
    ]
    on_card = dict(zip(("precision", "recall", "F1", "AUC"), row.strip("| ").split(" | ")[2:], strict=True))
    assert on_card["recall"] == "–"
    assert ", ".join(f"{name} {figure}" for name, figure in on_card.items()) in told


def test_the_help_tells_the_default_of_each_parameter() -> None:
    told = " ".join(CliRunner().invoke(cli, ["train", "fasttext", "--help"]).stdout.split())
    default = FastTextTrainer()
    for name in ("epoch", "lr", "dim", "word_ngrams", "bucket", "licence"):
        option = told.partition(f"--{name.replace('_', '-')} ")[2]
        assert option.partition(" where left out")[0].endswith(f"; {getattr(default, name)}"), name


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--epoch", "0"], "epoch"),
        (["--text", "nothing"], "no document with text"),
        (["--negative", "nowhere.jsonl"], "no file matches"),
    ],
)
def test_data_that_make_no_model_end_with_2(documents: Path, more: list[str], message: str) -> None:
    status, _, told = train(documents, *more)
    assert (status, message in told) == (2, True), told
    assert not (documents / "hq.bin").exists()
