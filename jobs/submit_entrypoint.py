"""What a submitted job starts on the cluster: the command line, once the cluster has what it imports.

Nothing but the standard library is imported before that is known.
"""

from __future__ import annotations

import re
import signal
import sys
from importlib import metadata

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*\(?\s*(?:>=\s*([0-9.]+))?")


def lacking(package: str) -> list[str]:
    """What `package` requires and this Python does not have, or not in the version that it takes."""
    wanted = []
    oldest = re.match(r">=\s*([0-9.]+)", metadata.metadata(package)["Requires-Python"] or "")
    if oldest and sys.version_info[:2] < _numbers(oldest[1]):
        here = ".".join(map(str, sys.version_info[:2]))
        wanted.append(f"Python {oldest[1]} or newer (this is {here})")
    for line in metadata.requires(package) or []:
        requirement, _, marker = line.partition(";")
        match = _REQUIREMENT.match(requirement.strip())
        if "extra" in marker or match is None:
            continue
        try:
            version = metadata.version(match[1])
        except metadata.PackageNotFoundError:
            wanted.append(requirement.strip())
            continue
        if match[2] and _numbers(version) < _numbers(match[2]):
            wanted.append(f"{requirement.strip()} (it has {version})")
    return wanted


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(map(int, release[0].split("."))) if release else ()


def main() -> None:
    """Runs the command line; exit status 2, with what to install, where the cluster cannot."""
    package = (__package__ or "").partition(".")[0]
    wanted = lacking(package)
    if wanted:
        listed = "".join(f"  {one}\n" for one in wanted)
        sys.exit(_told(package, listed))
    # A cluster that a script started in its background ignores SIGINT, by which jobs are stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from .cli import main as command_line

    command_line()


def _told(package: str, listed: str) -> int:
    print(
        f"the cluster lacks what {package} needs ({sys.executable}):\n{listed}"
        f"install it on every machine, as the image of docs/cluster/Dockerfile does, or name a Python that "
        f"has it with --python",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    main()
