"""What is no content of a page, by the elements, their names and the density of links in them.

The tests and figures are those of trafilatura's first stage (Barbaresi 2021,
doi:10.18653/v1/2021.acl-demo.15; version 2.3, htmlprocessing.py). Every kernel takes time proportional to the
number of elements. `gone` marks the elements that are dropped, `scratch` holds 9 rows of numbers.
"""

from __future__ import annotations

from typing import Any, Final

from ..kernels import kernel
from .page_names import Part
from .page_outline import Kind

_REMOVED: Final = int(Kind.REMOVED)
_ASIDE: Final = int(Kind.ASIDE)
_DIV: Final = int(Kind.DIV)
_SECTION: Final = int(Kind.SECTION)
_SPAN: Final = int(Kind.SPAN)
_LINK: Final = int(Kind.LINK)
_INLINE: Final = int(Kind.INLINE)
_PARAGRAPH: Final = int(Kind.PARAGRAPH)
_LIST: Final = int(Kind.LIST)
_ITEM: Final = int(Kind.ITEM)
_TABLE: Final = int(Kind.TABLE)
_CELL: Final = int(Kind.CELL)
_FORM: Final = int(Kind.FORM)
_FIGURE: Final = int(Kind.FIGURE)
_DETAILS: Final = int(Kind.DETAILS)
_P_BOILERPLATE: Final = int(Part.BOILERPLATE)
_P_HIDDEN: Final = int(Part.HIDDEN)
_P_COMMENTS: Final = int(Part.COMMENTS)


@kernel("void(int32[::1], bool_[::1], int64[::1], int64[::1])")
def sum_subtrees(parent: Any, gone: Any, own: Any, total: Any) -> None:
    """total[i]: the sum of own over what is left of the subtree of i."""
    n = len(parent)
    for i in range(n):
        total[i] = 0 if gone[i] else own[i]
    for i in range(n - 1, 0, -1):
        total[parent[i]] += total[i]


@kernel("void(int32[::1], bool_[::1], int64, int64)")
def _spread(parent: Any, gone: Any, first: int, last: int) -> None:
    """What is within a dropped element is dropped."""
    for i in range(max(first, 1), last):
        if gone[parent[i]]:
            gone[i] = True


@kernel("bool_(uint8)", forceinline=True)
def _is_block(kind: Any) -> bool:
    """The elements whose names are believed when they say boilerplate."""
    return kind in (_DIV, _ITEM, _LIST, _PARAGRAPH, _SECTION, _SPAN)


@kernel("void(uint8[::1], int32[::1], int32[::1], int32[::1], int64[::1], bool_[::1], int64[:, ::1])")
def clean(kind: Any, parent: Any, stop: Any, length: Any, part: Any, gone: Any, scratch: Any) -> None:
    """Drops the elements that are no content anywhere; makes `div` of the forms and figures that are."""
    n = len(kind)
    own, total, tables = scratch[0], scratch[1], scratch[2]
    for i in range(n):
        own[i] = kind[i] == _TABLE
    sum_subtrees(parent, gone, own, tables)
    for i in range(n):
        own[i] = length[i]
        what = kind[i]
        container = what in (_DIV, _LIST, _SECTION, _DETAILS)
        if (container and part[i] & _P_COMMENTS) or what in (_REMOVED, _ASIDE):
            gone[i] = True
        elif what == _FIGURE:
            gone[i] = tables[i] == 0
            kind[i] = _DIV
        elif what == _DETAILS:
            kind[i] = _DIV
    _spread(parent, gone, 1, n)
    sum_subtrees(parent, gone, own, total)
    for i in range(n):
        if kind[i] == _FORM:
            gone[i] = gone[i] or total[i] * 2 <= total[0]
            kind[i] = _DIV
    _spread(parent, gone, 1, n)


