"""The rule sets of image-text pairs: pairs at both sides of each threshold, by rules written out by hand."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from thresher.filters.expressions import evaluate_rules, parse
from thresher.filters.rule_sets import RULE_SETS
from thresher.filters.signals import SIGNALS, compute_signals
from thresher.schemas.rules import Parameter

NAMES = ("datacomp_basic", "laion", "align", "wukong", "metaclip")


def encoded(width: int, height: int, kind: str = "PNG", size: int = 0) -> bytes:
    """An image, padded to `size` bytes behind its end."""
    made = io.BytesIO()
    Image.new("L", (width, height)).save(made, kind)
    return made.getvalue().ljust(size, b"\0")


def reasons(
    name: str, pairs: list[tuple[bytes | None, str | None]], **overrides: Parameter
) -> list[str | None]:
    rules = RULE_SETS[name]
    parameters = {**rules.parameters, **overrides}
    parsed = [(rule.reason, parse(rule.expression, parameters)) for rule in rules.rules]
    names = sorted(set().union(*(expression.columns for _, expression in parsed)))
    images, captions = zip(*pairs, strict=True)
    columns = {"image": pa.array(images, pa.binary()), "text": pa.array(captions, pa.string())}
    found: list[str | None] = evaluate_rules(parsed, compute_signals(columns, names), "drop")[0].to_pylist()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_rules_read_signals_and_each_names_its_source(name: str) -> None:
    rules = RULE_SETS[name]
    for rule in rules.rules:
        assert rule.source
        columns = parse(rule.expression, rules.parameters).columns
        assert columns
        assert columns <= set(SIGNALS)


def datacomp(width: int, height: int, caption: str) -> str | None:
    if len(caption.split()) <= 2:
        return "too_few_words"
    if len(caption) <= 5:
        return "too_few_chars"
    if min(width, height) < 200:
        return "too_small"
    return "too_elongated" if max(width, height) / min(width, height) > 3 else None


def align(width: int, height: int, caption: str) -> str | None:
    if min(width, height) <= 200:
        return "too_small"
    if max(width, height) / min(width, height) >= 3:
        return "too_elongated"
    words = len(caption.split())
    return "too_few_words" if words < 3 else "too_many_words" if words > 20 else None


def wukong(width: int, height: int, caption: str) -> str | None:
    if min(width, height) <= 200:
        return "too_small"
    if max(width, height) / min(width, height) > 3:
        return "too_elongated"
    if not any("\u4e00" <= character <= "\u9fff" for character in caption):
        return "too_few_chinese"
    if len(caption) > 31:
        return "too_many_chars"
    return "file_name" if caption.endswith(".jpg") else None


SIDES = st.sampled_from([1, 67, 199, 200, 201, 202, 300, 599, 600, 601, 602, 603, 604, 1000])
CAPTIONS = st.one_of(
    st.integers(0, 24).map(lambda words: " ".join(["w"] * words)),
    st.sampled_from(["a b c", "a b cd", "a bcdefg", "  a  b ", "a b\tc d", "一只狗", "山" * 31, "山" * 32]),
    st.sampled_from(["山" + " x" * 15, "山" + " x" * 16, "山水.jpg", "一 b c", ""]),
)


@pytest.mark.parametrize(
    ("name", "rule"), [("datacomp_basic", datacomp), ("align", align), ("wukong", wukong)]
)
@given(pairs=st.lists(st.tuples(SIDES, SIDES, CAPTIONS), min_size=1, max_size=20))
def test_pairs_go_for_the_published_reasons(
    name: str, rule: Callable[[int, int, str], str | None], pairs: list[tuple[int, int, str]]
) -> None:
    made: list[tuple[bytes | None, str | None]] = [(encoded(w, h), caption) for w, h, caption in pairs]
    assert reasons(name, made) == [rule(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("image", "caption", "reason"),
    [
        (encoded(300, 300, size=5000), "a cat", None),
        (encoded(300, 300, size=5000), "cat!", "too_few_chars"),
        (encoded(300, 300, size=4999), "a cat", "too_few_bytes"),
        (encoded(300, 300, "GIF", size=5000), "a cat", "other_format"),
        (encoded(300, 300, "WEBP") + bytes(5000), "a cat", None),
        (encoded(300, 300, "JPEG", size=5000), "山水画中", "too_few_chars"),
        (None, "a cat", "too_few_bytes"),
        (b"no image" * 1000, "a cat", "other_format"),
    ],
)
def test_laion_drops_what_is_short_small_or_of_another_format(
    image: bytes | None, caption: str, reason: str | None
) -> None:
    assert reasons("laion", [(image, caption)]) == [reason]


def test_laion_drops_what_pillow_takes_for_a_decompression_bomb() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert RULE_SETS["laion"].parameters["max_pixels"] == Image.MAX_IMAGE_PIXELS - 1
    image = encoded(300, 300, size=5000)
    assert reasons("laion", [(image, "a cat")], max_pixels=300 * 300) == [None]
    assert reasons("laion", [(image, "a cat")], max_pixels=300 * 300 - 1) == ["too_many_pixels"]


def test_metaclip_drops_captions_of_white_space() -> None:
    captions = ["", " \n\t", "\u3000", ".", "a", None]
    dropped = reasons("metaclip", [(None, caption) for caption in captions])
    assert dropped == ["empty_caption"] * 3 + [None, None] + ["empty_caption"]


@pytest.mark.parametrize("name", ["datacomp_basic", "align", "wukong"])
def test_a_pair_whose_image_cannot_be_read_is_dropped(name: str) -> None:
    caption = "三 words here 山 and more"
    pairs: list[tuple[bytes | None, str | None]] = [
        (None, caption),
        (os.urandom(999), caption),
        (b"", caption),
    ]
    assert reasons(name, pairs) == ["too_small"] * 3


def test_a_rotated_image_has_the_same_sides() -> None:
    made = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (600, 200)).save(made, "JPEG", exif=exif)
    found = compute_signals({"image": pa.array([made.getvalue()])}, ["width", "height", "aspect", "min_side"])
    assert {name: column.to_pylist() for name, column in found.items()} == {
        "width": [200],
        "height": [600],
        "aspect": [3.0],
        "min_side": [200],
    }
    assert reasons("datacomp_basic", [(made.getvalue(), "three short words")]) == [None]
