"""The charset of a page, found in the order in which browsers look, and its text."""

from __future__ import annotations

import codecs
import re
from typing import Final

# Encoding Standard, section 6, "BOM sniff".
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_BE, "utf-16be"),
    (codecs.BOM_UTF16_LE, "utf-16le"),
)
# resiliparse resolves the standard's labels to Python's codecs; these are the standard's own names of them.
# Of the rest, `cp125x` is `windows-125x` and `iso8859-x` is `iso-8859-x`.
_NAMES: Final = {
    "utf-16-le": "utf-16le",
    "utf-16-be": "utf-16be",
    "euc_jp": "euc-jp",
    "euc_kr": "euc-kr",
    "iso2022_jp": "iso-2022-jp",
    "mac-roman": "macintosh",
    "cp866": "ibm866",
    "iso8859-11": "windows-874",
}
# Python's codec where its name is not the standard's, or where the standard means a larger one.
_CODECS: Final = {
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "big5": "big5hkscs",
    "windows-874": "cp874",
    "ibm866": "cp866",
    "macintosh": "mac-roman",
    "x-mac-cyrillic": "mac-cyrillic",
}
_IN_HEADER: Final = re.compile(r"charset\s*=\s*[\"']?\s*([^\s;\"',]+)", re.IGNORECASE)
# HTML Standard, section 13.2.3.2, "prescan a byte stream": comments are passed over, 1,024 bytes are read.
_PRESCAN_BYTES: Final = 1024
_COMMENT: Final = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_IN_META: Final = re.compile(rb"<meta[\s/][^>]*?charset\s*=\s*[\"']?\s*([a-z0-9_:.+-]+)", re.IGNORECASE)
_IN_XML: Final = re.compile(rb"\A\s*<\?xml[^>]*?encoding\s*=\s*[\"']([a-z0-9_:.+-]+)", re.IGNORECASE)


def decode(payload: bytes, content_type: str | None) -> tuple[str, str]:
    """The text of a page and the charset it was read with, as the Encoding Standard's lower-case name.

    Looked for in this order: a byte order mark, `charset` in the Content-Type header, a meta element (or XML
    declaration) in the first 1,024 bytes, UTF-8 if the bytes are valid as that, and what resiliparse detects.
    Labels mean what the Encoding Standard says, so `iso-8859-1` is windows-1252. Bytes that the charset does
    not know become U+FFFD; nothing raises.
    """
    charset, body = _find(payload, content_type)
    return _decode(body, charset), charset


def decode_utf8(payload: bytes, content_type: str | None) -> tuple[bytes, str]:
    """The same as UTF-8, which saves two conversions where the page is UTF-8 already; then it may hold bytes
    that are not valid, for the reader to replace."""
    charset, body = _find(payload, content_type)
    return body if charset == "utf-8" else _decode(body, charset).encode("utf-8", "replace"), charset


def _find(payload: bytes, content_type: str | None) -> tuple[str, bytes]:
    """The charset, and the payload without its byte order mark."""
    for mark, name in _BOMS:
        if payload.startswith(mark):
            return name, payload[len(mark) :]
    declared = _from_header(content_type) or _from_meta(payload)
    if declared is not None:
        return declared, payload
    try:
        payload.decode()
    except UnicodeDecodeError:
        return _detect(payload), payload
    return "utf-8", payload


def _from_header(content_type: str | None) -> str | None:
    found = _IN_HEADER.search(content_type or "")
    return _standard(found[1]) if found else None


def _from_meta(payload: bytes) -> str | None:
    head = payload[:_PRESCAN_BYTES]
    if b"<!--" in head:
        head = _COMMENT.sub(b"", head)
    found = _IN_META.search(head) or _IN_XML.search(head)
    name = _standard(found[1].decode("ascii")) if found else None
    # A page whose meta element could be read as ASCII cannot be UTF-16 (HTML Standard, same section).
    return "utf-8" if name in ("utf-16le", "utf-16be") else name


def _standard(label: str) -> str | None:
    """The standard's name for a label; None for one that it does not know."""
    if label.lower() in ("x-mac-cyrillic", "x-mac-ukrainian"):
        return "x-mac-cyrillic"
    from resiliparse.parse.encoding import map_encoding_to_html5

    codec = map_encoding_to_html5(label, fallback_utf8=False)
    return _name(codec) if codec else None


def _name(codec: str) -> str:
    codec = codec.lower()
    for prefix, name in (("cp125", "windows-125"), ("iso8859-", "iso-8859-")):
        if codec.startswith(prefix) and codec not in _NAMES:
            return name + codec.removeprefix(prefix)
    return _NAMES.get(codec, codec)


def _detect(payload: bytes) -> str:
    from resiliparse.parse.encoding import detect_encoding

    return _name(str(detect_encoding(payload) or "utf-8"))


def _decode(payload: bytes, charset: str) -> str:
    if charset == "windows-1252":
        return _windows_1252(payload)
    try:
        return payload.decode(_CODECS.get(charset, charset), "replace")
    except LookupError:
        return payload.decode("utf-8", "replace")


def _windows_1252(payload: bytes) -> str:
    """As the Encoding Standard has it: the five bytes that Microsoft left out are control characters."""
    try:
        return payload.decode("cp1252")
    except UnicodeDecodeError:
        return codecs.charmap_decode(payload, "strict", _WINDOWS_1252)[0]


_WINDOWS_1252: Final = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256))