@kernel("void(uint8[::1], int32[::1], int32[::1], int32[::1], int64, bool_[::1], int64[:, ::1], int64)")
def _drop_linked(
    kind: Any, parent: Any, stop: Any, length: Any, root: int, gone: Any, scratch: Any, wanted: int
) -> None:
    """Drops the elements of one kind under `root` that are mostly links."""
    total, links, counts, shorts, follows = scratch[1], scratch[2], scratch[3], scratch[4], scratch[5]
    anchors, children = scratch[6], scratch[7]
    first, last = root, stop[root]
    for i in range(first, last):
        total[i] = 0 if gone[i] else length[i]
        children[i] = 0
    for i in range(last - 1, first, -1):
        total[parent[i]] += total[i]
    for i in range(first, last):
        links[i] = counts[i] = shorts[i] = anchors[i] = 0
        if kind[i] == _LINK and not gone[i]:
            anchors[i] = 1
            if total[i] > 0:
                links[i], counts[i], shorts[i] = total[i], 1, total[i] < 10
    for i in range(last - 1, first, -1):
        up = parent[i]
        anchors[up] += anchors[i]
        links[up] += links[i]
        counts[up] += counts[i]
        shorts[up] += shorts[i]
        # Whether an element that is left follows among its siblings: children[up] is what was seen so far.
        alive = not gone[i] and (total[i] > 0 or stop[i] > i + 1)
        follows[i] = children[up] > 0
        if alive and kind[i] != _LINK and not _SPAN <= kind[i] <= _INLINE:
            children[up] += 1
    for i in range(first + 1, last):
        if kind[i] != wanted or gone[i] or anchors[i] == 0:
            continue
        size, linked = total[i], links[i]
        alone = not follows[i]
        limit = (300 if alone else 100) if wanted != _PARAGRAPH else (60 if alone else 30)
        drop = anchors[i] == 1 and linked > 100 and linked > 0.9 * size
        if not drop and size < limit:
            if counts[i] == 0:
                drop = True
            else:
                drop = linked > 0.8 * size or (counts[i] > 1 and shorts[i] > 0.8 * counts[i])
                if wanted == _DIV and children[i] >= 3 and size < 100:
                    drop = True
        elif not drop and anchors[i] > 4:
            drop = linked > 0.9 * size and linked < 100 * counts[i]
        if drop and wanted == _PARAGRAPH and (kind[parent[i]] == _ITEM or kind[parent[i]] == _CELL):
            drop = False
        if drop:
            gone[i] = True
    _spread(parent, gone, first + 1, last)


@kernel("void(uint8[::1], int32[::1], int32[::1], int32[::1], int64[::1], int64, bool_[::1], int64[:, ::1])")
def prune(
    kind: Any, parent: Any, stop: Any, length: Any, part: Any, root: int, gone: Any, scratch: Any
) -> None:
    """Drops what names and links mark as boilerplate under `root`."""
    total, marked = scratch[1], scratch[2]
    first, last = root, stop[root]
    for i in range(first, last):
        total[i] = 0 if gone[i] else length[i]
        marked[i] = 0
    for i in range(last - 1, first, -1):
        total[parent[i]] += total[i]
    removed = 0
    for i in range(first + 1, last):
        named = (_is_block(kind[i]) and part[i] & _P_BOILERPLATE) or part[i] & _P_HIDDEN
        if marked[parent[i]]:
            marked[i] = 1
        elif named and not gone[i]:
            marked[i] = 1
            removed += total[i]
    # Names that would take nearly all of the text are mistaken.
    believed = (total[first] - removed) * 7 > total[first]
    for i in range(first + 1, last):
        if believed and marked[i]:
            gone[i] = True
    _spread(parent, gone, first + 1, last)
    for _ in range(2):
        _drop_linked(kind, parent, stop, length, root, gone, scratch, _DIV)
        _drop_linked(kind, parent, stop, length, root, gone, scratch, _LIST)
        _drop_linked(kind, parent, stop, length, root, gone, scratch, _PARAGRAPH)
    links = scratch[2]
    for i in range(first, last):
        total[i] = 0 if gone[i] else length[i]
    for i in range(last - 1, first, -1):
        total[parent[i]] += total[i]
    for i in range(first, last):
        links[i] = total[i] if kind[i] == _LINK and not gone[i] else 0
    for i in range(last - 1, first, -1):
        links[parent[i]] += links[i]
    for i in range(first + 1, last):
        if kind[i] == _TABLE and links[i] > (0.8 if total[i] < 1000 else 0.5) * total[i] and total[i] >= 200:
            gone[i] = True
    _spread(parent, gone, first + 1, last)
