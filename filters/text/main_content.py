"""The main content of a page by rules on its elements, and whether the rules leave doubt about it.

The rules are those of trafilatura's first stage (Barbaresi 2021, doi:10.18653/v1/2021.acl-demo.15; version
2.3): take the most telling container, remove what names, tags and the density of links mark as boilerplate,
keep the elements that hold prose. Where trafilatura would go on to compare its result with those of other
algorithms (readability, jusText, its own rules for recall) and could prefer theirs, there is doubt here.

Rules and figures are taken over, not fitted. What had to be settled anew, how to tell cheaply that another
algorithm may be preferred, was settled by agreement with trafilatura's own output on 497 pages: 460 of the
documentation that Debian packages bring and 37 of two crawls. On the 376 without doubt the mean F1 of the two
texts is .96, where resiliparse's main content has .84. The 181 annotated pages of benchmarks/extraction.py
were judge once, after that: F1 .963, trafilatura's own .960; 10 of them are in doubt.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Any, Final

import numpy as np

from ..kernels import kernel
from .boilerplate import clean, prune
from .page_names import Part, parts
from .page_outline import Kind, outline
from .page_text import write_text

# trafilatura's own figures (2.3: settings.cfg, core.py, external.py), none chosen here.
SHORTEST: Final = 250  # characters of an extraction that is taken as it is
LONGEST_RETRIED: Final = 3000  # characters; a shorter one that is little of the page is looked at again
LEAST_SHARE: Final = 0.2  # of the page's text
LEAST_GAIN: Final = 1.5  # how many times longer the second look must be to be preferred
MOST_PARAGRAPHS: Final = 2.0  # a comparison that finds more than this times the text is preferred

_ASIDE: Final = int(Kind.ASIDE)
_DIV: Final = int(Kind.DIV)
_SECTION: Final = int(Kind.SECTION)
_ARTICLE: Final = int(Kind.ARTICLE)
_MAIN: Final = int(Kind.MAIN)
_SPAN: Final = int(Kind.SPAN)
_LINK: Final = int(Kind.LINK)
_INLINE: Final = int(Kind.INLINE)
_EMPHASIS: Final = int(Kind.EMPHASIS)
_PARAGRAPH: Final = int(Kind.PARAGRAPH)
_HEADING: Final = int(Kind.HEADING)
_ITEM: Final = int(Kind.ITEM)
_QUOTE: Final = int(Kind.QUOTE)
_TABLE: Final = int(Kind.TABLE)
_P_FOOTER: Final = int(Part.FOOTER)
_P_BODY: Final = int(Part.BODY)
_P_STORY: Final = int(Part.STORY)
_P_CONTENT: Final = int(Part.CONTENT)
_P_MAIN: Final = int(Part.MAIN)


class Doubt(IntFlag):
    """Why an extraction may not be the main content; 0 is no doubt."""

    SHORT = 1  # little text, or fewer than two blocks of it
    SMALL_SHARE = 2  # little of the page, on which there is more prose
    RIVAL = 4  # another container holds far more
    TABLES = 8  # more tables than paragraphs, though there are paragraphs elsewhere
    UNFRAMED = 16  # no container was found, and most of the page is left out


_SHORT, _SMALL_SHARE, _RIVAL = int(Doubt.SHORT), int(Doubt.SMALL_SHARE), int(Doubt.RIVAL)
_TABLES, _UNFRAMED = int(Doubt.TABLES), int(Doubt.UNFRAMED)


def main_content(html: bytes) -> tuple[str, Doubt]:
    """The text of a page as a parser serialises it, and whether there is doubt that it is the main content.

    A line per block, list items behind a dash, cells apart by tabs. Time is proportional to the page's size.
    """
    page = outline(html)
    n, m = len(page.kind), len(page.text)
    kind = page.kind.copy()
    dropped, kept = np.zeros(n, np.bool_), np.zeros(m, np.bool_)
    scratch = np.empty((9, n + 1), np.int64)
    doubt = _choose(kind, page.parent, page.stop, page.length, parts(page), page.text, dropped, kept, scratch)
    out = np.empty(len(page.data) + 4 * m, np.uint8)
    size = write_text(page.data, kind, page.parent, page.text, kept, out, scratch)
    return out[:size].tobytes().decode("utf-8", "replace").strip(), Doubt(doubt)


@kernel("int64(uint8[::1], int64[::1], bool_[::1], int64)")
def _find_root(kind: Any, part: Any, gone: Any, stage: int) -> int:
    """The first element that the stage takes for the container of the content; 0 where there is none."""
    for i in range(1, len(kind)):
        if gone[i]:
            continue
        what = kind[i]
        frame = what in (_DIV, _SECTION, _ARTICLE)
        named = frame or what == _MAIN
        if (
            (stage == 0 and named and part[i] & _P_BODY)
            or (stage == 1 and what == _ARTICLE)
            or (stage == 2 and named and part[i] & _P_STORY)
            or (stage == 3 and named and part[i] & _P_CONTENT)
            or (stage == 4 and ((frame and part[i] & _P_MAIN) or what == _MAIN))
        ):
            return i
    return 0


@kernel(
    "int64(uint8[::1], int32[::1], int32[::1], bool_[::1], int32[:, ::1], int64, bool_, bool_[::1], "
    "int64[:, ::1])"
)
def _keep(
    kind: Any, parent: Any, length: Any, gone: Any, text: Any, root: int, bare: bool, kept: Any, scratch: Any
) -> int:
    """Marks the texts under `root` that prose elements hold; returns how many blocks have any.

    With `bare`, text that stands in `div` without a paragraph is prose too, as it is behind a line break.
    """
    holder, frame, inside = scratch[2], scratch[3], scratch[4]  # outermost prose element, nearest frame
    n = len(kind)
    for i in range(n):
        holder[i], frame[i] = -1, i
        inside[i] = i == root
        if i == 0:
            continue
        up = parent[i]
        inside[i] = i == root or (inside[up] and not gone[i])
        what = kind[i]
        if what in (_SPAN, _LINK, _INLINE):
            frame[i] = frame[up]
        if i == root:
            continue
        if holder[up] >= 0:
            holder[i] = holder[up]
        elif (
            what == _PARAGRAPH
            or _QUOTE <= what <= _TABLE
            or (root > 0 and _EMPHASIS <= what <= _ITEM)
            or (bare and what == _DIV and length[i] > 0)
        ):
            holder[i] = i
    blocks, last_holder, cut = 0, -1, -1
    for at in range(len(text)):
        element = text[at, 0]
        kept[at] = False
        if not inside[element] or gone[element]:
            continue
        if text[at, 3] == 4:
            kept[at] = True
            continue
        if (
            holder[element] < 0
            and (root == 0 or not text[at, 3] & 1)
            and not (bare and kind[frame[element]] == _DIV)
        ):
            continue
        kept[at] = True
        held = holder[element] if holder[element] >= 0 else frame[element]
        if held != last_holder:
            blocks += 1
            last_holder = held
        if kind[held] != _HEADING:
            cut = at
    # A heading with nothing below it announces what was dropped.
    for at in range(cut + 1, len(text)):
        kept[at] = False
    return blocks


@kernel("int64(uint8[::1], int32[::1], int32[::1], int32[::1], bool_[::1], int64[:, ::1])")
def _rival(kind: Any, parent: Any, stop: Any, length: Any, gone: Any, scratch: Any) -> int:
    """How much text the element holds that readability's score would choose.

    A paragraph speaks for its parent, and half as much for its grandparent; links count against.
    """
    total, links, score = scratch[1], scratch[2], scratch[3]
    n = len(kind)
    for i in range(n):
        total[i] = 0 if gone[i] else length[i]
        score[i] = 0
    for i in range(n - 1, 0, -1):
        total[parent[i]] += total[i]
    for i in range(n):
        links[i] = total[i] if kind[i] == _LINK and not gone[i] else 0
    for i in range(n - 1, 0, -1):
        links[parent[i]] += links[i]
    for i in range(1, n):
        if kind[i] == _PARAGRAPH and not gone[i] and total[i] >= 25:
            up = parent[i]
            score[up] += 2 * total[i]
            if up > 0:
                score[parent[up]] += total[i]
    best, most = 0, 0.0
    for i in range(n):
        if total[i] > 0:
            value = score[i] * (1.0 - links[i] / total[i])
            if value > most:
                best, most = i, value
    return total[best] - links[best] if most > 0 else 0


@kernel("int64(uint8[::1], int32[::1], int32[::1], bool_[::1], int64[:, ::1])")
def _prose(kind: Any, parent: Any, length: Any, gone: Any, scratch: Any) -> int:
    """Characters of the blocks that look like prose: at least 50, of which at most a fifth are links."""
    total, links = scratch[1], scratch[2]
    n = len(kind)
    for i in range(n):
        total[i] = 0 if gone[i] else length[i]
        links[i] = total[i] if kind[i] == _LINK else 0
    for i in range(n - 1, 0, -1):
        if _SPAN <= kind[i] <= _EMPHASIS:
            total[parent[i]] += total[i]
            links[parent[i]] += total[i] if kind[i] == _LINK else links[i]
            total[i] = 0
    found = 0
    for i in range(n):
        if total[i] >= 50 and links[i] * 5 <= total[i]:
            found += total[i]
    return found


@kernel(
    "int64(uint8[::1], int32[::1], int32[::1], int32[::1], int64[::1], int32[:, ::1], bool_[::1], "
    "bool_[::1], int64[:, ::1])"
)
def _choose(
    kind: Any,
    parent: Any,
    stop: Any,
    length: Any,
    part: Any,
    text: Any,
    gone: Any,
    kept: Any,
    scratch: Any,
) -> int:
    """Marks the texts that are main content; whether there is doubt."""
    n, m = len(kind), len(text)
    page, apart = 0, scratch[8]
    apart[0] = 0
    for i in range(1, n):
        apart[i] = apart[parent[i]] or kind[i] == _ASIDE or (kind[i] == _DIV and part[i] & _P_FOOTER)
        if not apart[i]:
            page += length[i]
    clean(kind, parent, stop, length, part, gone, scratch)
    cleaned = gone.copy()
    blocks, found = 0, False
    for stage in range(6):
        root = 0
        if stage < 5:
            root = _find_root(kind, part, gone, stage)
            if root == 0:
                continue
        else:
            # No container: paragraphs wherever they are.
            gone[:] = cleaned
        prune(kind, parent, stop, length, part, root, gone, scratch)
        bare = False
        if root > 0:
            left, inside_paragraph = 0, scratch[2]
            for i in range(n):
                inside_paragraph[i] = (i > 0 and inside_paragraph[parent[i]]) or kind[i] == _PARAGRAPH
                if inside_paragraph[i] and not gone[i]:
                    left += length[i]
            bare = left < 3 * SHORTEST
        blocks = _keep(kind, parent, length, gone, text, root, bare, kept, scratch)
        if blocks > 1:
            found = True
            break
    size, tables, paragraphs = 0, 0, 0
    own = scratch[5]
    for i in range(n):
        own[i] = 0
    for at in range(m):
        if kept[at] and text[at, 3] != 4:
            own[text[at, 0]] += 1
            size += min(text[at, 2] - text[at, 1], length[text[at, 0]])
    for i in range(n - 1, 0, -1):
        own[parent[i]] += own[i]
    for i in range(n):
        if own[i] > 0:
            tables += kind[i] == _TABLE
            paragraphs += kind[i] == _PARAGRAPH
    rival = _rival(kind, parent, stop, length, cleaned, scratch)
    outside = scratch[1][0] - scratch[2][0]
    doubt = 0
    if not found or size < SHORTEST:
        doubt |= _SHORT
    if (
        size < LONGEST_RETRIED
        and size < LEAST_SHARE * page
        and _prose(kind, parent, length, cleaned, scratch) > LEAST_GAIN * size
    ):
        doubt |= _SMALL_SHARE
    if root == 0 and outside > MOST_PARAGRAPHS * size:
        doubt |= _UNFRAMED
    if rival > MOST_PARAGRAPHS * size:
        doubt |= _RIVAL
    if (paragraphs == 0 or tables > paragraphs) and rival > 2 * SHORTEST:
        doubt |= _TABLES
    return doubt
