"""The elements and texts of a parsed page as flat arrays, for kernels to walk."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from .characters import BYTES_TYPE


class Kind(IntEnum):
    """What an element is to the choice of main content."""

    OTHER = 0
    REMOVED = 1  # never main content: navigation, controls, media
    ASIDE = 2  # never main content, and no measure of how much a page says
    RAW = 3  # no markup within
    VOID = 4  # no content
    BREAK = 5
    DIV = 6
    SECTION = 7
    ARTICLE = 8
    MAIN = 9
    SPAN = 10
    LINK = 11
    INLINE = 12  # transparent: its text is its parent's
    EMPHASIS = 13
    PARAGRAPH = 14
    HEADING = 15
    LIST = 16
    ITEM = 17
    QUOTE = 18
    PRE = 19
    CODE = 20
    TABLE = 21
    ROW = 22
    CELL = 23
    FORM = 24
    FIGURE = 25
    DETAILS = 26


class Attribute(IntEnum):
    """The attributes that the choice of main content reads."""

    CLASS = 0
    ID = 1
    ROLE = 2
    STYLE = 3
    ITEMPROP = 4
    HIDDEN = 5  # aria-hidden


# Which elements hold no article text is trafilatura's list (2.3, settings.py), which the HTML Standard's
# sections on navigation, forms and embedded content explain.
_ELEMENTS: Final[dict[Kind, str]] = {
    Kind.REMOVED: "applet audio blink button canvas datalist dialog fencedframe fieldset frameset head label "
    "legend map marquee math menu menuitem meter nav noindex object optgroup option output picture "
    "progress rp rt rtc select textarea time use video",
    Kind.ASIDE: "aside footer svg template",
    Kind.RAW: "iframe noembed noframes noscript plaintext script style xmp",
    Kind.VOID: "area base basefont bgsound col embed frame hr img input keygen link meta param source "
    "track wbr",
    Kind.BREAK: "br",
    Kind.DIV: "div",
    Kind.SECTION: "section",
    Kind.ARTICLE: "article",
    Kind.MAIN: "main",
    Kind.SPAN: "span",
    Kind.LINK: "a",
    Kind.INLINE: "abbr acronym address bdi bdo big cite data dfn font hgroup ins mark nobr ruby shadow small "
    "tbody tfoot thead",
    Kind.EMPHASIS: "b del em i kbd s samp strike strong sub sup tt u var",
    Kind.PARAGRAPH: "p",
    Kind.HEADING: "h1 h2 h3 h4 h5 h6 summary",
    Kind.LIST: "dl ol ul",
    Kind.ITEM: "dd dt li",
    Kind.QUOTE: "blockquote q",
    Kind.PRE: "listing pre",
    Kind.CODE: "code",
    Kind.TABLE: "table",
    Kind.ROW: "tr",
    Kind.CELL: "td th",
    Kind.FORM: "form",
    Kind.FIGURE: "figure",
    Kind.DETAILS: "details",
}
_ATTRIBUTES: Final = ("class", "id", "role", "style", "itemprop", "aria-hidden")

# FNV-1a (datatracker.ietf.org/doc/draft-eastlake-fnv), 64 bits.
_OFFSET: Final = np.uint64(0xCBF29CE484222325)
_PRIME: Final = np.uint64(0x100000001B3)

_BREAK: Final = int(Kind.BREAK)
_RAW: Final = int(Kind.RAW)
_VOID: Final = int(Kind.VOID)
_SPAN: Final = int(Kind.SPAN)
_INLINE: Final = int(Kind.INLINE)
_OTHER: Final = int(Kind.OTHER)


def _hash_of(name: str) -> int:
    value = int(_OFFSET)
    for byte in name.encode():
        value = (value ^ byte) * int(_PRIME) % 2**64
    return value


def _lookup(codes: dict[str, int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Hashes in order, and the code of each."""
    pairs = sorted((_hash_of(name), code) for name, code in codes.items())
    return np.array([h for h, _ in pairs], np.uint64), np.array([code for _, code in pairs], np.int64)


