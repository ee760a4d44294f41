"""`thresher train lm` and `thresher train retrieval-heads`: from files of text to scores in a job."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from thresher.jobs import training_lm
from thresher.jobs.cli import cli
from thresher.schemas.contracts import AssetError
from thresher.scorers.lm.packages import import_transformers
from thresher.scorers.lm.training_loop import Progress

pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("tokenizers", reason="needs the package tokenizers")

WORDS = ["the", "river", "ran", "past", "an", "old", "mill", "and", "a", "miller", "watched", "water"]
SMALL = ["--vocab-size", "300", "--layers", "1", "--width", "32", "--heads", "2", "--context", "64"]
SMALL += ["--batch-tokens", "512", "--threads", "1"]


@pytest.fixture(scope="module", autouse=True)
def transformers() -> None:
    try:
        import_transformers()
    except AssetError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("texts")
    draw = random.Random(1)
    lines = [json.dumps({"body": " ".join(draw.choices(WORDS, k=60))}) for _ in range(60)]
    (made / "texts.jsonl").write_text("\n".join([*lines, '{"body": ""}']) + "\n", encoding="utf-8")
    return made


def train(folder: Path, *more: str) -> tuple[int, str, str]:
    given = ["--input", str(folder / "*.jsonl"), "--text", "body", "--held-out", "0.2"]
    done = CliRunner().invoke(cli, ["train", "lm", *given, *more])
    return done.exit_code, done.stdout, done.stderr


def test_a_model_is_trained_trained_further_and_its_heads_are_found(folder: Path) -> None:
    prior, further = folder / "prior", folder / "further"
    status, told, progress = train(folder, "--out", str(prior), *SMALL, "--evaluations", "2")
    assert status == 0, told + progress
    assert "1 records without text were left out" in told
    assert f"  - score: {{causal_lm: {{model: {prior}}}}}\n    as: lm\n" in told
    assert [line.split(", ")[0].split(" ")[0] for line in progress.splitlines()] == ["step", "step"]
    status, told, progress = train(
        folder, "--from", str(prior), "--out", str(further), "--context", "64", "--json"
    )
    assert status == 0, told + progress
    answer = json.loads(told)
    assert answer["model"] == str(further)
    assert answer["loss"] <= answer["start_loss"]
    assert answer["documents"] + answer["held_out"] == 60
    sizes = ["--tasks", "2", "--shots", "0", "--key-length", "1", "--words", "1", "--share", "0.5"]
    out = folder / "heads.json"
    done = CliRunner().invoke(
        cli, ["train", "retrieval-heads", "--model", str(prior), "--out", str(out), *sizes]
    )
    assert done.exit_code == 0, done.output
    assert f"{out}: 1 of 2 heads, whose mean score is 0." in done.output
    assert f"mask_heads: {out}" in done.output
    assert len(json.loads(out.read_text())["heads"]) == 1


def test_an_interrupted_training_keeps_its_best_model_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> str:
        if progress.step >= 2:
            raise KeyboardInterrupt
        return "going on"

    monkeypatch.setattr(training_lm, "told_progress", stop)
    out = folder / "stopped"
    status, told, _ = train(folder, "--out", str(out), *SMALL, "--epochs", "9", "--evaluations", "50")
    assert status == 130
    assert told.startswith("interrupted; this is the best model until then\n")
    assert (out / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--layers", "0"], "layers is 0; it is at least 1"),
        (["--context", "4096", "--width", "32", "--heads", "2", "--vocab-size", "300"], "a row is 4096"),
        (["--from", "nowhere"], "no model file 'nowhere'"),
    ],
)
def test_what_cannot_be_trained_is_told_in_a_line(folder: Path, more: list[str], message: str) -> None:
    status, _, errors = train(folder, "--out", str(folder / "none"), *more)
    assert status == 2
    assert message in errors
    assert not (folder / "none").exists()


def test_a_task_too_long_for_the_model_is_told(folder: Path) -> None:
    model = folder / "short"
    train(folder, "--out", str(model), *SMALL)
    done = CliRunner().invoke(
        cli, ["train", "retrieval-heads", "--model", str(model), "--out", str(folder / "h.json")]
    )
    assert done.exit_code == 2
    assert "has no room in 64 tokens" in done.stderr
