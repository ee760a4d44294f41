"""lmplz and build_binary, which make KenLM models: where they are, and how they are built.

They come with no wheel. The source package of `kenlm` on PyPI holds their source, which CMake builds with
Boost:

    python -m thresher.scorers.kenlm_tools

On Debian and Ubuntu that needs the packages cmake, g++, libboost-program-options-dev, libboost-system-dev,
libboost-thread-dev, libboost-test-dev, zlib1g-dev, libbz2-dev and liblzma-dev.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..filters.kernels import cache_directory
from ..schemas.contracts import AssetError

TOOLS_VARIABLE: Final = "THRESHER_KENLM"
VERSION: Final = "0.3.0"
# Of kenlm-0.3.0.tar.gz on PyPI.
SHA256: Final = "c4628bb9fb63c8a6f9240035b8b037385cfc404cb72e933cf48878291edac1e8"
HOW: Final = (
    "build them with `python -m thresher.scorers.kenlm_tools` (needs CMake, a C++ compiler and Boost), or "
    f"name the folder that holds them in the environment variable {TOOLS_VARIABLE}"
)
_NAMES: Final = ("lmplz", "build_binary")


@dataclass(frozen=True)
class KenLMTools:
    """The two programs."""

    lmplz: Path
    build_binary: Path


class BuildError(Exception):
    """The programs cannot be built here; the message holds the end of what the build said."""


def built_tools() -> Path:
    """The folder in the user's cache that `build` puts the programs in."""
    return cache_directory().parent / f"kenlm-{VERSION}"


def find() -> KenLMTools:
    """The programs in the folder named by THRESHER_KENLM, else those that `build` made, else those on PATH.

    Raises AssetError, which says how to get them.
    """
    chosen = os.environ.get(TOOLS_VARIABLE)
    if chosen:
        folder = Path(chosen).expanduser()
        found = _in(folder) or _in(folder / "bin")
        if found is None:
            raise AssetError(f"{TOOLS_VARIABLE} is {chosen}, which does not hold {' and '.join(_NAMES)}")
        return found
    found = _in(built_tools())
    if found is None:
        on_path = [shutil.which(name) for name in _NAMES]
        found = KenLMTools(*(Path(str(path)) for path in on_path)) if all(on_path) else None
    if found is None:
        raise AssetError(f"training a KenLM model needs {' and '.join(_NAMES)}; {HOW}")
    return found


def build(source: Path | None = None, jobs: int | None = None) -> KenLMTools:
    """Builds the programs into the user's cache, unless they are there, and returns them.

    `source`: the source package; fetched from PyPI by pip, and checked, where left out. `jobs`: compilers at
    a time; all cores where left out. Raises BuildError.
    """
    folder = built_tools()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _in(folder) is None:  # else another process has built them meanwhile
            _build(source, jobs, folder)
    return find_built()


def _build(source: Path | None, jobs: int | None, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        work = Path(place)
        archive = source or _fetch(work)
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(work / "source", filter="data")
        except (OSError, tarfile.TarError) as error:
            raise BuildError(f"{archive}: cannot be unpacked ({error})") from error
        roots = [path.parent for path in sorted((work / "source").glob("*/CMakeLists.txt"))]
        if not roots:
            raise BuildError(f"{archive}: holds no CMakeLists.txt; give the source package of kenlm")
        _run(["cmake", "-S", str(roots[0]), "-B", str(work / "build"), "-DCMAKE_BUILD_TYPE=Release"])
        parallel = str(jobs or os.cpu_count() or 1)
        _run(["cmake", "--build", str(work / "build"), "--parallel", parallel, "--target", *_NAMES])
        made = work / "bin"
        made.mkdir()
        for name in _NAMES:
            shutil.move(work / "build" / "bin" / name, made / name)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)


def find_built() -> KenLMTools:
    """The programs that `build` made. Raises AssetError if it has made none."""
    found = _in(built_tools())
    if found is None:
        raise AssetError(f"{built_tools()} does not hold {' and '.join(_NAMES)}; {HOW}")
    return found


def _in(folder: Path) -> KenLMTools | None:
    paths = [folder / name for name in _NAMES]
    return KenLMTools(*paths) if all(os.access(path, os.X_OK) and path.is_file() for path in paths) else None


def _fetch(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "kenlm"]
    _run([*pip, "--dest", str(folder), f"kenlm=={VERSION}"])
    archive = folder / f"kenlm-{VERSION}.tar.gz"
    if not archive.is_file():
        raise BuildError(f"pip fetched no {archive.name}")
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise BuildError(f"{archive.name} has SHA-256 {digest}; {SHA256} was expected")
    return archive


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be started ({error.strerror}); is it installed?") from error
    if done.returncode:
        told = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise BuildError(f"{' '.join(command)} ended with status {done.returncode}:\n{told}")


def main() -> int:
    """The command `python -m thresher.scorers.kenlm_tools`."""
    parser = argparse.ArgumentParser(description="Build lmplz and build_binary into the user's cache.")
    parser.add_argument("--source", type=Path, help=f"kenlm-{VERSION}.tar.gz; fetched from PyPI if left out")
    parser.add_argument("--jobs", type=int, help="compilers at a time; all cores if left out")
    given = parser.parse_args()
    try:
        print(build(given.source, given.jobs).lmplz.parent)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
