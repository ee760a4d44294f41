"""What a job says about engines and resources: what would fail, or do nothing, is told at its line."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from thresher.jobs import doctor
from thresher.jobs.loading import load
from thresher.jobs.problems import JobFileError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "hq.bin").write_bytes((793712314).to_bytes(4, "little"))  # what a fastText model begins with
    return tmp_path


def problems(folder: Path, steps: list[Any], run: dict[str, Any] | None = None, **more: Any) -> list[str]:
    """The problems of a job with these steps, each as `place: message`."""
    described = {
        "name": "a",
        "input": str(folder / "docs.jsonl"),
        "steps": steps,
        "output": {"path": str(folder / "out")},
        "run": {"directory": str(folder), **(run or {})},
        **more,
    }
    try:
        load(described)
    except JobFileError as error:
        return [problem.told("job").removeprefix("job: ") for problem in error.problems]
    return []


ENGINES = [("beam", "apache_beam"), ("ray", "ray")]


@pytest.mark.parametrize(("engine", "package"), ENGINES)
def test_an_engine_that_is_not_installed_is_told_with_how_to_install_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, engine: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    told = f"engine {engine} is not installed: pip install 'thresher[{engine}]'"
    assert problems(folder, [], run={"engine": engine}) == [f"run.engine: {told}"]
    assert problems(folder, [{"limit": 5, "on": engine}]) == [f"steps[0].on: {told}"]
    assert problems(folder, [{"limit": 5, "on": "local"}]) == []


@pytest.mark.parametrize(("engine", "package"), ENGINES)
def test_an_engine_is_looked_for_without_importing_it(folder: Path, engine: str, package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    described = {
        "name": "a",
        "input": str(folder / "docs.jsonl"),
        "output": {"path": str(folder / "out")},
        "run": {"engine": engine},
    }
    code = (
        "import json, sys\nfrom thresher.jobs.loading import load\n"
        f"load(json.loads({json.dumps(described)!r}))\nprint({package!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_a_folder_of_an_engine_s_name_is_not_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apache_beam").mkdir()
    monkeypatch.delitem(sys.modules, "apache_beam", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not doctor.is_usable("beam")


def test_settings_of_an_engine_that_the_job_does_not_name_are_refused(folder: Path) -> None:
    ray, beam = {"address": "auto"}, {"runner": "FlinkRunner"}
    told = "run.ray: nothing runs on ray: write engine: ray beside it, or on: ray at a step"
    assert problems(folder, [], run={"ray": ray}) == [told]
    assert len(problems(folder, [], run={"ray": ray, "beam": beam})) == 2
    assert problems(folder, [{"limit": 5, "on": "ray"}], run={"ray": ray}) == []
    assert problems(folder, [], run={"ray": {}, "beam": {}}) == []


def test_settings_of_another_engine_stay_where_one_is_written_down(folder: Path) -> None:
    assert problems(folder, [], run={"engine": "local", "ray": {"address": "auto"}}) == []
    job = folder / "job.yaml"
    run = "run: {engine: ray, ray: {address: auto}}"
    job.write_text(f"name: a\ninput: docs.jsonl\noutput: {{path: out}}\n{run}\n")
    loaded = load(job, ["run.engine=local"])
    assert (loaded.run.engine, load(loaded.resolved())) == ("local", loaded)


def test_workers_of_dataflow_need_a_work_directory_in_a_store(folder: Path) -> None:
    dataflow = {"engine": "beam", "beam": {"runner": "DataflowRunner"}}
    (told,) = problems(folder, [], run=dataflow)
    assert told.startswith("run.work: no worker of DataflowRunner sees a folder of this machine")
    assert problems(folder, [], run={**dataflow, "work": "s3://bucket/x"}) == []
    assert problems(folder, [], run={**dataflow, "engine": "local"}) == []
    # Others may have their folders shared; the probe finds out.
    assert problems(folder, [], run={"engine": "beam", "beam": {"runner": "FlinkRunner"}}) == []


SCORE = {"score": {"fasttext": {"model": "hq.bin", "label": "hq"}}, "as": "quality"}


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"dedup": "minhash", "resources": {"gpus": 1}}, "dedup holds no model; gpus go with score, edit"),
        (
            {"select": {"top": 0.5, "by": "word_count"}, "resources": {"actors": [1, 2]}},
            "select holds no model",
        ),
        ({"filter": "c4", "resources": {"actors": [1, 2]}}, "filter holds no model"),
        ({**SCORE, "on": "beam", "resources": {"gpus": 1, "actors": [1, 1]}}, "engine beam gives no GPUs"),
        ({**SCORE, "resources": {"gpus": 1}}, "say how many of them hold the model, as in actors: [1, 1]"),
        ({**SCORE, "on": "ray", "resources": {"gpus": 1.5}}, "whole GPUs, or a share of one, not 1.5"),
    ],
)
def test_resources_that_would_do_nothing_are_refused(folder: Path, step: Any, told: str) -> None:
    (found,) = problems(folder, [step])
    assert found.startswith("steps[0].resources.")
    assert told in found


@pytest.mark.parametrize(
    "step",
    [
        {**SCORE, "resources": {"gpus": 1, "actors": [1, 1]}},
        {**SCORE, "on": "ray", "resources": {"gpus": 0.5}},
        {**SCORE, "on": "ray", "resources": {"gpus": 2, "cpus": 1.5}},
        {**SCORE, "on": "beam", "resources": {"actors": [1, 4]}},
        {"language": {"keep": ["en"]}, "resources": {"actors": [1, 4]}},
        {"dedup": "minhash", "on": "beam", "resources": {"cpus": 2, "memory": "4GB"}},
    ],
)
def test_resources_that_an_engine_can_give_are_accepted(folder: Path, step: Any) -> None:
    assert problems(folder, [step]) == []


def test_the_engine_of_a_step_decides_about_its_resources_before_that_of_the_job(folder: Path) -> None:
    step = {**SCORE, "resources": {"gpus": 1}}
    assert problems(folder, [step], run={"engine": "ray"}) == []
    assert len(problems(folder, [step], run={"engine": "beam"})) == 1
    own = {"path": str(folder / "docs.jsonl"), "steps": [step]}
    (told,) = problems(folder, [], input=[own])
    assert told.startswith("input[0].steps[0].resources.gpus: engine local does not divide GPUs")


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ("ray: {adress: auto}", 'run.ray.adress: unknown key "adress"; did you mean "address"?'),
        ("ray: {window: 0}", "run.ray.window: "),
        (
            "beam: {options: --streaming}",
            'run.beam.options: "--streaming" is not a list; write [--streaming]',
        ),
        ("engine: rya", 'run.engine: "rya" is not one of local, beam, ray; did you mean "ray"?'),
    ],
)
def test_a_mistake_in_the_settings_of_an_engine_is_told_at_its_line(
    folder: Path, run: str, told: str
) -> None:
    job = folder / "job.yaml"
    job.write_text(f"name: a\ninput: docs.jsonl\noutput: {{path: out}}\nrun:\n  workers: 1\n  {run}\n")
    with pytest.raises(JobFileError) as caught:
        load(job)
    assert str(caught.value).startswith(f"{job}:6: {told}")
