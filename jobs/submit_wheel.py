"""Makes a wheel of the thresher that runs here, without the network, wherever it was installed from."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Final

PACKAGE: Final = __package__.partition(".")[0]
_BESIDE: Final = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "py.typed")
# What an installer adds to the folder of a wheel's metadata.
_OF_INSTALLATION: Final = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")
_OLDEST_DATE: Final = (1980, 1, 1, 0, 0, 0)


class WheelError(Exception):
    """No wheel can be made of this installation; the message says what to do."""


def build_wheel(folder: Path) -> Path:
    """Writes the wheel into `folder` and returns its path.

    From a source tree (an editable installation) it is built as a release would be, from a copy that holds
    the package alone; from an installed wheel the files are packed again as its RECORD lists them.
    Raises WheelError.
    """
    source = Path(__file__).parents[1]
    if (source / "pyproject.toml").is_file():
        return _built(source, folder)
    return repack(metadata.distribution(PACKAGE), folder)


def copy_source(source: Path, target: Path) -> None:
    """Copies what the package is built from, and nothing else that lies in its folder.

    Builds write into the tree that they read, so they get one of their own.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_dir() and (path / "__init__.py").is_file():
            shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        elif path.is_file() and (path.suffix == ".py" or path.name in _BESIDE):
            shutil.copyfile(path, target / path.name)


def _built(source: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="thresher-wheel-") as scratch:
        copy_source(source, Path(scratch, "source"))
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        done = subprocess.run(
            [*command, "--no-index", "--wheel-dir", str(folder.resolve()), "."],
            cwd=Path(scratch, "source"),
            env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    wheels = sorted(folder.glob(f"{PACKAGE}-*.whl"))
    if done.returncode or len(wheels) != 1:
        why = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["pip wrote no wheel"]
        raise WheelError(
            f"no wheel could be built from {source}: {why[0]}; it takes pip and setuptools in this "
            f"environment: {sys.executable} -m pip install setuptools"
        )
    return wheels[0]


def repack(installed: metadata.Distribution, folder: Path) -> Path:
    """A wheel of an installed distribution. Raises WheelError where files of it are gone."""
    files = {PurePosixPath(path.as_posix()): Path(str(path.locate())) for path in installed.files or ()}
    inner = next((path.parent for path in files if path.name == "WHEEL" and len(path.parts) == 2), None)
    tag = _tag(installed.read_text("WHEEL") or "")
    if inner is None or not tag:
        raise WheelError(
            f"this {PACKAGE} was not installed from a wheel; install it again: pip install {PACKAGE}"
        )
    kept = {
        path: place
        for path, place in files.items()
        if path.parts[0] in (PACKAGE, inner.name)
        and path.suffix != ".pyc"
        and not (path.parent == inner and path.name in _OF_INSTALLATION)
    }
    gone = [str(path) for path, place in kept.items() if not place.is_file()]
    if gone:
        raise WheelError(f"{gone[0]} of this {PACKAGE} is missing; install it again")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{inner.name.removesuffix('.dist-info')}-{tag}.whl"
    record = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, place in sorted(kept.items()):
            content = place.read_bytes()
            _write(archive, str(path), content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(content)}\n")
        record.append(f"{inner}/RECORD,,\n")
        _write(archive, f"{inner}/RECORD", "".join(record).encode())
    return target


def _tag(wheel: str) -> str:
    lines = (line.partition(":") for line in wheel.splitlines())
    return next((value.strip() for key, _, value in lines if key == "Tag"), "")


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _OLDEST_DATE)
    info.external_attr = 0o644 << 16
    archive.writestr(info, content, zipfile.ZIP_DEFLATED)
