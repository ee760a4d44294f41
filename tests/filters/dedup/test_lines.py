"""Lines and paragraphs against definitions in plain Python."""

from __future__ import annotations

import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.dedup.lines import PUNCTUATION, find_pieces, piece_keys, without_pieces

LEFT_OUT = "，。、„”“«»」「《》´∶：？！（）；–—．～’…━〈〉【】％►"
# Characters whose lower case is another one, whatever stands beside them: not the Greek sigma.
characters = st.sampled_from(
    " \t\u00a0abAB\u00c4\u00e415\u0663\uff11.,!" + LEFT_OUT + "\x07\x85\r\u2028é𝔘😀字"
) | st.just("\n")
texts = st.text(characters, max_size=40)


def normalized(line: str) -> str:
    """What CCNet compares of a line, in plain words."""
    line = re.sub(r"\d", "0", line.strip().lower())
    return "".join(c for c in line if c not in LEFT_OUT and unicodedata.category(c) != "Cc")


def pieces(text: str, unit: str, blank: bool) -> list[tuple[str, str]]:
    """Each piece with what is compared of it, by regular expressions over lines."""
    lines = re.split(r"(?<=\n)", text) if text else [""]
    if text.endswith("\n") and not (unit == "lines" and blank):
        lines = [*lines[:-1], ""]
    marks = "".join("_" if not line.strip() else "x" for line in lines)
    if unit == "lines" and blank:
        shape = r"[x_]"
    elif unit == "lines":
        shape = r"^_*x_*|x_*|^_+"
    else:
        shape = r"^_*x+_*|x+_*|^_+"
    found = []
    for match in re.finditer(shape, marks):
        mine = lines[match.start() : match.end()]
        body = [at for at, mark in enumerate(match[0]) if mark == "x" or (unit == "lines" and blank)]
        content = "".join(mine[body[0] : body[-1] + 1]).removesuffix("\n") if body else ""
        found.append(("".join(mine), content))
    return found


UNITS = [("lines", True), ("lines", False), ("paragraphs", False)]


@pytest.mark.parametrize(("unit", "blank"), UNITS)
@given(some=st.lists(texts | st.none(), max_size=5))
def test_the_pieces_of_a_text_are_all_of_it(unit: str, blank: bool, some: list[str | None]) -> None:
    array = pa.array(["before", *some], pa.string()).slice(1)
    found = find_pieces(array, unit, blank)  # type: ignore[arg-type]
    data = "".join(["before", *(text or "" for text in some)]).encode()
    for row, text in enumerate(some):
        mine = range(found.first[row], found.first[row + 1])
        spans = [(data[found.start[p] : found.stop[p]], data[found.begin[p] : found.end[p]]) for p in mine]
        expected = [] if text is None else pieces(text, unit, blank)
        assert [(whole.decode(), content.decode()) for whole, content in spans] == expected


@pytest.mark.parametrize(("unit", "blank"), UNITS)
@given(some=st.lists(texts, min_size=1, max_size=5), least=st.integers(1, 4))
def test_keys_are_equal_where_the_normalized_pieces_are(
    unit: str, blank: bool, some: list[str], least: int
) -> None:
    least = 0 if blank else least
    first, keys, compared = piece_keys(pa.array(some), unit, least)  # type: ignore[arg-type]
    plain = [normalized(content) for text in some for _, content in pieces(text, unit, blank)]
    assert len(plain) == len(keys) == first[-1]
    assert [len(one.encode()) >= least for one in plain] == compared.tolist()
    assert len(set(plain)) == len(set(keys.tolist()))
    assert len(set(zip(plain, keys.tolist(), strict=True))) == len(set(plain))


def test_the_punctuation_that_is_left_out_is_that_of_ccnet() -> None:
    # The fullwidth digit one, which CCNet lists too, is a 0 by then.
    assert {chr(int(point, 16)) for point in PUNCTUATION.split()} == set(LEFT_OUT)


def test_groups_keep_equal_lines_apart_and_null_is_a_group() -> None:
    text = pa.array(["same", "same", "same", "same", "same"])
    _, keys, _ = piece_keys(text, "lines", 1, pa.array(["en", "de", "en", None, None]))
    assert keys[0] == keys[2]
    assert keys[3] == keys[4]
    assert len(set(keys.tolist())) == 3


@pytest.mark.parametrize(("unit", "blank"), UNITS)
@given(
    some=st.lists(st.tuples(texts | st.none(), st.sets(st.integers(0, 9)) | st.none()), max_size=5),
    wide=st.booleans(),
)
def test_what_is_left_is_the_other_pieces_without_a_line_end_too_many(
    unit: str, blank: bool, some: list[tuple[str | None, set[int] | None]], wide: bool
) -> None:
    removed, expected, gone = [], [], 0
    for text, chosen in some:
        all_pieces = [] if text is None else pieces(text, unit, blank)
        places = None if chosen is None else sorted(place for place in chosen if place < len(all_pieces))
        removed.append(places)
        kept = [place for place in range(len(all_pieces)) if place not in (places or [])]
        left = "".join(all_pieces[place][0] for place in kept)
        if kept and kept[-1] != len(all_pieces) - 1:
            whole, content = all_pieces[kept[-1]]
            left = left[: len(left) - len(whole)] + whole[: whole.rindex(content) + len(content)]
        expected.append(None if text is None else left)
        gone += len(places or [])
    array = pa.array([text for text, _ in some], pa.large_string() if wide else pa.string())
    made, count, bytes_ = without_pieces(array, pa.array(removed, pa.list_(pa.uint32())), unit, blank)  # type: ignore[arg-type]
    made.validate(full=True)
    assert made.type == array.type
    assert made.to_pylist() == expected
    assert count == gone
    sizes = [sum(len((text or "").encode()) for text in column) for column in (array.to_pylist(), expected)]
    assert bytes_ == sizes[0] - sizes[1]


def test_lines_of_ccnet_are_joined_again_by_line_feeds() -> None:
    text = "one\n\ntwo\nthree\n\nfour"
    removed = pa.array([[1, 3, 5]], pa.list_(pa.uint32()))
    made, *_ = without_pieces(pa.array([text]), removed, "lines", True)
    assert made.to_pylist() == ["one\ntwo\n"]  # lines 0, 2 and 4, of which the last is blank
