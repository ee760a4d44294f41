"""The accounts of what records come out of: files, their WARC or ARC records or tar members, and pages."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pyarrow as pa

from ...schemas.records import CONTAINERS

READ: Final = "read"
FILE: Final = "file"
FILE_RANGE: Final = "file_range"  # a later split of a file; entered only where it has a fault
WARC_RECORD: Final = "warc_record"
ARC_RECORD: Final = "arc_record"
TAR_MEMBER: Final = "tar_member"
PAGE: Final = "page"  # that images are on


class ContainerCounts:
    """Counts each container that was met and what became of it; keeps a row for each that has an error.

    `met` is counted where a container is found and the outcome where it is left, so that `balanced` tests
    something: for each kind, met = read + skipped + errors.
    """

    def __init__(self) -> None:
        self._met: Counter[str] = Counter()
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._errors: list[dict[str, str | None]] = []

    def meet(self, kind: str, count: int = 1) -> None:
        """A container of this kind was found, or `count` of them."""
        self._met[kind] += count

    def read(self, kind: str, count: int = 1) -> None:
        """It was read to its end."""
        self._outcomes[kind, READ] += count

    def skip(self, kind: str, reason: str) -> None:
        """It is sound and holds no record that the job reads."""
        self._outcomes[kind, f"skipped:{reason}"] += 1

    def fail(self, kind: str, reason: str, source: str, detail: str | None = None) -> None:
        """It could not be read, or not to its end; what came before the fault is kept."""
        self._outcomes[kind, f"error:{reason}"] += 1
        self._errors.append({"kind": kind, "source": source, "reason": reason, "detail": detail})

    @property
    def met(self) -> dict[str, int]:
        """How many containers of each kind were found."""
        return dict(sorted(self._met.items()))

    @property
    def outcomes(self) -> dict[tuple[str, str], int]:
        """(kind, `read` | `skipped:<reason>` | `error:<reason>`) -> containers, sorted."""
        return dict(sorted(self._outcomes.items()))

    @property
    def balanced(self) -> bool:
        """Whether every container that was met has exactly one outcome."""
        left = Counter[str]()
        for (kind, _), count in self._outcomes.items():
            left[kind] += count
        return left == self._met

    def errors(self) -> pa.RecordBatch:
        """The rows of the containers with errors, in CONTAINERS' columns, in the order in which they were
        met."""
        rows = [{key: _valid(value) for key, value in row.items()} for row in self._errors]
        return pa.RecordBatch.from_pylist(rows, schema=CONTAINERS)

    def accounts(self) -> dict[str, dict[str, Any]]:
        """For each kind, sorted: `in`, `read`, and by reason what was `skipped` and the `errors`."""
        told: dict[str, dict[str, Any]] = {
            kind: {"in": n, READ: 0, "skipped": {}, "errors": {}} for kind, n in self.met.items()
        }
        for (kind, outcome), n in self.outcomes.items():
            verdict, _, reason = outcome.partition(":")
            if verdict == READ:
                told[kind][READ] = n
            else:
                told[kind]["errors" if verdict == "error" else verdict][reason] = n
        return told


def _valid(text: str | None) -> str | None:
    return text if text is None else text.encode("utf-8", "replace").decode()
