"""Makes a virtual environment with the tools that ours is compared with; does nothing where it is there.

    python benchmarks/peers/setup.py DIR      # DIR/bin/python runs the peer scripts

The versions are those of requirements.txt. They do not go into thresher's own environment: their needs
contradict each other's, and none of them is a part of the product.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
VERSIONS = "import sys; from importlib.metadata import version; [print(version(n)) for n in sys.argv[1:]]"


def pinned(requirements: Path) -> dict[str, str]:
    """Name and version of each line `name[extra]==version`."""
    lines = [line.strip() for line in requirements.read_text().splitlines()]
    pairs = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return {name.partition("[")[0]: version for name, _, version in pairs}


def missing(folder: Path, requirements: Path) -> bool:
    """Whether the environment lacks a package, or has another version."""
    python, wanted = folder / "bin" / "python", pinned(requirements)
    if not python.exists():
        return True
    found = subprocess.run([python, "-c", VERSIONS, *wanted], capture_output=True, text=True, check=False)
    return found.stdout.split() != list(wanted.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--requirements", type=Path, default=REQUIREMENTS)
    options = parser.parse_args()
    if not missing(options.folder, options.requirements):
        print(f"{options.folder} has all peers")
        return
    print(f"installing {', '.join(pinned(options.requirements))} into {options.folder}", flush=True)
    venv.create(options.folder, with_pip=True)
    python = str(options.folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--requirement", str(options.requirements)]
    if subprocess.run(install, check=False).returncode:
        raise SystemExit(
            "the peers could not be installed: pip needs a package index. benchmarks/all.py runs without "
            "peers where --peer-python is left out"
        )
    if missing(options.folder, options.requirements):
        sys.exit(f"{options.folder} lacks peers after installing; remove it and try again")


if __name__ == "__main__":
    main()
