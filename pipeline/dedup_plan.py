"""What a dedup step has decided before it runs: its columns, its choices, the saved keys it compares with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SavedKeys:
    """One file of keys that an earlier run has left."""

    path: str
    records: int
    bytes: int
    checksum: str


@dataclass(frozen=True)
class DedupPlan:
    """Names of the columns and choices of one dedup step."""

    keys: str
    low: str | None
    length: str  # what the longest or the largest has most of: characters of its text, pixels of its image
    hash: str  # of the text or of the image
    kind: str
    best: str | None
    keys_per_record: int
    memory: int
    older: str = ""  # the column of the ids that earlier runs have kept; "" where there are none
    against: tuple[SavedKeys, ...] = ()
    radius: int | None = None  # of Hamming distances, where keys are perceptual hashes; None: keys are equal
    verify: float | None = None
    on: str = "text"
    arguments: dict[str, Any] = field(default_factory=dict)  # of the MinHash scheme
    scheme: dict[str, Any] | None = None  # what saved keys say of themselves; None: they are not saved

    @property
    def key_columns(self) -> tuple[str, ...]:
        return (self.keys, self.low) if self.low else (self.keys,)
