"""The doctor says what is there and what is missing."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from thresher.jobs import doctor
from thresher.jobs.cli import cli


def test_a_sound_installation_is_ready(tmp_path: Path) -> None:
    answer = doctor.examine(tmp_path / "not" / "there")
    assert answer["problems"] == []
    assert answer["engines"]["local"] == {"usable": True, "version": None, "lacks": None}
    assert answer["packages"]["pyarrow"]
    assert Path(answer["models"]["language"]).is_file()
    assert answer["machine"]["cores"] >= 1
    assert answer["machine"]["free"] > 0
    assert doctor.told(answer).endswith("ready")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = doctor.metadata.version

    def without_arrow(name: str) -> str:
        if name == "pyarrow":
            raise doctor.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor.metadata, "version", without_arrow)
    answer = doctor.examine(tmp_path)
    assert answer["problems"] == ["pyarrow is not installed"]
    assert "PROBLEM: pyarrow is not installed" in doctor.told(answer)


@pytest.mark.parametrize(
    ("engine", "package", "distribution"), [("beam", "apache_beam", "apache-beam"), ("ray", "ray", "ray")]
)
def test_an_engine_that_is_there_has_its_version_and_one_that_is_not_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, package: str, distribution: str
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    version = doctor.metadata.version(distribution)
    assert doctor.engines()[engine]["version"] == version
    assert f", {engine} {version}" in doctor.told(doctor.examine(tmp_path))
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    assert doctor.engines()[engine]["usable"] is False
    told = doctor.told(doctor.examine(tmp_path)).splitlines()
    assert f"engine {engine}: not installed: pip install 'thresher[{engine}]'" in told
    assert not any(line.startswith("engines:") and engine in line for line in told)


def test_a_ray_without_what_submit_needs_runs_jobs_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    version = doctor.metadata.version

    def without_dashboard(name: str) -> str:
        if name in ("aiohttp_cors", "opencensus"):
            raise doctor.metadata.PackageNotFoundError(name)
        return version(name)

    assert doctor.engines()["ray"]["lacks"] is None
    monkeypatch.setattr(doctor.metadata, "version", without_dashboard)
    answer = doctor.examine(tmp_path)
    assert answer["engines"]["ray"]["usable"] is True
    told = "engine ray: runs jobs, but submit needs aiohttp_cors, opencensus too: pip install 'thresher[ray]'"
    assert told in doctor.told(answer).splitlines()


def test_the_doctor_answers_in_json_too(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["doctor", "--json", "--work", str(tmp_path)])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["thresher"]
