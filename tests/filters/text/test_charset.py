from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.text.charset import decode, decode_utf8

HTML = "<html><head>{}</head><body>Grüße, žluťoučký kůň</body></html>"


@pytest.mark.parametrize(
    ("payload", "content_type", "charset", "part"),
    [
        # Each place that can name a charset, against one that comes later and says otherwise.
        (codecs.BOM_UTF8 + "é".encode(), "text/html; charset=windows-1251", "utf-8", "é"),
        (codecs.BOM_UTF16_LE + "é".encode("utf-16-le"), "text/html; charset=utf-8", "utf-16le", "é"),
        (codecs.BOM_UTF16_BE + "é".encode("utf-16-be"), None, "utf-16be", "é"),
        (
            '<meta charset="utf-8">привет'.encode("cp1251"),
            "text/html; charset=windows-1251",
            "windows-1251",
            "привет",
        ),
        ('<meta charset="windows-1251">привет'.encode("cp1251"), "text/html", "windows-1251", "привет"),
        ("<p>žluťoučký kůň".encode(), "text/html", "utf-8", "žluťoučký"),
        ("<p>Это русский текст, написанный кириллицей.".encode("koi8-r") * 20, None, "koi8-r", "русский"),
    ],
)
def test_the_charset_is_looked_for_as_browsers_do(
    payload: bytes, content_type: str | None, charset: str, part: str
) -> None:
    text, found = decode(payload, content_type)
    assert found == charset
    assert part in text
    assert not text.startswith("\ufeff")


@pytest.mark.parametrize(
    "header",
    ["text/html;charset=ISO-8859-2", 'text/html; charset="iso-8859-2"', "text/html; Charset = latin2 ; x=y"],
)
def test_a_header_may_write_its_charset_in_many_ways(header: str) -> None:
    assert decode("kůň".encode("iso-8859-2"), header) == ("kůň", "iso-8859-2")


@pytest.mark.parametrize(
    "meta",
    [
        b"<meta charset=iso-8859-2>",
        b"<META CHARSET='ISO-8859-2'/>",
        b'<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-2">',
        b'<?xml version="1.0" encoding="iso-8859-2"?>',
        b"<!-- <meta charset=koi8-r> --><meta charset=iso-8859-2>",
    ],
)
def test_a_page_may_write_its_charset_in_many_ways(meta: bytes) -> None:
    text, charset = decode(meta + "kůň".encode("iso-8859-2"), None)
    assert (text[-3:], charset) == ("kůň", "iso-8859-2")


def test_a_meta_element_beyond_the_first_kilobyte_is_not_seen() -> None:
    assert decode(b" " * 1024 + b"<meta charset=koi8-r>", None)[1] == "utf-8"


# Labels and names of the Encoding Standard, section 4.2, with text in the encoding that it means.
LABELS = [
    ("latin1", "windows-1252", "€ “x”", "cp1252"),
    ("ascii", "windows-1252", "é", "cp1252"),
    ("iso-8859-9", "windows-1254", "ğ", "cp1254"),
    ("gb2312", "gbk", "汉字€", "gb18030"),
    ("x-sjis", "shift_jis", "髙﨑①", "cp932"),
    ("ks_c_5601-1987", "euc-kr", "한국어 똠", "cp949"),
    ("big5-hkscs", "big5", "漢字", "big5hkscs"),
    ("euc-jp", "euc-jp", "日本語", "euc-jp"),
    ("iso-2022-jp", "iso-2022-jp", "日本語", "iso-2022-jp"),
    ("tis-620", "windows-874", "ไทย…", "cp874"),
    ("dos-874", "windows-874", "ไทย", "cp874"),
    ("koi8-u", "koi8-u", "їжак", "koi8-u"),
    ("ibm866", "ibm866", "Привет", "cp866"),
    ("macintosh", "macintosh", "é", "mac-roman"),
    ("x-mac-cyrillic", "x-mac-cyrillic", "Привет", "mac-cyrillic"),
    ("utf8", "utf-8", "é", "utf-8"),
    ("utf-16", "utf-16le", "é", "utf-16-le"),
]


@pytest.mark.parametrize(("label", "name", "text", "codec"), LABELS)
def test_labels_mean_what_the_encoding_standard_says(label: str, name: str, text: str, codec: str) -> None:
    assert decode(text.encode(codec), f"text/html; charset={label}") == (text, name)


def test_a_page_that_calls_itself_utf16_in_ascii_is_utf8() -> None:
    assert decode("<meta charset=utf-16>é".encode(), None) == ("<meta charset=utf-16>é", "utf-8")


def test_an_unknown_label_is_passed_over() -> None:
    assert decode("é".encode(), "text/html; charset=nonsense")[1] == "utf-8"


def test_bytes_that_windows_leaves_out_are_control_characters() -> None:
    assert decode(b"a\x81\x8d\x8f\x90\x9d\x80", "text/html; charset=latin1")[0] == "a\x81\x8d\x8f\x90\x9d€"


def test_bytes_that_are_not_in_the_charset_are_replaced() -> None:
    assert decode(b"a\xffb", "text/html; charset=utf-8") == ("a\ufffdb", "utf-8")


@given(payload=st.binary(max_size=200), content_type=st.none() | st.text(max_size=30))
def test_any_bytes_have_a_text_that_can_be_stored(payload: bytes, content_type: str | None) -> None:
    text, charset = decode(payload, content_type)
    assert charset == charset.lower()
    coded, again = decode_utf8(payload, content_type)
    assert again == charset
    assert coded.decode("utf-8", "replace") == text.encode("utf-8", "replace").decode("utf-8")


@given(text=st.text(max_size=100), charset=st.sampled_from(["utf-8", "utf-16-le", "gb18030", "cp1251"]))
def test_what_was_encoded_comes_back(text: str, charset: str) -> None:
    stored = text.encode(charset, "ignore").decode(charset)
    marked = stored.startswith("\ufeff") or stored[:2].encode("utf-16-le").startswith(b"\xef\xbb\xbf")
    if not marked:
        assert decode(stored.encode(charset), f"text/html; charset={charset}")[0] == stored