_TAG_HASHES, _TAG_KINDS = _lookup(
    {name: int(kind) for kind, names in _ELEMENTS.items() for name in names.split()}
)
_NAME_HASHES, _NAME_CODES = _lookup({name: code for code, name in enumerate(_ATTRIBUTES)})


@dataclass(frozen=True)
class Outline:
    """n elements in document order, 0 standing for the document, and m stretches of text."""

    data: npt.NDArray[np.uint8]  # the page as the parser serialises it, UTF-8
    kind: npt.NDArray[np.uint8]  # [n] of Kind
    parent: npt.NDArray[np.int32]  # [n]; the document's is -1
    stop: npt.NDArray[np.int32]  # [n]; element i holds the elements i + 1 to stop[i] - 1
    length: npt.NDArray[np.int32]  # [n] characters of the element's own text, white space collapsed
    names: npt.NDArray[np.int32]  # [k, 4]: element, Attribute, first and end byte of its value
    # [m, 4]: element, first and end byte, and 4 for white space, else 1 if a line break came before in the
    # same block, 3 if it came just before
    text: npt.NDArray[np.int32]


def outline(html: bytes) -> Outline:
    """The outline of a page that a parser has serialised, so that each tag is there and is closed.

    Time is proportional to the page's size, for any other bytes too: a closing tag closes the nearest open
    element of its kind among the innermost, or nothing.
    """
    data = np.frombuffer(html, np.uint8)
    room = int(np.count_nonzero(data == ord("<"))) + 2
    kind, length = np.zeros(room, np.uint8), np.zeros(room, np.int32)
    parent, stop = np.empty(room, np.int32), np.empty(room, np.int32)
    text, names = np.empty((room, 4), np.int32), np.empty((room * 2, 4), np.int32)
    work = np.zeros((4, room), np.int64)
    sizes = _outline(
        data,
        _TAG_HASHES,
        _TAG_KINDS,
        _NAME_HASHES,
        _NAME_CODES,
        kind,
        parent,
        stop,
        length,
        names,
        text,
        work,
    )
    n, k, m = sizes
    return Outline(data, kind[:n], parent[:n], stop[:n], length[:n], names[:k], text[:m])


@kernel("int64(uint64[::1], int64[::1], uint64)")
def _find(hashes: Any, codes: Any, wanted: Any) -> int:
    at: Any = np.searchsorted(hashes, wanted)
    if at < len(hashes) and hashes[at] == wanted:
        return codes[at]  # type: ignore[no-any-return]
    return -1


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def _collapsed_length(data: Any, at: int, end: int) -> int:
    """Characters, with each run of white space as one and each character reference as one."""
    count = 0
    space = True
    while at < end:
        byte = data[at]
        if byte == 32 or 9 <= byte <= 13:
            if not space:
                count += 1
            space = True
        else:
            if byte == 38:  # a reference; the serialiser writes no long ones
                ahead = at + 1
                while ahead < end and ahead < at + 6 and data[ahead] != 59:
                    ahead += 1
                if ahead < end and data[ahead] == 59:
                    at = ahead
            if byte < 0x80 or byte >= 0xC0:
                count += 1
            space = False
        at += 1
    return count


@kernel(f"int64({BYTES_TYPE}, int64, int64)")
def _end_of_comment(data: Any, at: int, end: int) -> int:
    """Behind the `>` of the comment or declaration whose `<!` is at `at`."""
    if at + 4 <= end and data[at + 2] == 45 and data[at + 3] == 45:
        at += 4
        while at + 2 < end and not (data[at] == 45 and data[at + 1] == 45 and data[at + 2] == 62):
            at += 1
        return min(at + 3, end)
    while at < end and data[at] != 62:
        at += 1
    return min(at + 1, end)


@kernel(f"int64({BYTES_TYPE}, int64, int64, int64, int64)")
def _end_of_raw(data: Any, name: int, name_end: int, at: int, end: int) -> int:
    """Where the closing tag of the name data[name:name_end] begins, from `at` on."""
    size = name_end - name
    while at + 2 + size <= end:
        if data[at] == 60 and data[at + 1] == 47:
            same = 0
            while same < size and data[at + 2 + same] | 32 == data[name + same] | 32:
                same += 1
            if same == size:
                return at
        at += 1
    return end


