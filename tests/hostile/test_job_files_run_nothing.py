"""A job file is data: nothing that can be written in one, or named by one, is ever executed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import thresher
from thresher.filters.expressions import ExpressionError, parse
from thresher.jobs.loading import load
from thresher.jobs.problems import JobFileError
from thresher.jobs.yaml_source import read_yaml

PLUGIN = """\
from pathlib import Path

import pyarrow as pa
from thresher.scorers import Scorer

Path({mark!r}).write_text("imported")


class Words(Scorer):
    version = 1
    inputs = ("text",)

    @property
    def outputs(self):
        return {{"score": pa.float32()}}

    def score(self, batch):
        return {{"score": pa.array([1.0] * len(batch), pa.float32())}}
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that appears where anything was run; beside it a plug-in that would make it."""
    (tmp_path / "in.jsonl").write_text('{"id": "a", "text": "some words"}\n')
    (tmp_path / "plugin.py").write_text(PLUGIN.format(mark=str(tmp_path / "mark")))
    return tmp_path / "mark"


def job(steps: str) -> str:
    return f"name: code\ninput: in.jsonl\nsteps:\n{steps}\noutput: {{path: out}}\nrun: {{workers: 1}}\n"


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thresher", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "value",
    [
        '!!python/object/apply:os.system ["touch mark"]',
        "!!python/object/new:subprocess.Popen [[touch, mark]]",
        '!!python/object/apply:builtins.exec ["open(1)"]',
        "!!python/module:plugin",
        "!!python/name:plugin.Words",
        "!include /etc/passwd",
        "!!binary dG91Y2ggbWFyaw==",
        "!!timestamp 2024-01-01",
        "!!merge <<",
        "!<tag:yaml.org,2002:python/object/apply:os.system> [touch mark]",
    ],
)
def test_a_tag_is_refused_with_its_line(value: str, mark: Path) -> None:
    file = mark.parent / "job.yaml"
    for text in (job(f"  - {value}"), f"name: {value}\n" + job("  []").partition("\n")[2], value):
        file.write_text(text)
        with pytest.raises(JobFileError, match=r"the tag .* is refused: plain values only"):
            load(file, allow_code=True)
    assert not mark.exists()


def test_aliases_that_multiply_are_refused_in_no_time() -> None:
    laughs = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    laughs += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    document = read_yaml("\n".join(laughs))
    assert "do aliases multiply them?" in document.problems[0].message
    own = read_yaml("a: &a [*a]")
    assert "an alias that contains itself" in own.problems[0].message


def test_a_merge_key_is_a_key_like_any_other(mark: Path) -> None:
    file = mark.parent / "job.yaml"
    file.write_text("base: &base {path: out}\n" + job("  []").replace("{path: out}", "{<<: *base}"))
    with pytest.raises(JobFileError, match="<<"):
        load(file)


@pytest.mark.parametrize("step", ["score: {'plugin:Words': {}}\n    as: x", "edit: {'plugin:Words': {}}"])
@pytest.mark.parametrize("verb", ["run", "plan", "status", "clean"])
def test_a_module_beside_the_job_is_not_imported_unless_the_person_allows_it(
    step: str, verb: str, mark: Path
) -> None:
    (mark.parent / "job.yaml").write_text(job(f"  - {step}"))
    done = command(mark.parent, verb, "job.yaml")
    assert not mark.exists()
    assert "Traceback" not in done.stderr
    if verb in ("run", "plan"):
        assert (done.returncode, "--allow-code" in done.stderr) == (2, True), done.stderr


def test_the_person_s_word_is_what_lets_it_in(mark: Path) -> None:
    (mark.parent / "job.yaml").write_text(job("  - score: {'plugin:Words': {}}\n    as: x"))
    done = command(mark.parent, "plan", "job.yaml", "--allow-code")
    assert (done.returncode, mark.exists()) == (0, True), done.stderr


@pytest.mark.parametrize("key", ["allow_code: true", "run: {allow_code: true}"])
def test_a_job_cannot_allow_itself(key: str, mark: Path) -> None:
    text = job("  - score: {'plugin:Words': {}}\n    as: x")
    text = text.replace("run: {workers: 1}\n", "") + key + "\n"
    (mark.parent / "job.yaml").write_text(text)
    done = command(mark.parent, "run", "job.yaml")
    assert (done.returncode, mark.exists()) == (2, False), done.stderr


@pytest.mark.parametrize(
    "name", ["plugin", "plugin.Words", "os.system", "../plugin:Words", "/plugin:Words", "plugin:Words:x", ":"]
)
@pytest.mark.parametrize("kind", ["score", "edit", "filter", "extract", "dedup"])
def test_a_name_that_is_no_plug_in_s_is_looked_up_and_not_imported(name: str, kind: str, mark: Path) -> None:
    more = "\n    as: x" if kind == "score" else ""
    (mark.parent / "job.yaml").write_text(job(f"  - {kind}: {{{json.dumps(name)}: {{}}}}{more}"))
    before = set(sys.modules)
    with pytest.raises(JobFileError):
        load(mark.parent / "job.yaml")
    assert not mark.exists()
    assert "plugin" not in set(sys.modules) - before


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('touch mark') == 0",
        "open('mark', 'w') == 1",
        "eval('1') == 1",
        "(lambda: 1)() == 1",
        "[x for x in (1, 2)] == 1",
        "text.__class__ == 1",
        "text[0] == 'a'",
        "f'{text}' == 'a'",
        "(x := 1) == 1",
        "length.__globals__ == 1",
        "{**text} == 1",
        "length(*text) == 1",
        "length(text=1) == 1",
        "`id` == 1",
        "await text == 1",
        "word_count == 2 ** 999999999",
        "word_count << 999999999 > 1",
        "'a' * 999999999 == text",
        "word_count; word_count",
        "word_count == b'a'",
        "word_count == 1j",
        "word_count == ...",
        "matches(text, '(' )",
        "matches(text, text)",
        "matches(text, '(?P<a>x)(?P=a)')",
        "matches(text, 'x{1000}{1000}{1000}')",
        "(" * 5000 + "word_count > 1" + ")" * 5000,
        "not " * 3000 + "a",
        "-" * 9000 + "1 < word_count",
        "a" * 10_001,
        "word_count > 1\0",
        "",
    ],
)
def test_a_rule_is_not_python(expression: str, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mark.parent)
    with pytest.raises(ExpressionError):
        parse(expression)
    assert not mark.exists()


@pytest.mark.parametrize("value", ["a\0b", "\0", "\ud800"])
@pytest.mark.parametrize(
    "place", [("output", "path"), ("run", "work"), ("run", "directory"), ("input", 0, "path"), ("name",)]
)
def test_a_path_that_no_file_can_have_is_a_problem_of_the_job(
    value: str, place: tuple[str | int, ...], mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mark.parent)
    made: dict[str, Any] = {
        "name": "n",
        "input": [{"path": "in.jsonl"}],
        "output": {"path": "out"},
        "run": {"workers": 1},
    }
    owner: Any = made
    for key in place[:-1]:
        owner = owner[key]
    owner[place[-1]] = value
    with pytest.raises(JobFileError):
        load(made)


@pytest.mark.parametrize("model", ["../../etc/passwd", "/etc/passwd", "..", "a\0b", "x/../../y", "~root/x"])
def test_an_asset_that_is_not_a_model_is_refused_without_a_traceback(model: str, mark: Path) -> None:
    made = {
        "name": "n",
        "input": [{"path": str(mark.parent / "in.jsonl")}],
        "steps": [{"score": {"fasttext": {"model": model, "label": "x"}}, "as": "s"}],
        "output": {"path": str(mark.parent / "out")},
        "run": {"directory": str(mark.parent), "workers": 1},
    }
    (mark.parent / "job.json").write_text(json.dumps(made))
    done = command(mark.parent, "run", "job.json")
    assert (done.returncode in (2, 4), "Traceback" in done.stderr) == (True, False), done.stderr
    assert "root:x" not in done.stderr + done.stdout


def test_a_folder_of_url_lists_is_not_left_by_the_name_of_a_category(mark: Path) -> None:
    (mark.parent / "lists" / "adult").mkdir(parents=True)
    (mark.parent / "lists" / "adult" / "domains").write_text("example.org\n")
    (mark.parent / "domains").write_text("example.org\n")
    made = {
        "name": "n",
        "input": [{"path": str(mark.parent / "in.jsonl")}],
        "steps": [{"url": {"lists": str(mark.parent / "lists"), "categories": [".."]}}],
        "output": {"path": str(mark.parent / "out")},
        "run": {"workers": 1},
    }
    (mark.parent / "job.json").write_text(json.dumps(made))
    done = command(mark.parent, "run", "job.json")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr


def test_a_wrong_type_beside_a_missing_column_is_told_as_such() -> None:
    columns = {"n": pa.array([1]), "text": pa.array(["a"])}
    with pytest.raises(ExpressionError, match=r"does not fit the columns \(n: int64, text: string\)"):
        parse("(text > n) or missing > 1").evaluate(columns)


def test_what_a_record_holds_is_not_a_rule(mark: Path) -> None:
    text = "__import__('os').system('touch mark') {0.__class__} ${HOME} $(touch mark) `touch mark` %s"
    (mark.parent / "in.jsonl").write_text(json.dumps({"id": text, "text": text, "url": text}) + "\n")
    made = load(
        {
            "name": "n",
            "input": [{"path": str(mark.parent / "in.jsonl")}],
            "steps": [{"rule": f"starts_with(text, {json.dumps(text)})", "name": "same"}],
            "output": {"path": str(mark.parent / "out")},
            "run": {"workers": 1},
        }
    )
    assert thresher.run(made).totals["kept"] == 1
    assert not mark.exists()
