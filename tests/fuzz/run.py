"""Fuzzes one target: `python tests/fuzz/run.py expression -max_total_time=60`.

The rest of the command line is libFuzzer's. It ends with a traceback at the first bug, whose input it writes
to a file `crash-...` in the current folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["thresher"]):
    import targets


def main() -> None:
    name, *options = sys.argv[1:]
    seeds = Path(tempfile.mkdtemp(prefix="thresher-seeds-"))
    for number, seed in enumerate(targets.SEEDS[name]):
        (seeds / str(number)).write_bytes(seed)
    atheris.Setup(
        [sys.argv[0], "-max_len=4096", "-rss_limit_mb=4096", "-timeout=20", *options, str(seeds)],
        targets.TARGETS[name],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