@kernel(
    f"UniTuple(int64, 3)({BYTES_TYPE}, uint64[::1], int64[::1], uint64[::1], int64[::1], uint8[::1], "
    "int32[::1], int32[::1], int32[::1], int32[:, ::1], int32[:, ::1], int64[:, ::1])"
)
def _outline(
    data: Any,
    tag_hashes: Any,
    tag_kinds: Any,
    name_hashes: Any,
    name_codes: Any,
    kind: Any,
    parent: Any,
    stop: Any,
    length: Any,
    names: Any,
    text: Any,
    work: Any,
) -> tuple[int, int, int]:
    """Fills the arrays; returns how many elements, names and texts there are."""
    open_element, open_hash, container, broken = work[0], work[1], work[2], work[3]
    end = len(data)
    n, k, m, depth, at, fresh = 1, 0, 0, 0, 0, 0
    parent[0] = -1
    while at < end:
        if data[at] != 60:
            begin = at
            while at < end and data[at] != 60:
                at += 1
            element = open_element[depth]
            size = _collapsed_length(data, begin, at)
            length[element] += size
            text[m, 0], text[m, 1], text[m, 2] = element, begin, at
            text[m, 3] = broken[container[element]] | fresh if size > 0 else 4
            fresh = 0 if size > 0 else fresh
            m += 1
            continue
        at += 1
        if at >= end:
            break
        closing = data[at] == 47
        if data[at] == 33 or data[at] == 63:
            at = _end_of_comment(data, at - 1, end)
            continue
        if closing:
            at += 1
        name, code = at, _OFFSET
        while at < end and data[at] != 62 and data[at] != 47 and data[at] != 32 and not 9 <= data[at] <= 13:
            byte = data[at]
            code = (code ^ np.uint64(byte | 32 if 65 <= byte <= 90 else byte)) * _PRIME
            at += 1
        name_end = at
        if closing:
            while at < end and data[at] != 62:
                at += 1
            at += 1
            level = depth
            # Serialised tags match, so that the innermost is the one; other bytes shall not make this slow.
            while level > 0 and level > depth - 8 and open_hash[level] != np.int64(code):
                level -= 1
            if level > 0 and open_hash[level] == np.int64(code):
                while depth >= level:
                    stop[open_element[depth]] = n
                    depth -= 1
            continue
        found = _find(tag_hashes, tag_kinds, code)
        known: Any = found if found >= 0 else _OTHER
        keep = known != _RAW and known != _VOID and known != _BREAK
        while at < end and data[at] != 62:
            if data[at] == 32 or data[at] == 47 or 9 <= data[at] <= 13:
                at += 1
                continue
            code_of_name = _OFFSET
            while at < end and data[at] != 61 and data[at] != 62 and data[at] != 32:
                code_of_name = (code_of_name ^ np.uint64(data[at])) * _PRIME
                at += 1
            if at >= end or data[at] != 61:
                continue
            at += 1
            begin = at
            if at < end and (data[at] == 34 or data[at] == 39):
                quote = data[at]
                begin = at + 1
                at += 1
                while at < end and data[at] != quote:
                    at += 1
            else:
                while at < end and data[at] != 62 and data[at] != 32:
                    at += 1
            if keep and at > begin:
                attribute = _find(name_hashes, name_codes, code_of_name)
                if attribute >= 0 and k < len(names):
                    names[k, 0], names[k, 1], names[k, 2], names[k, 3] = n, attribute, begin, at
                    k += 1
            if at < end and data[at] != 62:
                at += 1
        at += 1
        if known == _BREAK:
            broken[container[open_element[depth]]] = 1
            fresh = 3
        elif known == _RAW:
            at = _end_of_raw(data, name, name_end, at, end)
        elif known != _VOID:
            kind[n] = known
            parent[n] = open_element[depth]
            container[n] = container[parent[n]] if _SPAN <= known <= _INLINE else n
            depth += 1
            open_element[depth], open_hash[depth] = n, np.int64(code)
            n += 1
    while depth >= 0:
        stop[open_element[depth]] = n
        depth -= 1
    return n, k, m
