"""`thresher train sentencepiece` and `thresher train kenlm`: from files to a model that a job scores with."""

from __future__ import annotations

import json
import random
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from thresher.jobs.train_commands import register
from thresher.schemas.contracts import AssetError
from thresher.scorers import kenlm_tools
from thresher.scorers.assets import LocalAssets
from thresher.scorers.kenlm import KenLMScorer
from thresher.scorers.kenlm_training import KenLMTrainer
from thresher.scorers.sentencepiece_training import SentencePieceTrainer


@click.group()
def train() -> None:
    """The group that the commands are added to."""


register(train)


@pytest.fixture(scope="module")
def lmplz() -> None:
    pytest.importorskip("kenlm", reason="needs the package kenlm")
    pytest.importorskip("sentencepiece", reason="needs the package sentencepiece")
    try:
        kenlm_tools.find()
    except AssetError:
        try:
            kenlm_tools.build()
        except kenlm_tools.BuildError as error:
            pytest.skip(f"no lmplz, and it cannot be built here: {error}")


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    chance = random.Random(5)
    words = [f"{a}{b}" for a in ("mor", "tel", "sun", "gar", "pli") for b in ("an", "ero", "is", "ud")]
    lines = [json.dumps({"body": " ".join(chance.choices(words, k=30))}) for _ in range(150)]
    (tmp_path / "wiki.jsonl").write_text("\n".join([*lines, '{"body": ""}']) + "\n")
    return tmp_path


def call(command: str, folder: Path, *more: str) -> tuple[int, str, BaseException | None]:
    common = ["--input", str(folder / "wiki.jsonl"), "--text", "body"]
    done = CliRunner().invoke(train, [command, *common, *more])
    return done.exit_code, done.output, done.exception


def test_a_tokenizer_and_a_model_are_trained_from_files_and_scored_with(lmplz: None, documents: Path) -> None:
    pieces, model = str(documents / "sp.model"), str(documents / "lm.bin")
    status, told, error = call("sentencepiece", documents, "--out", pieces, "--vocab-size", "30")
    assert (status, error) == (0, None)
    assert f"thresher train kenlm --tokenizer {pieces}" in told
    status, told, error = call(
        "kenlm", documents, "--out", model, "--tokenizer", pieces, "--order", "3", "--prune", "0 0 1"
    )
    assert (status, error) == (0, None)
    assert "1 records without text" in told or "percentile 30" in told
    assert f"- score: {{kenlm: {{model: {model}, tokenizer: {pieces}}}}}" in told
    assert "| prune | 0 0 1 |" in (documents / "lm.bin.md").read_text()
    scorer = KenLMScorer(model, pieces)
    scorer.open(LocalAssets())


def test_the_answer_comes_as_json_too(documents: Path) -> None:
    pytest.importorskip("sentencepiece")
    out = str(documents / "sp.model")
    status, told, _ = call("sentencepiece", documents, "--out", out, "--vocab-size", "30", "--json")
    assert status == 0
    answer = json.loads(told)
    assert answer["documents"] + answer["held_out"] == 150
    assert answer["figures"]["characters per piece"] > 1
    assert Path(answer["card"]).is_file()


@pytest.mark.parametrize(
    ("command", "trainer"),
    [("sentencepiece", SentencePieceTrainer()), ("kenlm", KenLMTrainer("sp.model"))],
)
def test_the_help_tells_the_default_of_each_parameter(command: str, trainer: object) -> None:
    told = " ".join(CliRunner().invoke(train, [command, "--help"]).stdout.split())
    spelled = {"True": "", "False": "", "()": "none", "None": ""}
    for name, value in vars(trainer).items():
        _, found, option = told.partition(f"--{name.replace('_', '-')} ")
        if name in ("tokenizer", "hard_vocab_limit", "byte_fallback", "discount_fallback", "quantize"):
            continue
        assert found, name
        before, _, _ = option.partition(" where left out")
        assert before.endswith(f"; {spelled.get(str(value), value)}"), name


@pytest.mark.parametrize(
    ("command", "more", "message"),
    [
        ("sentencepiece", ["--vocab-size", "0"], "vocab_size"),
        ("sentencepiece", [], "too little for a vocabulary of 65536 and 40000"),
        ("sentencepiece", ["--text", "nothing"], "no document with text"),
        ("kenlm", ["--tokenizer", "none.model", "--order", "9"], "order is 9"),
        ("kenlm", ["--tokenizer", "none.model", "--prune", "a b"], "write counts with spaces between"),
    ],
)
def test_what_makes_no_model_is_told_in_one_sentence(
    documents: Path, command: str, more: list[str], message: str
) -> None:
    pytest.importorskip("sentencepiece")
    status, told, error = call(command, documents, "--out", str(documents / "x"), *more)
    assert status != 0
    assert message in told + str(error)
    assert not (documents / "x").exists()
