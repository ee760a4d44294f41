"""A hash table that is emptied by counting: kernels use one for thousands of documents and never clear it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels import kernel

# A table is uint64[slots, 2] of zeros, `slots` a power of two. A slot holds a key, and above its value (32
# bits) the generation that wrote it; slots of another generation are empty, so one must be done with before
# the next begins.
TABLE_TYPE = "uint64[:, ::1]"


@kernel("int64(int64)", forceinline=True)
def slots_for(entries: int) -> int:
    """The least power of two that leaves half of the slots empty; at least 16."""
    slots = 16
    while slots < 2 * entries:
        slots *= 2
    return slots


@kernel(f"int64({TABLE_TYPE}, int64, int64, uint64, int64)", forceinline=True)
def find_or_insert(table: Any, slots: int, generation: int, key: Any, value: int) -> int:
    """The value that `key` was first inserted with in this generation, or -1 if it is inserted now.

    Uses the first `slots` slots (a power of two, more than the generation's keys). `generation` is from 1 to
    2**32 - 1, `value` from 0 to 2**32 - 1. Keys are taken as evenly spread.
    """
    mask = np.uint64(slots - 1)
    slot = key & mask
    stamp = np.uint64(generation) << np.uint64(32)
    while True:
        entry = table[slot, 1]
        if (entry >> np.uint64(32)) != np.uint64(generation):
            table[slot, 0] = key
            table[slot, 1] = stamp | np.uint64(value)
            return -1
        if table[slot, 0] == key:
            return np.int64(entry & np.uint64(0xFFFFFFFF))  # type: ignore[return-value]
        slot = (slot + np.uint64(1)) & mask
