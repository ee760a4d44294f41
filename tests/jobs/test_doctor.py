"""The doctor says what is there and what is missing."""

from __future__ import annotations

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
    assert answer["engines"]["local"] is True
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


def test_an_engine_is_usable_only_where_its_code_and_its_package_are(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.engines()
    assert set(found) == {"local", "beam", "ray"}
    for name, package in (("beam", "apache_beam"), ("ray", "ray")):
        monkeypatch.setitem(sys.modules, package, None)
        assert not found[name] or doctor.importlib.util.find_spec(package) is not None


def test_the_doctor_answers_in_json_too(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["doctor", "--json", "--work", str(tmp_path)])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["thresher"]
