"""The executor against slices of bytes in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.filters.text import edits as executor
from thresher.filters.text.edits import EditError, apply_edits, count_words, edit_lists
from thresher.schemas.contracts import EDIT

Edit = tuple[int, int, str]
LISTS = pa.list_(EDIT)
CHARACTERS = st.text(st.sampled_from("ab é中\n😀\x00\u0301"), max_size=12)


def lists(rows: list[list[Edit] | None]) -> pa.ListArray:
    names = EDIT.names
    return pa.array(
        [None if row is None else [dict(zip(names, edit, strict=True)) for edit in row] for row in rows],
        LISTS,
    )


def edited(text: str, row: list[Edit]) -> str:
    raw, out, at = text.encode(), b"", 0
    for start, stop, replacement in row:
        out += raw[at:start] + replacement.encode()
        at = stop
    return (out + raw[at:]).decode()


@st.composite
def texts_with_edits(draw: st.DrawFn) -> tuple[str | None, list[Edit] | None]:
    text = draw(st.one_of(st.none(), CHARACTERS))
    if text is None or draw(st.booleans()):
        return text, draw(st.sampled_from([None, []]))
    boundaries = [len(text[:n].encode()) for n in range(len(text) + 1)]
    cuts = sorted(draw(st.lists(st.sampled_from(boundaries), max_size=6)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    return text, [(start, stop, draw(CHARACTERS)) for start, stop in spans]


@settings(max_examples=300, deadline=None)
@given(st.lists(texts_with_edits(), max_size=6), st.sampled_from([pa.string(), pa.large_string()]))
def test_edits_replace_their_bytes_and_leave_the_others(rows: list[Any], type_: pa.DataType) -> None:
    text, row = [text for text, _ in rows], [row for _, row in rows]
    found = apply_edits(pa.array(text, type_), lists(row))
    found.validate(full=True)
    assert found.type == type_
    assert found.to_pylist() == [t if t is None else edited(t, r or []) for t, r in rows]


@given(st.lists(texts_with_edits(), min_size=2, max_size=6), st.data())
def test_slices_of_texts_and_of_edits_are_edited_as_the_whole_is(
    rows: list[Any], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    text, row = pa.array([text for text, _ in rows], pa.string()), lists([row for _, row in rows])
    part = apply_edits(text.slice(start, stop - start), row.slice(start, stop - start))
    assert part.equals(apply_edits(text, row).slice(start, stop - start))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([(2, 1, "")], "row 1: the edit of bytes 2 to 1 ends before it begins"),
        ([(0, 8, "")], "row 1: the edit of bytes 0 to 8 reaches beyond the text"),
        ([(-1, 1, "")], "row 1: the edit of bytes -1 to 1 reaches beyond the text"),
        (
            [(3, 4, ""), (0, 1, "")],
            "row 1: the edit of bytes 0 to 1 begins before the end of the edit before",
        ),
        (
            [(0, 3, ""), (2, 4, "")],
            "row 1: the edit of bytes 2 to 4 begins before the end of the edit before",
        ),
        ([(1, 2, "")], "row 1: the edit of bytes 1 to 2 cuts a character"),
        ([(2, 2, ""), (6, 7, "")], "row 1: the edit of bytes 6 to 7 cuts a character"),
    ],
)
def test_edits_that_do_not_fit_are_refused_by_row_and_span(row: list[Edit], message: str) -> None:
    with pytest.raises(EditError, match=message):
        apply_edits(pa.array(["first", "ébc€"]), lists([[], row]))


def test_edits_of_a_missing_text_and_edits_with_missing_parts_are_refused() -> None:
    with pytest.raises(EditError, match="row 0: the edit of bytes 0 to 0 is of a text that is null"):
        apply_edits(pa.array([None], pa.string()), lists([[(0, 0, "x")]]))
    with pytest.raises(EditError, match="is null"):
        apply_edits(pa.array(["a"]), pa.array([[None]], LISTS))


def test_edits_of_another_type_or_number_are_refused() -> None:
    with pytest.raises(TypeError, match="must be list<struct"):
        apply_edits(pa.array(["a"]), pa.array([[1]]))
    with pytest.raises(TypeError, match="must be list<struct"):
        apply_edits(pa.array(["a"]), pa.array([[{"start": 0, "stop": 1}]]))
    with pytest.raises(ValueError, match="1 lists of edits for 2 texts"):
        apply_edits(pa.array(["a", "b"]), lists([[]]))


def test_a_result_beyond_the_type_of_the_texts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "_MAX_STRING", 5)
    row = lists([[(0, 0, "xxxx")]])
    assert apply_edits(pa.array(["ab"], pa.large_string()), row).to_pylist() == ["xxxxab"]
    with pytest.raises(EditError, match="have 6 bytes"):
        apply_edits(pa.array(["ab"], pa.string()), row)


def test_lists_of_edits_are_made_from_their_columns() -> None:
    first, start, stop = np.array([0, 2, 2, 3]), np.array([0, 3, 1]), np.array([1, 4, 2])
    deletes = edit_lists(first, start, stop)
    assert deletes.type == LISTS
    assert deletes.equals(lists([[(0, 1, ""), (3, 4, "")], [], [(1, 2, "")]]))
    replaces = edit_lists(first, start, stop, pa.array(["x", "", "z"]))
    assert replaces.equals(lists([[(0, 1, "x"), (3, 4, "")], [], [(1, 2, "z")]]))


@given(st.lists(st.one_of(st.none(), st.text(st.sampled_from("a é\n\x1c\u3000\x85中")))))
def test_words_are_counted_as_str_split_finds_them(texts: list[str | None]) -> None:
    assert count_words(pa.array(texts, pa.string())).tolist() == [len((text or "").split()) for text in texts]
