"""The models that a job's steps read: in its plan, on its card, and when one is missing."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from thresher.jobs.cli import cli, train
from thresher.jobs.loading import load
from thresher.jobs.models import Model, models
from thresher.jobs.problems import JobFileError
from thresher.scorers import registry

MODULE = """\
import pyarrow as pa
from thresher.scorers import Scorer


class Praise(Scorer):
    version = 1
    inputs = ("text",)
    obtain = "ask whoever wrote it"

    def __init__(self, praised, pool):
        self.assets, self.listed = (praised, pool), (pool,)

    @property
    def outputs(self):
        return {"score": pa.float32()}

    def score(self, batch):
        return {"score": pa.nulls(len(batch), pa.float32())}
"""
JOB = """\
name: praised
input: in.jsonl
steps:
  - score: {praise:Praise: {praised: words.txt, pool: pool}}
    as: praise
  - score: {word_list: {path: words.txt}}
    as: words
output: {path: out}
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job with a scorer of its own, a list of words with a card, and a pool that is not read."""
    (tmp_path / "praise.py").write_text(MODULE)
    (tmp_path / "words.txt").write_text("fine\ngood\n")
    (tmp_path / "words.txt.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "pool").mkdir()
    (tmp_path / "in.jsonl").write_text('{"id": "a", "text": "a fine text"}\n')
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path / "job.yaml"


def test_scorers_say_themselves_what_they_read(job: Path) -> None:
    digest = hashlib.sha256(b"fine\ngood\n").hexdigest()
    of_list = Model("words.txt", "score:word_list", digest, "mit")
    loaded = load(job, allow_code=True)
    assert list(models(loaded, allow_code=True)) == [
        Model("words.txt", "score:Praise", digest, "mit"),
        Model("pool", "score:Praise", "", "unknown"),
        of_list,
    ]
    assert list(models(loaded)) == [of_list]  # what may not be imported cannot be asked


def test_the_plan_shows_the_models_of_each_stage_with_their_licences(job: Path) -> None:
    shown = CliRunner().invoke(cli, ["plan", str(job), "--allow-code"])
    assert shown.exit_code == 0, shown.output
    start = hashlib.sha256(b"fine\ngood\n").hexdigest()[:12]
    lines = [line.strip() for line in shown.output.splitlines() if "model:" in line]
    assert lines == [
        f"model: words.txt, SHA-256 {start}…, licence mit",
        "model: pool, SHA-256 not known, licence unknown",
        f"model: words.txt, SHA-256 {start}…, licence mit",
    ]
    listed = json.loads(CliRunner().invoke(cli, ["plan", str(job), "--allow-code", "--json"]).output)
    (stage,) = [stage for stage in listed if "models" in stage]
    assert [(model["name"], model["licence"]) for model in stage["models"]] == [
        ("words.txt", "mit"),
        ("pool", "unknown"),
        ("words.txt", "mit"),
    ]


def test_a_missing_model_is_told_with_what_its_scorer_says_of_making_one(job: Path) -> None:
    (job.parent / "words.txt").unlink()
    with pytest.raises(JobFileError) as caught:
        load(job, allow_code=True)
    own, of_list = caught.value.problems
    assert own.place == "steps[0].score.praise:Praise.praised"
    assert re.search(
        r"no model file 'words\.txt'; looked for .*words\.txt.*; ask whoever wrote it$", own.message
    )
    assert "thresher train --help" in of_list.message


def test_a_missing_classifier_is_told_with_the_command_that_trains_one(tmp_path: Path) -> None:
    score = {"score": {"fasttext": {"model": "hq.bin", "label": "hq"}}, "as": "quality"}
    described = {"name": "a", "input": "a.jsonl", "steps": [score], "output": {"path": str(tmp_path / "out")}}
    with pytest.raises(JobFileError, match=r"no model file 'hq\.bin'.*`thresher train fasttext` makes one"):
        load(described)


@pytest.mark.parametrize("name", sorted(registry.SCORER.own))
def test_what_a_scorer_says_of_making_its_model_names_commands_that_there_are(name: str) -> None:
    module, _, attribute = registry.SCORER.own[name].partition(":")
    try:
        plugin = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        pytest.skip(str(error))
    assert isinstance(train, click.Group)
    named = re.findall(r"`thresher train ([a-z0-9-]+)", plugin.obtain)
    assert [command for command in named if command not in train.commands] == []
    assert not plugin.obtain.endswith(".")
