"""What the class, id, role and style of an element say about its part in the page."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntFlag
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..kernels import kernel
from .characters import BYTES_TYPE
from .page_outline import Attribute, Outline


class Part(IntFlag):
    """Parts of a page that names tell."""

    BOILERPLATE = 1  # if a block or a span has the name
    HIDDEN = 2  # whatever has the name
    COMMENTS = 4
    FOOTER = 8
    BODY = 16  # holds an article's text and little else
    STORY = 32  # holds an article
    CONTENT = 64  # holds the page's content
    MAIN = 128


# Stretches of names, as site templates use them; `^` and `$` stand for the ends of the value, `~` for a
# space, `a/b` for either letter, `x?` for a letter that may be missing. They are those of trafilatura 2.3
# (xpaths.py), less the ones that it keeps for single sites; no page was looked at for them.
_EITHER_BOILERPLATE: Final = (
    "^shar social viral newsletter syndication cookie tags sidebar banner bread-?crumb button author "
    "f/Footer message-container caption t/Teaser"
)
_NAMES: Final[dict[Attribute, dict[Part, str]]] = {
    Attribute.CLASS: {
        Part.BOILERPLATE: f"{_EITHER_BOILERPLATE} ^nav ^post-nav subnav avigation navb menu bar ^ad- ~ad- "
        "-ad- ~ad~ dfpa/Ad outbrain taboola criteo paid-?content widget b/Byline share- sociable embed "
        "consent modal-content permission elated next- -stories most-popular more-on meta rating "
        "attachment timestamp user-info user-profile -icon article-infos slide viewport overlay options "
        "expand obfuscated blurred",
        Part.HIDDEN: "comments-title nocomments ^reply- -reply- message akismet suggest-links ^hide- -hide- "
        "hide-print ~hide ~hidden noprint notloaded",
        # Not `commentary`, which is an article's own.
        Part.COMMENTS: "^c/Comment$ ^c/Comment~ ^c/Comment- ^c/Comments ^c/Commentl article-comments "
        "post-comments",
        Part.FOOTER: "footer",
        Part.BODY: "^post$ ^entry$ post-text post_text post-body post-?entry post-?content post_content "
        "postContent post_inner_wrapper article-?text articleText entry-content page-content text-content "
        "article-content art-content article__content article-?body article__body articleB/Body "
        "articleContent body-text article__container",
        Part.STORY: "^postarea$ ^art-postcontent$ ^text$ ^cell$ ^story$ f/Fullt/Text ^article~ post-bodycopy "
        "story-?content theme-content blog-content section-content single-content single-post main-column "
        "wpb_text_column story-body field-body",
        Part.CONTENT: "^content$ content-main content_main content-?body content__body m/Main-c/Content "
        "p/Page-content",
        Part.MAIN: "^main",
    },
    Attribute.ID: {
        Part.BOILERPLATE: f"{_EITHER_BOILERPLATE} ^jp- ^ad- s/Share n/Nav menu related premium",
        Part.HIDDEN: "hidden reader-comments akismet ^reply-",
        Part.COMMENTS: "^c/Comment$ ^c/Comment- ^c/Comment~ ^c/Comments ^c/Commentl ^comol ^disqus_thread "
        "^dsq-comments",
        Part.FOOTER: "footer",
        Part.BODY: "^articleContent$ entry-content article-content art-content article__content "
        "article-?body article__body articleBody body-text",
        Part.STORY: "^article$ ^story$ ^primary story-body",
        Part.CONTENT: "^content$ content-main content-body contentBody m/Main-c/Content",
        Part.MAIN: "^main",
    },
    Attribute.ROLE: {Part.BOILERPLATE: "n/Nav", Part.STORY: "^article$", Part.MAIN: "^main"},
    Attribute.STYLE: {Part.HIDDEN: "hidden display:none display:~none"},
    Attribute.ITEMPROP: {Part.BODY: "^articleBody$"},
    Attribute.HIDDEN: {Part.HIDDEN: "^true$"},
}
_START, _END = 1, 2  # bytes that stand for the ends of a value
_MARKS: Final = {ord("^"): _START, ord("$"): _END, ord("~"): ord(" ")}


def parts(page: Outline) -> npt.NDArray[np.int64]:
    """For each element of an outline, the union of the parts that its attributes name."""
    found = np.zeros(len(page.kind), np.int64)
    _match(page.data, page.names, _NEXT, _SAYS, found)
    return found


def _spellings(token: str) -> Iterable[bytes]:
    choices: list[tuple[str, ...]] = []
    at = 0
    while at < len(token):
        follows = token[at + 1 : at + 2]
        if follows == "/":
            choices.append((token[at], token[at + 2]))
            at += 3
        elif follows == "?":
            choices.append((token[at], ""))
            at += 2
        else:
            choices.append((token[at],))
            at += 1
    for spelling in product(*choices):
        yield "".join(spelling).translate(_MARKS).encode()


def _automaton() -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """States' successors by byte, and what each state says by attribute (Aho and Corasick 1975)."""
    following: list[dict[int, int]] = [{}]
    says: list[list[int]] = [[0] * len(Attribute)]
    for attribute, tables in _NAMES.items():
        for part, tokens in tables.items():
            for spelling in (one for token in tokens.split() for one in _spellings(token)):
                state = 0
                for byte in spelling:
                    if byte not in following[state]:
                        following[state][byte] = len(following)
                        following.append({})
                        says.append([0] * len(Attribute))
                    state = following[state][byte]
                says[state][attribute] |= part
    table = np.zeros((len(following), 256), np.int16)
    for byte, state in following[0].items():
        table[0, byte] = state
    waiting = [(state, 0) for state in following[0].values()]  # a state, and the one of its longest suffix
    for state, suffix in waiting:
        says[state] = [a | b for a, b in zip(says[state], says[suffix], strict=True)]
        table[state] = table[suffix]
        for byte, after in following[state].items():
            waiting.append((after, int(table[suffix, byte])))
            table[state, byte] = after
    return table, np.array(says, np.int64)


_NEXT, _SAYS = _automaton()


@kernel(f"void({BYTES_TYPE}, int32[:, ::1], int16[:, ::1], int64[:, ::1], int64[::1])")
def _match(data: Any, names: Any, following: Any, says: Any, found: Any) -> None:
    for row in range(len(names)):
        element, attribute = names[row, 0], names[row, 1]
        state: Any = following[0, _START]
        heard: Any = says[state, attribute]
        for at in range(names[row, 2], names[row, 3]):
            byte = data[at]
            # White space of other kinds separates names, too.
            state = following[state, 32 if byte < 32 else byte]
            heard |= says[state, attribute]
        heard |= says[following[state, _END], attribute]
        found[element] |= heard
