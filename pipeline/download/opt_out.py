"""By which headers a site says that an image is not for such use."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

# Directives that have a value of their own, so that what stands before their colon is no crawler's name
# (developers.google.com/search/docs/crawling-indexing/robots-meta-tag).
_VALUED: Final = ("max-snippet", "max-image-preview", "max-video-preview", "unavailable_after")


def opted_out(
    robots_tags: Sequence[str],
    reservations: Sequence[str],
    directives: Collection[str],
    tdm: bool,
    agent: str,
) -> str | None:
    """The header that leaves the image out, as a person would write it; None where none does.

    `robots_tags` are the values of X-Robots-Tag, `reservations` those of TDM-Reservation (W3C TDMRep, section
    on HTTP headers), `agent` is the name that we answer to.
    """
    for value in robots_tags:
        for name, directive in _directives(value):
            if name in ("", "*", agent) and _among(directive, directives):
                return f"X-Robots-Tag: {f'{name}: ' if name else ''}{directive}"
    if tdm and any(value.strip() == "1" for value in reservations):
        return "TDM-Reservation: 1"
    return None


def _directives(value: str) -> Iterator[tuple[str, str]]:
    """(crawler or "", directive) in lower case; a crawler's name holds for all that follows in a header."""
    agent = ""
    for item in value.lower().split(","):
        name, colon, rest = item.strip().partition(":")
        name = name.strip()
        if colon and name not in _VALUED:
            agent, item = name, rest
        yield agent, item.strip()


def _among(directive: str, directives: Collection[str]) -> bool:
    # none is short for noindex, nofollow.
    return directive in directives or (directive == "none" and "noindex" in directives)
