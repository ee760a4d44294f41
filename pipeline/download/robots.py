"""robots.txt as RFC 9309 defines it."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

MOST_BYTES: Final = 500 << 10  # that are read at least (section 2.5); the rest of a longer file is not
_LINE: Final = re.compile(r"[ \t]*([A-Za-z-]+)[ \t]*:[ \t]*([^#]*)")
_TOKEN: Final = re.compile(r"[A-Za-z_-]+")
_KEPT: Final = "/?&=;:@$!'()*+,~"


class Rule(NamedTuple):
    """Allows or disallows paths that begin with a pattern; in it * is anything, and $ at its end the end."""

    allow: bool
    pattern: str


class Robots:
    """The rules of a robots.txt for one crawler, named by its product token."""

    def __init__(self, content: bytes, agent: str) -> None:
        own, general = _groups(content.decode("utf-8-sig", "replace"), agent.lower())
        rules = general if own is None else own
        # The longest pattern decides; of two as long, the one that allows (section 2.2.2).
        self._rules = sorted(rules, key=lambda rule: (-len(rule.pattern), not rule.allow))

    def allows(self, path: str) -> bool:
        """Whether a path, with its query, may be asked for."""
        if path == "/robots.txt":
            return True
        path = _canonical(path)
        return next((rule.allow for rule in self._rules if _matches(rule.pattern, path)), True)


def _groups(text: str, agent: str) -> tuple[list[Rule] | None, list[Rule]]:
    """The rules of all groups that name the crawler, None where none does, and of those for all crawlers."""
    own: list[Rule] | None = None
    general: list[Rule] = []
    mine = everybody = naming = False
    for line in re.split(r"\r\n|\r|\n", text):
        found = _LINE.match(line)
        if found is None:
            continue
        key, value = found[1].lower(), found[2].strip()
        if key == "user-agent":
            if not naming:
                mine = everybody = False
            naming = True
            token = _TOKEN.match(value)
            if value.startswith("*"):
                everybody = True
            elif token is not None and token[0].lower() == agent:
                mine = True
                own = own or []
        elif key in ("allow", "disallow"):
            naming = False
            if value and value[0] in "/*":
                rule = Rule(key == "allow", _canonical(value))
                if mine and own is not None:
                    own.append(rule)
                if everybody:
                    general.append(rule)
    return own, general


def _canonical(path: str) -> str:
    """The same for all spellings of the same octets (section 2.2.2): an escaped letter is the letter, any
    other octet is escaped. What is reserved differs from its escape, as `*` and `/` do."""
    pieces = re.split(r"(%[0-9A-Fa-f]{2})", path)
    return "".join(
        quote(unquote_to_bytes(piece), safe="") if at % 2 else quote(piece, safe=_KEPT)
        for at, piece in enumerate(pieces)
    )


def _matches(pattern: str, path: str) -> bool:
    """In time that grows with pattern times path at most: a robots.txt is hostile input, too."""
    anchored = pattern.endswith("$")
    first, *rest = (pattern[:-1] if anchored else pattern).split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    for place, piece in enumerate(rest):
        if anchored and place == len(rest) - 1:
            return len(path) - len(piece) >= at and path.endswith(piece)
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return at == len(path) if anchored else True
