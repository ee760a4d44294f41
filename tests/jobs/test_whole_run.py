"""A job from the command line to its shards, with the questions that a person asks on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import thresher
from thresher.jobs.loading import load

PYTHON = [sys.executable, "-c", "from thresher.jobs.cli import main; main()"]
SENTENCE = "The quick brown fox and the lazy dog have to be of use with that old plan number {}. "
JOB = """\
name: whole
input: docs.jsonl
steps:
  - filter: {gopher_quality: {min_words: 30}}
  - rule: word_count < 5000
    name: not_a_book
  - dedup: {exact: {on: text}}
output: {path: out}
run: {workers: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    texts = {
        "long-1": SENTENCE.format(1) * 10,
        "long-2": SENTENCE.format(2) * 10,
        "copy": SENTENCE.format(2) * 10,
    }
    texts |= {"short": "Too short.", "book": "the of and to words " * 1500}
    lines = [json.dumps({"id": name, "text": text}) for name, text in texts.items()]
    (folder / "docs.jsonl").write_text(
        "\n".join([*lines, '{"id": "broken", "te', "", '{"id": "textless"}']) + "\n"
    )
    (folder / "job.yaml").write_text(JOB)
    return folder


def thresher_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTHON, *arguments], capture_output=True, text=True, cwd=folder, timeout=240, check=False
    )


def test_a_whole_job_answers_every_question_about_itself(folder: Path) -> None:
    before = thresher_command(folder, "status", "job.yaml")
    assert (before.returncode, "not started" in before.stdout) == (0, True)
    planned = thresher_command(folder, "plan", "job.yaml")
    assert (planned.returncode, "not_a_book" in planned.stdout) == (0, True), planned.stderr
    done = thresher_command(folder, "run", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert "8 in = 2 kept + 2 dropped + 1 duplicates + 3 errors; 2 written" in done.stdout
    assert f"in {folder / 'out'}" in done.stdout

    stories = {
        name: thresher_command(folder, "why", name, "--output", "out").stdout
        for name in ("short", "book", "long-2")
    }
    assert "dropped, at step filter:gopher_quality: too_few_words (2)" in stories["short"]
    assert "word_count = 2" in stories["short"]
    assert "dropped, at step not_a_book: not_a_book (7500)" in stories["book"]
    # Both copies are equally long, so that the smaller id stands for them.
    assert "duplicate, at step dedup:exact: duplicate (stands for it: copy)" in stories["long-2"]
    kept = thresher_command(folder, "why", "long-1", "--output", "job.yaml").stdout
    assert "kept, in" in kept
    assert "word_count = 190" in kept

    assert "finished" in thresher_command(folder, "status", "out").stdout
    assert "2 records" in thresher_command(folder, "inspect", "out/shard-00000.parquet").stdout
    (entry,) = sorted((folder / "out" / ".work" / "stages").glob("00-*/00000.json"))
    assert "word_count" in thresher_command(folder, "inspect", str(entry)).stdout
    report = (folder / "out" / "report.md").read_text()
    assert "| filter:gopher_quality | too_few_words | 1 |" in report
    assert (
        load(folder / "out" / "job.yaml", check=False).steps == load(folder / "job.yaml", check=False).steps
    )
    cleaned = thresher_command(folder, "clean", "job.yaml", "--yes")
    assert (cleaned.returncode, (folder / "out" / ".work").exists()) == (0, False), cleaned.stderr


def test_a_quick_look_goes_into_a_folder_of_its_own(folder: Path) -> None:
    done = thresher_command(folder, "run", "job.yaml", "--limit", "3", "--json", "--set", "output.path=quick")
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["event"], last["totals"]["in"]) == ("finished", 3)
    assert Path(last["output"]) == folder / "quick" / "limit-3"
    assert "kept" in thresher_command(folder, "why", "long-1", "--output", "quick/limit-3").stdout


def test_a_job_runs_from_python_too(folder: Path) -> None:
    script = (
        "import thresher\n"
        "if __name__ == '__main__':\n"
        "    result = thresher.run(thresher.load('job.yaml', ['output.path=python']))\n"
        "    print(result.totals['kept'], result.output)\n"
    )
    (folder / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, cwd=folder, timeout=240, check=False
    )
    assert done.stdout.split() == ["2", str(folder / "python")], done.stderr
    assert callable(thresher.run)
