"""`thresher submit` and `thresher jobs` as far as no cluster is needed: addresses, tokens, what does not go
together, and jobs for a runner of Beam."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import thresher
from click.testing import CliRunner, Result
from thresher.jobs import cluster_jobs
from thresher.jobs.cli import cli
from thresher.jobs.cluster_jobs import Address, ClusterError, exit_status, find_token
from thresher.jobs.submit_wheel import copy_source

ROOT = Path(thresher.__file__).parent


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="thresher")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    rows = [json.dumps({"id": f"d{number}", "text": f"words of number {number % 7}"}) for number in range(10)]
    (tmp_path / "docs.jsonl").write_text("\n".join(rows))
    (tmp_path / "job.yaml").write_text(
        "name: small\ninput: docs.jsonl\nsteps:\n  - dedup: exact\noutput: {path: out}\nrun: {workers: 1}\n"
    )
    return tmp_path / "job.yaml"


@pytest.mark.parametrize(
    ("given", "url", "noted"),
    [
        ("http://head:8265", "http://head:8265", False),
        ("https://jobs.example.org/ray/", "https://jobs.example.org/ray", False),
        ("ray://head:10001", "http://head:8265", True),
        ("ray://head", "http://head:8265", True),
        ("ray://head:8265", "http://head:8265", False),
        ("ray://[fd00::1]:10001", "http://[fd00::1]:8265", True),
    ],
)
def test_an_address_names_the_dashboard_and_says_so_where_it_is_another_port(
    given: str, url: str, noted: bool
) -> None:
    address = Address.of(given)
    assert address.url == url
    assert (f"so to {url} " in address.note) is noted


@pytest.mark.parametrize("given", ["head:8265", "auto", "ftp://head", "http://", "http://head:many"])
def test_what_is_no_address_is_refused_before_anything_is_sent(given: str, job: Path) -> None:
    done = command("submit", str(job), "--to", given)
    assert done.exit_code == 2
    assert f"--to {given}: " in done.stderr


def test_a_token_is_taken_from_where_ray_looks_for_it_and_a_named_file_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert find_token() == ""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of-the-user\n")
    assert find_token() == "of-the-user"
    (tmp_path / "path").write_text("of-a-path")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "path"))
    assert find_token() == "of-a-path"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-a-variable")
    assert find_token() == "of-a-variable"
    assert find_token(tmp_path / "path") == "of-a-path"
    with pytest.raises(ClusterError, match=r"no token in .*/gone: No such file"):
        find_token(tmp_path / "gone")


def test_a_header_that_is_none_is_refused_without_being_shown(job: Path) -> None:
    pytest.importorskip("ray")
    done = command("submit", str(job), "--to", "http://127.0.0.1:1", "--header", "topsecret")
    assert done.exit_code == 2
    assert "--header takes NAME=VALUE" in done.stderr
    assert "topsecret" not in done.stderr


def test_without_ray_the_package_to_install_is_named(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    done = command("submit", str(job), "--to", "http://127.0.0.1:1")
    assert done.exit_code == 2
    assert "pip install 'thresher[ray]'" in done.stderr


def test_an_address_where_nothing_answers_is_told_with_what_it_looks_like(job: Path) -> None:
    pytest.importorskip("ray")
    done = command("submit", str(job), "--to", "http://127.0.0.1:1")
    assert done.exit_code == 2
    assert "nothing answers at http://127.0.0.1:1 (Connection refused)" in done.stderr


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", 3, 3), ("FAILED", 4, 4), ("FAILED", None, 1),
     ("FAILED", -9, 137), ("STOPPED", None, 130), ("STOPPED", -2, 130)],
)  # fmt: skip
def test_the_exit_status_of_a_job_becomes_that_of_the_command(
    state: str, code: int | None, expected: int
) -> None:
    assert exit_status({"state": state, "exit": code}) == expected


def test_why_a_job_never_started_is_told_and_that_it_failed_by_itself_is_left_to_its_log() -> None:
    status: dict[str, Any] = {"job": "x", "name": "", "state": "FAILED", "started": None, "ended": None}
    never = cluster_jobs.told({**status, "exit": None, "message": "no room\nand more"})
    assert never.endswith("FAILED\n  no room")
    itself = cluster_jobs.told({**status, "exit": 2, "message": "Job entrypoint command failed"})
    assert itself == "x  -  FAILED, exit status 2"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--to", "beam"), "--to beam takes a runner"),
        (("--to", "beam", "--runner", "FlinkRunner", "--wait"), "--wait does not go with --to beam"),
        (("--to", "http://h:1", "--runner", "FlinkRunner"), "--runner does not go with --to http://h:1"),
        (("--to", "http://h:1", "--", "--x=1"), "what comes after -- does not go with --to http://h:1"),
    ],
)
def test_options_of_the_one_are_refused_for_the_other(
    job: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = command("submit", str(job), *arguments)
    assert done.exit_code == 2
    assert told in done.stderr


def test_the_options_of_a_runner_reach_the_job_as_they_are_typed(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    fake = ModuleType("thresher.pipeline.runner")

    def run_job(job: Any, **options: Any) -> None:
        called.append((job, options))
        raise KeyboardInterrupt

    fake.run_job = run_job  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "thresher.pipeline.runner", fake)
    options = ["--job_endpoint=h:8099", "--environment_config={\"a\": [1, 'x: y']}", "-x", "--", "#"]
    done = command(
        "submit", str(job), "--to", "beam", "--runner", "SparkRunner", "--limit", "5", "--set",
        "run.seed=7", "--", *options,
    )  # fmt: skip
    assert done.exit_code == 130, done.output
    ((resolved, given),) = called
    assert resolved.run.engine == "beam"
    assert resolved.run.beam.runner == "SparkRunner"
    assert resolved.run.beam.options == options
    assert (resolved.run.seed, given["limit"]) == (7, 5)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Any]:
    pytest.importorskip("apache_beam", reason="needs apache-beam")
    path = ROOT / "tests" / "engines" / "beam_services.py"
    spec = importlib.util.spec_from_file_location("beam_services", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["beam_services"] = module
    spec.loader.exec_module(module)
    with module.beam_services(tmp_path / "services") as started:
        yield started


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_job_runs_on_a_portable_runner_and_leaves_what_it_leaves_here(
    services: Any, job: Path, tmp_path: Path
) -> None:
    here = thresher.run(thresher.load(job, [f"output.path={tmp_path / 'here'}"]))
    done = subprocess.run(
        [sys.executable, "-m", "thresher", "submit", str(job), "--to", "beam", "--runner", "PortableRunner",
         "--", *services.options],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    shards = [
        [shard["sha256"] for shard in json.loads((output / "manifest.json").read_text())["shards"]]
        for output in (Path(here.output), tmp_path / "out")
    ]
    assert shards[0] == shards[1] != []


@pytest.mark.timeout(280)
def test_beam_stages_the_package_from_the_setup_file_of_the_repository(tmp_path: Path) -> None:
    pytest.importorskip("apache_beam", reason="needs apache-beam")
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.stager import Stager

    copy_source(ROOT, tmp_path / "source")
    (tmp_path / "staged").mkdir()
    options = PipelineOptions(
        [f"--setup_file={tmp_path / 'source' / 'setup.py'}", "--sdk_location=container"]
    )
    Stager.create_job_resources(options, str(tmp_path / "staged"))
    (packed,) = (tmp_path / "staged").glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    rooms = ("schemas", "filters", "scorers", "pipeline", "jobs")
    wanted = {str(path.relative_to(ROOT)) for room in rooms for path in (ROOT / room).rglob("*.py")}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "jobs" / "recipes").glob("*.yaml")}
    assert sorted(wanted - held) == []
    assert [name for name in held if re.match(r"tests|\.venv|benchmarks|docs", name)] == []
