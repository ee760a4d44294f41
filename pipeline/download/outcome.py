"""What became of an address."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from .bodies import Body

OPTED_OUT: Final = "opted_out"

# One row for every address that was asked for, or refused.
SCHEMA: Final = pa.schema(
    [
        pa.field("position", pa.uint64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("url", pa.string()),  # as the record has it
        pa.field("final_url", pa.string()),  # where the last redirect led; null where nothing was tried
        pa.field("status", pa.int32()),  # of the last answer
        pa.field("bytes", pa.int64()),  # of the image; null where there is none
        pa.field("content_type", pa.string()),  # as the last answer gives it, true or not
        pa.field("reason", pa.string()),  # of the ledger; null of an image
        pa.field("attempts", pa.int32()),  # 0 where nothing was tried; redirects are not counted
        pa.field("seconds", pa.float32()),  # from the first request to the end
        pa.field("time", pa.string()),  # of the end, ISO 8601 in UTC
    ]
)


class Failed(Exception):
    """Why a request gave no image. `again`: another attempt may; `wait`: seconds that the server asks for."""

    def __init__(
        self,
        reason: str,
        value: str | None = None,
        *,
        again: bool = False,
        wait: float | None = None,
        status: int | None = None,
        content_type: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.value, self.again, self.wait = reason, value, again, wait
        self.status, self.content_type = status, content_type


@dataclass(frozen=True, slots=True)
class Outcome:
    """An image, or the reason why there is none."""

    time: str
    reason: str | None = None
    value: str | None = None
    body: Body | None = None
    size: int = 0
    final_url: str | None = None
    status: int | None = None
    content_type: str | None = None
    attempts: int = 0
    seconds: float | None = None

    @property
    def verdict(self) -> str:
        """Of the ledger."""
        return "dropped" if self.reason == OPTED_OUT else "error"


def now() -> str:
    """The time, as outcomes have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
