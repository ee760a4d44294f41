"""What a submitted job looks at before it starts: whether this Python has what thresher imports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from thresher.jobs.submit_entrypoint import lacking


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path of imports; `write` puts the metadata of distributions there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write(folder: Path, name: str, version: str, *more: str) -> None:
    home = folder / f"{name}-{version}.dist-info"
    home.mkdir()
    (home / "METADATA").write_text("\n".join([f"Name: {name}", f"Version: {version}", *more, ""]))


def requiring(*requirements: str) -> list[str]:
    return [f"Requires-Dist: {requirement}" for requirement in requirements]


def test_everything_that_is_missing_or_too_old_is_listed_as_it_is_required(installed: Path) -> None:
    write(installed, "winnow", "1.0", *requiring("sieve>=1.9", "chaff-mill>=0.2", "flail", "fork[steel]>=2"))
    write(installed, "sieve", "1.10.0rc1")
    write(installed, "chaff_mill", "0.1.9")
    assert lacking("winnow") == ["chaff-mill>=0.2 (it has 0.1.9)", "flail", "fork[steel]>=2"]


def test_what_an_extra_requires_is_not_asked_for(installed: Path) -> None:
    write(installed, "winnow", "1.0", *requiring('never-installed>=1 ; extra == "gpu"'))
    assert lacking("winnow") == []


@pytest.mark.parametrize(("wanted", "told"), [(">=3.11", False), (">=4.2", True), (">=3", False)])
def test_an_older_python_is_told(installed: Path, wanted: str, told: bool) -> None:
    write(installed, "winnow", "1.0", f"Requires-Python: {wanted}")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert lacking("winnow") == ([f"Python 4.2 or newer (this is {here})"] if told else [])


def test_this_python_has_what_thresher_requires() -> None:
    assert lacking("thresher") == []
