"""What goes of a text around matches, against a definition by single characters."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.dedup.decontamination import Matches
from thresher.filters.dedup.windows import plan_removal

texts = st.text("aé中😀 ", max_size=40)
spans = st.lists(st.tuples(st.integers(0, 39), st.integers(1, 6)), max_size=4)


def matches_of(some: list[tuple[str, list[tuple[int, int]]]]) -> Matches:
    """Matches at spans of characters (start, length) that lie within their texts."""
    counts, start, stop = [0], [], []
    for text, found in some:
        for low, length in found:
            start.append(len(text[:low].encode()))
            stop.append(len(text[: low + length].encode()))
        counts.append(len(start))
    nothing = np.zeros(len(some), np.int64)
    columns = [np.array(column, np.int64) for column in (counts, start, stop)]
    return Matches(*columns, np.zeros(len(start), np.int64), nothing, nothing)


@given(st.lists(st.tuples(texts, spans), max_size=4), st.integers(0, 5), st.integers(0, 6))
def test_pieces_are_what_is_beyond_all_windows_and_long_enough(
    drawn: list[tuple[str, list[tuple[int, int]]]], window: int, min_piece: int
) -> None:
    some = [(text, sorted({(low, n) for low, n in found if low + n <= len(text)})) for text, found in drawn]
    array = pa.array(["é", *(text for text, _ in some)], pa.string()).slice(1)
    removal = plan_removal(array, matches_of(some), window, min_piece)
    for row, (text, found) in enumerate(some):
        mine = range(removal.first[row], removal.first[row + 1])
        raw = text.encode()
        if not found:
            assert (len(mine), removal.pieces[row], removal.left[row]) == (0, 1, 1)
            continue
        gone = {k for low, n in found for k in range(max(0, low - window), low + n + window)}
        marks = "".join("\0" if k in gone else character for k, character in enumerate(text))
        pieces = [piece for piece in marks.split("\0") if piece]
        kept = [piece for piece in pieces if len(piece) >= min_piece]
        left, at = [], 0
        for k in mine:
            left.append(raw[at : removal.start[k]].decode())
            at = removal.stop[k]
        left.append(raw[at:].decode())
        assert [piece for piece in left if piece] == kept
        assert all(left[1:-1])
        assert removal.pieces[row] == len(pieces)
        assert removal.left[row] == len(kept)
        for number, k in enumerate(mine):
            assert removal.between[k] == bool(left[number] and left[number + 1])
