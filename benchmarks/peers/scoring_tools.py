"""Builds the command lines that `benchmarks/scoring.py` compares with: fastText's, and KenLM's `query`.

    python benchmarks/peers/scoring_tools.py .bench/scoring-tools

Their source comes from the source packages on PyPI. fastText is compiled with the flags of its own Makefile
(`opt`: -O3 -funroll-loops -DNDEBUG -march=native), KenLM by its own CMake. It takes a C++ compiler, CMake and
Boost.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from thresher.scorers import kenlm_tools

FASTTEXT = "0.9.3"
FLAGS = ("-pthread", "-std=c++17", "-march=native", "-O3", "-funroll-loops", "-DNDEBUG")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the programs go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name, make in (("fasttext", make_fasttext), ("query", make_query)):
            if not (folder / name).exists():
                shutil.move(make(Path(place)), folder / name)
            print(folder / name)


def make_fasttext(work: Path) -> Path:
    """fastText's command line."""
    root = unpacked("fasttext", FASTTEXT, work)
    sources = sorted(str(path) for path in (root / "src").glob("*.cc"))
    run(["c++", *FLAGS, *sources, "-o", str(work / "fasttext-command")])
    return work / "fasttext-command"


def make_query(work: Path) -> Path:
    """KenLM's `query`."""
    root = unpacked("kenlm", kenlm_tools.VERSION, work)
    build = work / "kenlm-build"
    run(["cmake", "-S", str(root), "-B", str(build), "-DCMAKE_BUILD_TYPE=Release"])
    run(["cmake", "--build", str(build), "--target", "query"])
    return build / "bin" / "query"


def unpacked(package: str, version: str, work: Path) -> Path:
    """The folder of a package's source."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*pip, "--no-binary", package, "--dest", str(work), f"{package}=={version}"])
    with tarfile.open(work / f"{package}-{version}.tar.gz") as archive:
        archive.extractall(work, filter="data")
    return work / f"{package}-{version}"


def run(command: list[str]) -> None:
    """Runs a command, and says what it said where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
