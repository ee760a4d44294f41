"""Windows and batches against plain loops."""

from __future__ import annotations

import random

import numpy as np
import pytest
from thresher.scorers.lm.batching import fixed, packed, padded, sliding, spans


def windows_of(length: int, first: int, window: int, stride: int) -> list[tuple[int, int, int]]:
    """(begin, end, first token that counts) as a loop finds them."""
    found, begin, behind = [], 0, 0
    while length:
        end = min(begin + window, length)
        counted = [token for token in range(behind, end) if token >= max(first, 1)]
        if counted:
            found.append((begin, end, counted[0]))
        if end == length:
            break
        behind, begin = end, begin + stride
    return found


def test_windows_of_many_lengths_are_those_of_a_loop_and_count_each_token_once() -> None:
    draw = random.Random(0)
    for _ in range(200):
        window = draw.randint(2, 12)
        stride = draw.randint(1, window - 1)
        lengths = [draw.randint(0, 40) for _ in range(draw.randint(0, 6))]
        first = [draw.randint(0, 50) for _ in lengths]
        made = sliding(np.array(lengths, np.int64), np.array(first, np.int64), window, stride)
        wanted = [
            (row, *span)
            for row, (length, start) in enumerate(zip(lengths, first, strict=True))
            for span in windows_of(length, start, window, stride)
        ]
        assert list(zip(made.row, made.begin, made.end, made.scored, strict=True)) == wanted
        for row, (length, start) in enumerate(zip(lengths, first, strict=True)):
            of_row = made.take(np.flatnonzero(made.row == row))
            assert list(spans(of_row.scored, of_row.counts)) == list(range(max(start, 1), length))
        context = made.scored - made.begin
        assert (context[made.begin > 0] >= window - stride).all()


def test_fixed_windows_leave_out_what_is_left_at_the_end() -> None:
    made = fixed(np.array([3, 4, 9, 0]), 4)
    assert list(zip(made.row, made.begin, made.end, made.scored, strict=True)) == [
        (1, 0, 4, 1),
        (2, 0, 4, 1),
        (2, 4, 8, 5),
    ]


@pytest.mark.parametrize("way", [packed, padded])
def test_batches_hold_each_window_once_the_longest_first_and_no_more_tokens_than_asked(way: object) -> None:
    draw = np.random.default_rng(0)
    for tokens in (1, 7, 30, 1000):
        reads = draw.integers(1, 20, size=draw.integers(0, 50))
        batches = list(way(reads, tokens))  # type: ignore[operator]
        assert sorted(np.concatenate([*batches, []]).astype(int)) == list(range(len(reads)))
        for batch in batches:
            assert (np.diff(reads[batch]) <= 0).all()
            held = reads[batch].sum() if way is packed else reads[batch][0] * len(batch)
            # A packed batch ends with the window that fills its share.
            assert len(batch) == 1 or held <= tokens + (reads.max() if way is packed else 0)


def test_packed_batches_are_of_nearly_equal_size() -> None:
    reads = np.random.default_rng(1).integers(1, 50, size=400)
    sizes = [int(reads[batch].sum()) for batch in packed(reads, 1000)]
    assert len(sizes) == -(-int(reads.sum()) // 1000)
    assert max(sizes) - min(sizes) <= 100


def test_no_windows_make_no_batches() -> None:
    assert list(packed(np.array([], np.int64), 8)) == list(padded(np.array([], np.int64), 8)) == []
