"""Loading a job: every error at once, with its line; `--set`; paths; round trips."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import thresher
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thresher.jobs.loading import dump, load
from thresher.jobs.problems import JobFileError, Problem
from thresher.jobs.yaml_source import read_yaml
from thresher.schemas.job import Job
from thresher.schemas.plain_yaml import write_yaml

GOOD = """\
name: small
input:
  - path: docs/*.jsonl
steps:
  - language: {keep: [en, no], min_score: 0.65}
  - filter: {gopher_quality: {min_words: 60}}
  - dedup: {minhash: {bands: 14, rows: 8, keep: longest}}
  - select: {top: 10%, by: word_count, within: lang}
    on: local
output:
  path: out/
  shard: 256MB
run: {workers: 2}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def told(folder: Path, text: str, *overrides: str) -> list[str]:
    """The lines of the error, with the name of the file alone."""
    path = write(folder, text)
    with pytest.raises(JobFileError) as caught:
        load(path, overrides, check=False)
    return str(caught.value).replace(f"{path}", "job.yaml").splitlines()


def test_a_job_file_is_read_by_the_rules_of_yaml_1_2(tmp_path: Path) -> None:
    job = load(write(tmp_path, GOOD), check=False)
    assert job.steps[0].options.keep == ["en", "no"]
    assert job.steps[3].on == "local"
    assert job.steps[3].options.top == 0.1


def test_all_errors_come_at_once_each_with_line_path_and_nearest_name(tmp_path: Path) -> None:
    text = """\
name: small
inptu: [{path: a.jsonl}]
steps:
  - langauge: {keep: [en]}
  - select: {top: 10, by: quality, unti: bytes}
  - dedup:
      minhash: {threshold: 0.8, bands: 14, rows: 8}
  - extract: resiliparse
    filter: c4
  - language:
      keep: [english]
      max_chars: many
output:
  path: out/
  format: parqet
  shard: big
run: {workers: 0}
"""
    assert told(tmp_path, text) == [
        'job.yaml:1: "input" is missing',
        'job.yaml:2: inptu: unknown key "inptu"; did you mean "input"?',
        'job.yaml:4: steps[0].langauge: unknown verb "langauge"; did you mean "language"?',
        'job.yaml:5: steps[1].select.top: "10" is a fraction or a percentage; write 10% or 0.1',
        'job.yaml:5: steps[1].select.unti: unknown key "unti"; did you mean "unit"?',
        "job.yaml:7: steps[2].dedup.minhash.threshold: threshold chooses bands and rows itself; remove it, or"
        " bands and rows",
        "job.yaml:8: steps[3]: extract and filter in one step; make each a step of its own",
        'job.yaml:11: steps[4].language.keep[0]: "english" is not a language code; write en for lid.176 or'
        " eng_Latn for GlotLID",
        'job.yaml:12: steps[4].language.max_chars: "many" is not a whole number',
        'job.yaml:15: output.format: "parqet" is not one of parquet, jsonl, webdataset, datacomp;'
        ' did you mean "parquet"?',
        'job.yaml:16: output.shard: "big" is not a size in bytes; write 256MB or 1GiB',
        'job.yaml:17: run.workers: "0" must be at least 1',
    ]


MISTAKES = [
    ("", "job.yaml: the job file is empty"),
    ("- a\n- b\n", "job.yaml:1: a job is a mapping: name, input, steps, output"),
    ("name: [", "job.yaml:1: not valid YAML: expected the node content, but found '<stream end>'"),
    (GOOD + "name: other\n", 'job.yaml:14: name: "name" is given twice, first on line 1'),
    (
        GOOD + "x: !!python/object/apply:os.system [ls]\n",
        "job.yaml:14: x: the tag !!python/object/apply:os.system is refused: plain values only",
    ),
    (
        GOOD.replace("name: small", "name: &a [*a]"),
        "job.yaml:1: name[0]: nested too deeply, or an alias that contains itself",
    ),
    (
        GOOD.replace("  - language:", "  - 5\n  - language:"),
        'job.yaml:5: steps[0]: "5" is not a step; a step is one verb with its options, as in',
    ),
    (
        GOOD.replace("    on: local", "    on: spark"),
        'job.yaml:9: steps[3].on: "spark" is not one of local, beam, ray',
    ),
    (
        GOOD.replace("  shard: 256MB", "  format: webdataset\n  compression: zstd"),
        "job.yaml:13: output.compression: webdataset takes none, not zstd",
    ),
    (GOOD.replace("{gopher_quality: {min_words: 60}}", "[c4]"), "job.yaml:6: steps[1].filter:"),
    (
        GOOD.replace("top: 10%, ", ""),
        "job.yaml:8: steps[3].select: how much? give one of top, budget, cap and min",
    ),
    (
        GOOD.replace("    on: local", "    name: x").replace("  - dedup", "  - name: x\n    dedup"),
        'job.yaml:4: steps: two steps have the name "x"; names are unique',
    ),
]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_each_mistake_has_its_message(tmp_path: Path, text: str, expected: str) -> None:
    assert any(line.startswith(expected) for line in told(tmp_path, text)), told(tmp_path, text)


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(JobFileError, match=r'jbo.yaml: no such file; did you mean "job.yaml"\?'):
        load(tmp_path / "jbo.yaml")
    with pytest.raises(JobFileError, match="is a folder"):
        load(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    for content in (
        b"\xff\xfe\x00name",
        b"name: \xff",
        b"name: a\x00b",
        b"[" * 5000,
        b"name: '\\x'",
        b'"\\ud800"',
    ):
        path.write_bytes(content)
        with pytest.raises(JobFileError):
            load(path, check=False)


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 100000 values" in "\n".join(told(tmp_path, "\n".join(levels)))


def test_any_value_can_be_set_from_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    overrides = [
        "run.workers=4",
        "run.seed=7",
        "steps.3.select.top=5%",
        "steps[0].language.keep=[de, fr]",
        "output={path: elsewhere, format: jsonl}",
        "steps.4.limit=10",
        "input.1.path=more.jsonl",
    ]
    job = load(path, overrides, check=False)
    assert (job.run.workers, job.run.seed, job.steps[3].options.top) == (4, 7, 0.05)
    assert job.steps[0].options.keep == ["de", "fr"]
    assert job.output.format == "jsonl"
    assert job.steps[4].options == 10
    assert len(job.input) == 2


def test_steps_can_be_set_in_a_job_that_has_none(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\ninput: docs.jsonl\noutput: {path: out}\n")
    job = load(path, ["steps.0.filter=c4", "steps.1.language.keep.0=en"], check=False)
    assert [step.kind for step in job.steps] == ["filter", "language"]
    assert job.steps[1].options.keep == ["en"]
    with pytest.raises(JobFileError, match=r"--set steps\.x\.filter=c4: steps: .*; steps are its items"):
        load(path, ["steps.x.filter=c4"], check=False)


@pytest.mark.parametrize(
    "shape", ["docs.jsonl", "{path: docs.jsonl}", "[docs.jsonl]", "[{path: docs.jsonl}]"]
)
def test_an_input_can_be_set_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = write(tmp_path, f"name: a\ninput: {shape}\noutput: {{path: out}}\n")
    other = str(tmp_path / "here" / "other.jsonl")

    def inputs(*overrides: str) -> list[tuple[str, str | None]]:
        return [(item.path, item.format) for item in load(path, overrides, check=False).input]

    own = str(tmp_path / "docs.jsonl")
    assert inputs("input.0.path=other.jsonl") == [(other, None)]
    assert inputs("input.0.format=parquet") == [(own, "parquet")]
    assert inputs("input.1.path=other.jsonl") == [(own, None), (other, None)]
    assert inputs("input=other.jsonl") == [(other, None)]


@pytest.mark.parametrize("shape", ["", "input: docs.jsonl\n", "input: {path: docs.jsonl}\n"])
def test_the_only_input_can_be_set_without_its_number(tmp_path: Path, shape: str) -> None:
    path = write(tmp_path, f"name: a\n{shape}output: {{path: out}}\n")
    (source,) = load(path, ["input.path=/data/other.jsonl"], check=False).input
    assert source.path == "/data/other.jsonl"


def test_a_plug_in_name_with_dots_can_be_reached(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("  - dedup", "  - score: {my.own:Taste: {a: 1}}\n  - dedup"))
    job = load(path, ["steps.2.score.my.own:Taste.a=2"], check=False)
    assert job.steps[2].options.arguments == {"a": 2}


OVERRIDES = [
    ("steps.3.select.top=10", 'steps[3].select.top: "10" is a fraction or a percentage; write 10% or 0.1'),
    ("steps.9.limit=1", "steps: there is no item 9; it has 4, counted from 0"),
    ("run.wrokers=1", 'run.wrokers: unknown key "wrokers"; did you mean "workers"?'),
    ("steps.0.language.keep=en", 'steps[0].language.keep: "en" is not a list; write [en]'),
    ("nonsense", "write key=value, as in run.workers=4"),
    ("=1", "write key=value, as in run.workers=4"),
    ("name.first=a", 'name: is "small", which has no first; set the whole of it'),
    ("run.seed=[", "run.seed: not valid YAML"),
]


@pytest.mark.parametrize(("override", "expected"), OVERRIDES)
def test_a_wrong_override_is_told_as_such(tmp_path: Path, override: str, expected: str) -> None:
    lines = told(tmp_path, GOOD, override)
    assert any(line.startswith(f"--set {override}: {expected}") for line in lines), lines


def test_paths_are_relative_to_the_job_file_and_overrides_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = write(tmp_path / "jobs", GOOD)
    job = load(path, check=False)
    assert job.input[0].path == str(tmp_path / "jobs" / "docs" / "*.jsonl")
    assert job.output.path == str(tmp_path / "jobs" / "out")
    assert job.run.work == str(tmp_path / "jobs" / "out" / ".work")
    assert job.run.directory == str(tmp_path / "jobs")
    assert load(path, ["output.path=out"], check=False).output.path == str(tmp_path / "here" / "out")
    assert load(path, ["output.path=s3://bucket/out"], check=False).output.path == "s3://bucket/out"


def test_a_mapping_is_a_job_too_and_is_not_changed(tmp_path: Path) -> None:
    value = yaml.safe_load(GOOD.replace("on: local", "as_is: 1").replace("    as_is: 1\n", ""))
    value["steps"][0]["language"]["keep"] = ["en"]
    before = copy.deepcopy(value)
    job = thresher.load(value, check=False)
    assert job.name == "small"
    assert value == before
    with pytest.raises(JobFileError, match="job: name: a job holds plain values, not set"):
        load({**value, "name": {1, 2}}, check=False)
    circular: dict[str, Any] = dict(value)
    circular["steps"] = circular
    with pytest.raises(JobFileError, match="contains itself"):
        load(circular, check=False)


def test_the_resolved_job_is_written_as_yaml_that_loads_equal(tmp_path: Path) -> None:
    job = load(write(tmp_path, GOOD), check=False)
    again = tmp_path / "elsewhere" / "job.yaml"
    again.parent.mkdir()
    again.write_text(dump(job), encoding="utf-8")
    assert load(again, check=False) == job


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(
        ["no", "on", "5e9", "1_000", "0x1f", "1:30", "2024-01-01", "~", "null", ".inf", "10%", "<<"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(plain)
@settings(deadline=None)
def test_what_is_written_as_yaml_is_read_back_equal(value: Any) -> None:
    document = read_yaml(write_yaml(value))
    assert document.problems == []
    assert document.value == value


def outcome(*arguments: Any) -> Job | list[Problem]:
    """The job, or its problems; every other exception gets out."""
    try:
        return load(*arguments, check=False)
    except JobFileError as error:
        return error.problems


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [deeper for key, item in items for deeper in paths_in(item, (*path, key))]


@given(st.data())
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_no_change_to_a_job_raises_anything_but_a_job_file_error(data: st.DataObject) -> None:
    value = read_yaml(GOOD).value
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, key = data.draw(st.sampled_from(paths_in(value)))
        owner = value
        for parent in parents:
            owner = owner[parent]
        action = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace":
            owner[key] = data.draw(plain)
        elif action == "remove" or isinstance(owner, list):
            del owner[key]
        else:
            owner[
                data.draw(st.sampled_from(["name", "threshold", "top", "on", "as", "num_perm", "best", "x"]))
            ] = data.draw(plain)
    found = outcome(value)
    if isinstance(found, Job):
        assert load(found.resolved(), check=False) == found
    else:
        assert found
        assert all(problem.message for problem in found)


@given(st.text(max_size=200) | st.binary(max_size=200), st.integers(0, len(GOOD)))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_raises_anything_but_a_job_file_error(tmp_path: Path, noise: str | bytes, at: int) -> None:
    noise = noise if isinstance(noise, bytes) else noise.encode("utf-8", "surrogatepass")
    path = tmp_path / "noise.yaml"
    path.write_bytes(GOOD.encode()[:at] + noise + GOOD.encode()[at:])
    assert outcome(path)


@given(st.text(max_size=40), plain)
@settings(deadline=None, max_examples=60)
def test_no_override_raises_anything_but_a_job_file_error(key: str, value: Any) -> None:
    keys = [key, "steps.0.language", "steps.7", "run.work", "input", "input.0", "output.path"]
    for name in keys:
        assert outcome(read_yaml(GOOD).value, [f"{name}={value}"])


def test_loading_does_not_depend_on_the_environment(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    job = load(path, check=False)
    assert os.path.isabs(job.output.path)
    assert load(Path(os.path.relpath(path)), check=False) == job
