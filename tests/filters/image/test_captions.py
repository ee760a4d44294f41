"""Captions that say nothing, and Chinese characters."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
from thresher.filters.signals import compute_signals


def signal(name: str, caption: str | None) -> object:
    return compute_signals(pa.array([caption], pa.string()), [name])[name].to_pylist()[0]


@pytest.mark.parametrize(
    "caption",
    [
        "IMG_2041.jpg",
        "IMG_2041",
        "_DSC0012-1",
        "DSC00123",
        "dscn1234.JPEG",
        "P1010101",
        "000.jpg",
        "image 12",
        "photo (3)",
        "Screen Shot 2020-01-02 at 10.00.11",
        "20210101_123456",
        "1920x1080",
        "https://example.org/a/b.png",
        "my holiday by the sea.webp",
        " scan0001.tif\n",
        "d41d8cd98f00b204e9800998ecf8427e",
        "123e4567-e89b-12d3-a456-426614174000",
        "山水.jpg",
    ],
)
def test_names_of_files_are_told(caption: str) -> None:
    assert signal("caption_is_file_name", caption) is True


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "A dog on a beach",
        "Paris 2012",
        "June2012",
        "Picture 3 of 4",
        "The file cat.jpg shows a cat",
        "saved as cat.jpg.",
        "image of 12 horses",
        "deadbeef",
        "a1.b2",
        "node.js",
        "x.jpg\ny.jpg and more",
    ],
)
def test_descriptions_are_no_names_of_files(caption: str) -> None:
    assert signal("caption_is_file_name", caption) is False


@pytest.mark.parametrize(
    "caption",
    [
        "image",
        "Photo:",
        "[No image available]",
        "  «Placeholder»  ",
        "alt_img",
        "click to enlarge picture",
        "Click-to-enlarge",
        "Stock photo.",
        "Thumbnail for version as of 21:57, 29 June 2010",
        "thumbnail for version as of 21 57 29 june 2010",
        "image_tid 25&id mggqpuweqdpd&cache 0&lan_code 0",
        "Embedded image permalink",
        "So this happened today Embedded image permalink",
        "Anna's profile photo",
        "Image may contain: 2 people, outdoor",
        "展开全文",
        "图片",
    ],
)
def test_boilerplate_is_told(caption: str) -> None:
    assert signal("caption_is_boilerplate", caption) is True


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "Image of a dog",
        "Photo of the mayor",
        "red apple stock photo",
        "a photoprofile photograph",
        "An embedded image permalinks page",
        "logo of the fire brigade",
        "The thumbnail for version as of 2010",
        "一只狗的图片",
    ],
)
def test_descriptions_are_no_boilerplate(caption: str) -> None:
    assert signal("caption_is_boilerplate", caption) is False


def test_chinese_characters_are_those_of_the_script_han() -> None:
    assert signal("han_char_count", "一只狗 a dog, イヌ 犬。") == 4
    blocks = [range(0x20, 0x3000), range(0x4E00, 0xA000), range(0x20000, 0x20100)]
    every = [chr(code) for block in blocks for code in block if unicodedata.category(chr(code)) != "Cn"]
    counts = compute_signals(pa.array(every), ["han_char_count"])["han_char_count"].to_pylist()
    for character, count in zip(every, counts, strict=True):
        # The blocks above hold ideographs and, below 3000, radicals, which are of the script too.
        name = unicodedata.name(character, "")
        assert count == name.startswith(("CJK UNIFIED IDEOGRAPH", "CJK RADICAL", "KANGXI RADICAL")), name


@pytest.mark.parametrize("name", ["caption_is_file_name", "caption_is_boilerplate", "han_char_count"])
def test_signals_of_a_null_caption_are_null(name: str) -> None:
    assert signal(name, None) is None


def test_a_long_caption_is_read_in_linear_time() -> None:
    long = ("a " * 500_000) + "profile photo!"
    assert signal("caption_is_boilerplate", long) is True
    assert signal("caption_is_file_name", "x" * 1_000_000 + ".jpg") is False
