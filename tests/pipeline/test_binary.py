"""Arrays of binary values, beside Arrow's own."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from thresher.pipeline.steps.binary import binary_array


@pytest.mark.parametrize(
    "values",
    [
        [],
        [None],
        [b""],
        [b"", None],
        [b"a", b"bc", b""],
        [None, b"abc", None],
        [bytes([n]) * n for n in range(99)],
    ],
)
def test_values_are_those_of_arrows_builder(values: list[bytes | None]) -> None:
    made = binary_array(values)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.binary()))
    assert made.null_count == values.count(None)


def test_slices_and_concatenations_are_those_of_arrows_builder() -> None:
    random = np.random.default_rng(5)
    values = [None if n % 7 == 0 else random.bytes(n) for n in range(70)]
    made, expected = binary_array(values), pa.array(values, pa.binary())
    assert made.slice(13, 40).equals(expected.slice(13, 40))
    assert pa.concat_arrays([made.slice(3), made]).equals(pa.concat_arrays([expected.slice(3), expected]))


def test_more_than_offsets_have_room_for_is_refused() -> None:
    class Large(bytes):
        def __len__(self) -> int:
            return 1 << 30

    with pytest.raises(pa.ArrowCapacityError):
        binary_array([Large(), Large()])
