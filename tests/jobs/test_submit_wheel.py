"""The wheel that travels with a job: made from a source tree and from an installed wheel, it is the same."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import thresher
from thresher.jobs.submit_wheel import WheelError, build_wheel, repack

ROOT = Path(thresher.__file__).parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, built: Path) -> Path:
    """A folder into which pip has installed the wheel."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            folder,
            built,
        ],
        check=True,
    )
    return folder


def names(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}


def test_the_wheel_of_a_source_tree_holds_the_package_with_its_data_and_nothing_else(built: Path) -> None:
    rooms = ("schemas", "filters", "scorers", "pipeline", "jobs")
    modules = {f"thresher/{path.relative_to(ROOT)}" for room in rooms for path in (ROOT / room).rglob("*.py")}
    recipes = {f"thresher/{path.relative_to(ROOT)}" for path in (ROOT / "jobs" / "recipes").glob("*.yaml")}
    held = {name for name in names(built) if ".dist-info/" not in name}
    assert len(recipes) > 3
    assert held == modules | recipes | {"thresher/__init__.py", "thresher/__main__.py", "thresher/py.typed"}


def test_building_leaves_the_source_tree_as_it_was(tmp_path: Path) -> None:
    before = {path.name for path in ROOT.iterdir()}
    build_wheel(tmp_path)
    assert {path.name for path in ROOT.iterdir()} - before <= {"build"} - before


def test_an_installed_wheel_packs_into_a_wheel_of_the_same_files(
    built: Path, site: Path, tmp_path: Path
) -> None:
    (installed,) = metadata.distributions(path=[str(site)])
    again = repack(installed, tmp_path)
    assert again.name == built.name
    first, second = zipfile.ZipFile(built), zipfile.ZipFile(again)
    assert names(again) == names(built)
    assert [
        name for name in names(built) if "RECORD" not in name and first.read(name) != second.read(name)
    ] == []


def test_pip_installs_the_packed_wheel_and_its_command_answers(site: Path, tmp_path: Path) -> None:
    (installed,) = metadata.distributions(path=[str(site)])
    again = repack(installed, tmp_path / "wheel")
    record = next(name for name in names(again) if name.endswith("RECORD"))
    listed = csv.reader(io.StringIO(zipfile.ZipFile(again).read(record).decode()))
    assert {row[0] for row in listed} == names(again)
    target = tmp_path / "target"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            target,
            again,
        ],
        check=True,
    )
    done = subprocess.run(
        [sys.executable, "-c", "import thresher.jobs.cli as c; print(c.__file__); c.main()", "--version"],
        env={"PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        str(target / "thresher" / "jobs" / "cli.py"), f"thresher {thresher.__version__}"
    ]  # fmt: skip


def test_an_installation_with_files_gone_is_refused_with_the_first_of_them(
    site: Path, tmp_path: Path
) -> None:
    (installed,) = metadata.distributions(path=[str(site)])
    lost = site / "thresher" / "py.typed"
    lost.rename(tmp_path / "py.typed")
    try:
        with pytest.raises(
            WheelError, match=r"thresher/py\.typed of this thresher is missing; install it again"
        ):
            repack(installed, tmp_path)
    finally:
        (tmp_path / "py.typed").rename(lost)


def test_what_was_not_installed_from_a_wheel_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "thresher-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: thresher\nVersion: 0.1.0\n")
    (installed,) = metadata.distributions(path=[str(tmp_path)])
    with pytest.raises(WheelError, match="was not installed from a wheel"):
        repack(installed, tmp_path)
