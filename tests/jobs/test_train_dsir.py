"""`thresher train dsir`: from files of raw data and of targets to weights in a job."""

from __future__ import annotations

import json
import random
from pathlib import Path

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from thresher.jobs.train_commands import register
from thresher.jobs.training import NotTrainableError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.dsir import DsirScorer, read


@click.group()
def train() -> None:
    """The group that the commands are added to."""


register(train)

WORDS = {
    "code": ["def", "return", "(", ")", ":", "=", "x", "self", "import", "the"],
    "prose": ["river", "mill", "miller", "ran", "old", ",", ".", "and", "water", "the"],
    "shop": ["buy", "shoes", "cheap", "now", "!", "order", "price", ",", "you", "the"],
}


def written(folder: Path, name: str, words: list[str], count: int, seed: int) -> None:
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(words, k=120)) for _ in range(count)]
    lines = [json.dumps({"body": text}) for text in [*texts, ""]]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    for seed, (name, words) in enumerate(WORDS.items()):
        written(tmp_path, name, words, 30, seed)
        written(tmp_path / "raw", name, words, 20, 10 + seed)
    return tmp_path


def call(folder: Path, *more: str) -> Result:
    common = ["dsir", "--raw", str(folder / "raw" / "*.jsonl"), "--out", str(folder / "dsir.npz")]
    return CliRunner().invoke(train, [*common, "--text", "body", *more])


def test_one_target_is_trained_and_told_with_the_step_that_uses_it(folder: Path) -> None:
    done = call(folder, "--target", str(folder / "prose.jsonl"), "--held-out", "0.3")
    assert done.exit_code == 0
    assert (
        "counted 30 documents (7,170 n-grams) of target, 60 documents (14,340 n-grams) of raw" in done.output
    )
    assert "4 records without a word were left out" in done.output
    assert f"- score: {{dsir: {{statistics: {folder / 'dsir.npz'}}}}}" in done.output
    assert (folder / "dsir.npz.md").read_text().startswith("# dsir.npz\n")
    assert read(folder / "dsir.npz").targets["target"].documents == 30


def test_several_targets_have_names_and_each_outranks_in_what_is_its_own(folder: Path) -> None:
    targets = [f"{name}={folder / name}.jsonl" for name in ("code", "prose")]
    options = ["--held-out", "0.3", "--buckets", "500", "--ngram", "3", "--smoothing", "0.5", "--json"]
    done = call(folder, "--target", targets[0], "--target", targets[1], *options)
    answer = json.loads(done.output)
    assert set(answer["documents"]) == {"code", "prose", "raw"}
    for check in answer["held_out"].values():
        assert check["difference"] == pytest.approx(check["mean"] - check["raw_mean"])
        assert check["difference"] > 50
        assert check["auc"] > 0.6  # a third of the raw data is of the target itself
    assert (read(folder / "dsir.npz").buckets, read(folder / "dsir.npz").ngram) == (500, 3)
    scorer = DsirScorer("dsir.npz", target=["code", "prose"])
    scorer.open(LocalAssets([folder]))
    texts = [" ".join(WORDS[name] * 12) for name in ("code", "prose")]
    found = scorer.score(pa.record_batch({"text": texts}))
    assert found["code"][0].as_py() > 0 > found["prose"][0].as_py()
    assert found["prose"][1].as_py() > 0 > found["code"][1].as_py()


def test_raw_data_are_counted_up_to_the_budget_from_all_files_alike(folder: Path) -> None:
    budget = str(3 * 239 * 4)
    done = call(folder, "--target", str(folder / "prose.jsonl"), "--ngrams-to-fit", budget, "--json")
    assert json.loads(done.output)["documents"]["raw"] == 5 + 5 + 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--buckets", "0"], "buckets is 0"),
        (["--smoothing", "-1"], "smoothing is -1"),
        (["--text", "nothing"], "there is no document with a word"),
        (["--target", "Big={prose}"], "a name is small letters"),
        (["--out", "dsir.bin"], "ends in .npz"),
    ],
)
def test_what_makes_no_statistics_is_told_in_one_sentence(
    folder: Path, more: list[str], message: str
) -> None:
    path = str(folder / "prose.jsonl")
    done = call(folder, "--target", path, *(one.replace("{prose}", path) for one in more))
    assert done.exit_code != 0
    assert isinstance(done.exception, NotTrainableError)
    assert message in str(done.exception)
    assert not (folder / "dsir.npz").exists()
