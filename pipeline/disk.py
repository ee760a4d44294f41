"""Free disk: asked for before a run and while it goes on, so that a full disk stops it and spoils nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .sources.files import COMPRESSED_SUFFIXES
from .stage import PartRef

# Work and output together at their largest, in bytes for each byte of input, if a job keeps every record.
# With exact and MinHash dedup, documentation took 0.8 as plain JSON Lines, 3.4 as gzip, 1.9 as Parquet, and
# 1.6 as a WARC whose pages are extracted; `shuffle: global`, which holds the records once more, up to twice
# that.
PLAIN: Final = 1.0
COMPRESSED: Final = 3.5
SHUFFLED: Final = 2.0

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_TOLD: Final = tuple(os.strerror(number) for number in sorted(_FULL))


class DiskFull(Exception):
    """No room to go on; the message says where, and what is left can be resumed."""

    def __init__(self, told: str) -> None:
        super().__init__(f"{told}; what is committed stays: make room and run again to go on")


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or somebody's share of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def says_full(reasons: Mapping[int, str]) -> bool:
    """Whether one of the reasons for which tasks were given up is a full disk.

    Workers hand over what their errors say, not the errors.
    """
    return any(told in reason for reason in reasons.values() for told in _TOLD)


@dataclass(frozen=True)
class FreeSpace:
    """The disks that a run writes to, and how many bytes must stay free on each.

    `passing`: the one through which files go on their way to a store.
    """

    places: Sequence[Path]
    least: int
    passing: Path | None = None

    def check(self) -> None:
        """Raises DiskFull where less is free."""
        for place in (*self.places, *([self.passing] if self.passing else ())):
            free = shutil.disk_usage(place).free
            if free < self.least:
                least = f"run.min_free ({_size(self.least)})"
                more = "; TMPDIR names another" if place == self.passing else ""
                raise DiskFull(f"{place}: {_size(free)} of its disk are free, less than {least}{more}")

    def doubt(self, parts: Sequence[PartRef], shuffled: bool = False) -> str | None:
        """One sentence where a run over these parts may need more than is free; None where it will fit.

        It is an estimate for a job that keeps every record, so it warns and refuses nothing. What only
        passes is little, unless all records are exchanged at once.
        """
        kept = sum(map(_expected, parts))
        wanted = [(place, kept * (SHUFFLED if shuffled else 1.0)) for place in self.places]
        if self.passing is not None and shuffled:
            wanted.append((self.passing, kept))
        for place, bytes_ in wanted:
            free = shutil.disk_usage(place).free
            if bytes_ > free - self.least:
                return (
                    f"{place}: {_size(free)} are free, and a job that keeps all of this input takes about "
                    f"{_size(bytes_)}; the run stops, to be resumed, when less than run.min_free is left"
                )
        return None


def _expected(part: PartRef) -> float:
    assert part.reader is not None
    split = json.loads(part.reader.arguments)["slices"][0]["split"]
    packed = split["format"] == "parquet" or split["path"].lower().endswith(COMPRESSED_SUFFIXES)
    return part.bytes * (COMPRESSED if packed else PLAIN)


def _size(bytes_: float) -> str:
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if bytes_ >= factor:
            return f"{bytes_ / factor:.1f} {unit}"
    return f"{bytes_:.0f} B"
