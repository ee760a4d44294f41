"""What one record, one line and one compressed file may cost while they are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadLimits:
    """Bounds of an input. What breaks one is a record or a container with an error, never a crash.

    The defaults are choices of ours, not anybody's rule. They decide what is read, so they belong to what a
    part is recognised by.
    """

    max_line_bytes: int = 256 << 20  # of a line of JSON Lines, or of text read line by line
    max_row_bytes: int = 64 << 20  # of a row of CSV or TSV; it takes seven times that in memory
    max_record_bytes: int = 256 << 20  # of a text file
    max_payload_bytes: int = 32 << 20  # of a page, before and after its codings are undone
    max_ratio: float = 500.0  # decoded bytes per coded byte, of a page or of a whole file
    ratio_free_bytes: int = 1 << 20  # decoded bytes of a page for which no ratio is asked
    stream_free_bytes: int = 64 << 20  # the same for a file; long runs of similar records compress well

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"{name} must be above zero, not {value}")
