"""`thresher new scorer` writes a scorer that works: its test passes and its job runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from thresher.jobs import new_scorer
from thresher.jobs.cli import cli
from thresher.scorers import registry


def thresher(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _python(folder, "-m", "thresher", *arguments)


def _python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.mark.parametrize("kind", ["columns", pytest.param("model", marks=pytest.mark.slow)])
def test_the_test_of_a_new_scorer_passes_at_once_and_fails_where_the_scorer_is_broken(
    tmp_path: Path, kind: str
) -> None:
    new_scorer.write("page_tone", kind, tmp_path)
    test = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_page_tone.py")
    passed = _python(tmp_path, *test)
    assert passed.returncode == 0, passed.stdout
    source = (tmp_path / "page_tone.py").read_text()
    assert "class PageTone(Scorer)" in source
    broken = source.replace("pa.float32()}", "pa.float64()}", 1)
    assert broken != source
    (tmp_path / "page_tone.py").write_text(broken)
    failed = _python(tmp_path, *test)
    assert failed.returncode == 1
    assert "score is float, outputs promises double" in failed.stdout


@pytest.mark.parametrize(
    ("kind", "scores"),
    [
        ("columns", {"calm": 0.0, "loud": 100 * 3 / 32, "empty": None}),
        # Of ten words "library", "readers" and "books." are known; of six "buy" and "price!".
        ("model", {"calm": (1 + 0.5 + 1) / 10, "loud": -2 / 6, "empty": None}),
    ],
)
def test_the_job_of_a_new_scorer_runs(tmp_path: Path, kind: str, scores: dict[str, float | None]) -> None:
    made = thresher(tmp_path, "new", "scorer", "tone", "--kind", kind)
    assert made.returncode == 0, made.stderr
    done = thresher(tmp_path, "run", "tone.yaml", "--allow-code", "--quiet", "--workers", "1")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "tone-out" / "shard-00000.jsonl").read_text().splitlines()
    found = {record["id"]: record["tone"] for record in map(json.loads, lines)}
    assert found == {
        name: None if score is None else pytest.approx(score, rel=1e-6) for name, score in scores.items()
    }


def test_it_says_what_it_wrote_and_what_to_do_next(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["new", "scorer", "mood", "--kind", "model", "--into", str(tmp_path / "a")]
    )
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "mood.json",
        "mood.jsonl",
        "mood.py",
        "mood.yaml",
        "test_mood.py",
    ]
    assert done.output.splitlines() == [
        "wrote mood.py, test_mood.py, mood.yaml, mood.jsonl and mood.json",
        f"check it: cd {tmp_path / 'a'} && pytest test_mood.py",
        f"run it:   cd {tmp_path / 'a'} && thresher run mood.yaml --allow-code",
    ]
    job = yaml.safe_load((tmp_path / "a" / "mood.yaml").read_text())
    assert job["steps"][0]["score"] == {"mood:Mood": {"model": "mood.json"}}


@pytest.mark.parametrize("there", ["tone.py", "test_tone.py", "tone.yaml", "tone.jsonl"])
def test_nothing_is_overwritten_and_then_nothing_is_written(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    done = CliRunner().invoke(cli, ["new", "scorer", "tone", "--into", str(tmp_path)])
    assert done.exit_code == 2
    assert f"{tmp_path / there} would be overwritten" in done.output
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "mine")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("PageTone", "'PageTone' cannot be the name of a module.*as in page_tone"),
        ("page-tone", "cannot be the name of a module.*as in page_tone"),
        ("2nd", "cannot be the name of a module: write small letters, digits and _, a letter first$"),
        ("../tone", "cannot be the name of a module"),
        ("class", "cannot be the name of a module"),
        ("json", "there is a module json already.*such as json_score"),
        ("pyarrow", "there is a module pyarrow already"),
        ("thresher", "there is a module thresher already"),
        ("", "cannot be the name of a module"),
    ],
)
def test_a_name_that_no_module_can_have_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(new_scorer.NameRefused, match=message):
        new_scorer.write(name, "columns", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(cli, ["new", "scorer", "tone", "--into", str(tmp_path / "file" / "below")])
    assert done.exit_code == 2
    assert "cannot be written" in done.output


def test_a_new_scorer_is_found_by_the_name_that_its_job_has(tmp_path: Path) -> None:
    new_scorer.write("tone_of_page", "columns", tmp_path)
    plugin = registry.build(
        registry.SCORER, "tone_of_page:ToneOfPage", {"mark": "?"}, directory=tmp_path, allow_code=True
    )
    assert plugin.inputs == ("text",)
