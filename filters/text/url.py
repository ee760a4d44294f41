"""Blocked domains, addresses and words, from lists in the layout of UT1."""

from __future__ import annotations

import difflib
import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...schemas.contracts import AssetError

_WORD: Final = re.compile(r"[^\W_]+")
# `mailto:`, `javascript:` and the like; digits after the colon are a port.
_OTHER_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:(?!\d+(?:[/?#]|\Z))")
_HOST_END: Final = re.compile(r"[/?#\\]")
_BOUNDARY: Final = re.compile(r"[/?#&]")
# Characters (RFC 1035, section 2.3.4: 255 octets on the wire); a longer name is no host.
_MAX_HOST: Final = 253
_MAX_PREFIXES: Final = 32  # beginnings of a URL that are looked up


@dataclass(frozen=True)
class Address:
    """The parts of a URL that lists speak of; `host` is "" where there is none (`mailto:`, a relative
    path)."""

    host: str  # lower case, without port and user, in its ASCII form
    rest: str  # path, query and fragment, as written

    @classmethod
    def parse(cls, url: str) -> Address:
        """Splits a URL, or a list's entry, which has no scheme. Any string has a result."""
        url = url.strip()
        scheme, mark, after = url.partition("://")
        if mark and not _HOST_END.search(scheme):
            url = after
        elif url.startswith("//"):
            url = url[2:]
        elif _OTHER_SCHEME.match(url):
            return cls("", url)
        end = _HOST_END.search(url)
        authority, rest = (url, "") if end is None else (url[: end.start()], url[end.start() :])
        host = authority.rpartition("@")[2]
        if host.startswith("["):
            return cls(host.partition("]")[0].strip("[").lower(), rest)
        name = host.partition(":")[0].strip(".")
        return cls(_ascii(name), rest) if len(name) <= _MAX_HOST else cls("", url)

    @property
    def domains(self) -> Iterator[str]:
        """The host and every domain above it: `a.b.c`, `b.c`, `c`."""
        name = self.host
        while name:
            yield name
            name = name.partition(".")[2]

    @property
    def prefixes(self) -> Iterator[str]:
        """Host (without `www.`) and path up to each `/`, `?`, `#` and `&` (the first 32), and the whole,
        without a final `/`."""
        host = self.host.removeprefix("www.")
        if not host:
            return
        yield host
        for boundary in islice(_BOUNDARY.finditer(self.rest, 1), _MAX_PREFIXES):
            yield host + self.rest[: boundary.start()]
        if self.rest.rstrip("/"):
            yield host + self.rest.rstrip("/")


class HashSet:
    """A set of strings kept as sorted 64-bit hashes: 8 bytes each, so that millions of domains are little.

    Of n strings, one that is none of them is taken for one with probability n / 2^64: 3e-13 for 5 million.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._hashes = np.unique(_hashes(names))

    def __len__(self) -> int:
        return len(self._hashes)

    def contains(self, names: Iterable[str]) -> npt.NDArray[np.bool_]:
        """For each name whether it is in the set."""
        hashes = _hashes(names)
        if not len(self._hashes):
            return np.zeros(len(hashes), np.bool_)
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return np.asarray(self._hashes[places] == hashes)


class UrlFilter:
    """Says which URLs are blocked, why, and by what.

    `lists` is a folder of categories in the layout of UT1 (dsi.ut-capitole.fr/blacklists): `CATEGORY/domains`
    and `CATEGORY/urls`, one entry per line, also as `.gz`; `categories` chooses among them (none named: all).
    `words` block where one of them is a whole word of the URL, `soft_words` where `min_soft_words` different
    ones are, `subwords` anywhere in it: the three lists of RefinedWeb (Penedo et al. 2023, arXiv:2306.01116,
    appendix G.1). Words are runs of letters and digits, compared in lower case after percent-decoding.

    Raises AssetError where the folder or a category is missing, ValueError for a word with other characters.
    """

    def __init__(
        self,
        lists: str | Path | None = None,
        categories: Sequence[str] = (),
        words: Sequence[str] = (),
        soft_words: Sequence[str] = (),
        min_soft_words: int = 2,
        subwords: Sequence[str] = (),
    ) -> None:
        self._folders = _category_folders(Path(lists), categories) if lists is not None else []
        self._words = frozenset(map(_whole_word, words))
        self._soft_words = frozenset(map(_whole_word, soft_words))
        self._min_soft_words = min_soft_words
        self._subwords = tuple(sorted({word.lower() for word in subwords if word}))
        self._domains: HashSet | None = None
        self._urls: HashSet | None = None

    def open(self) -> None:
        """Reads the lists; otherwise the first `check` does."""
        self._domains = HashSet(
            Address.parse(entry).host for folder in self._folders for entry in _entries(folder, "domains")
        )
        self._urls = HashSet(
            prefix
            for folder in self._folders
            for entry in _entries(folder, "urls")
            for prefix in _last_prefix(entry)
        )

    def check(self, url: pa.Array) -> tuple[pa.StringArray, pa.StringArray]:
        """For each URL (string or large_string) the reason, null where it is not blocked, and what decided.

        `blocked_domain`: its host or a domain above it is listed. `blocked_url`: a list has the URL itself or
        a beginning of it that ends before `/`, `?`, `#` or `&`; scheme, port and `www.` do not count.
        `blocked_word`: see the class. The first that holds is given. A null or empty URL is not blocked; one
        without a host is only searched for words.
        """
        if self._domains is None or self._urls is None:
            self.open()
            return self.check(url)
        texts = [value or "" for value in url.to_pylist()]
        addresses = [Address.parse(text) for text in texts]
        by_domain = _first_listed(self._domains, [list(address.domains) for address in addresses])
        by_url = _first_listed(self._urls, [list(address.prefixes) for address in addresses])
        reasons: list[str | None] = []
        values: list[str | None] = []
        for row, text in enumerate(texts):
            found = (("blocked_domain", by_domain[row]), ("blocked_url", by_url[row]))
            reason, value = next((pair for pair in found if pair[1] is not None), (None, None))
            if reason is None and (value := self._blocked_word(text)) is not None:
                reason = "blocked_word"
            reasons.append(reason)
            values.append(value)
        return pa.array(reasons, pa.string()), pa.array(values, pa.string())

    def _blocked_word(self, url: str) -> str | None:
        if not (self._words or self._soft_words or self._subwords):
            return None
        readable = (unquote(url) if "%" in url else url).lower()
        found = set(_WORD.findall(readable))
        if hard := found & self._words:
            return str(min(hard))
        if len(soft := found & self._soft_words) >= self._min_soft_words > 0:
            return " ".join(sorted(soft))
        return next((word for word in self._subwords if word in readable), None)


def _first_listed(listed: HashSet, candidates: list[list[str]]) -> list[str | None]:
    """For each row the first of its candidates that is listed."""
    found: list[str | None] = [None] * len(candidates)
    if not len(listed):
        return found
    flat = [(row, name) for row, names in enumerate(candidates) for name in names]
    hits = listed.contains(name for _, name in flat)
    for index in np.flatnonzero(hits).tolist():
        row, name = flat[index]
        found[row] = found[row] or name
    return found


def _hashes(names: Iterable[str]) -> npt.NDArray[np.uint64]:
    import xxhash

    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(name.encode("utf-8", "replace")) for name in names), np.uint64)


def _ascii(host: str) -> str:
    host = unquote(host) if "%" in host else host
    if host.isascii():
        return host.lower()
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return host.lower()


def _last_prefix(entry: str) -> list[str]:
    return list(Address.parse(entry).prefixes)[-1:]


def _whole_word(word: str) -> str:
    lowered = word.strip().lower()
    if not _WORD.fullmatch(lowered):
        raise ValueError(f"{word!r} is not a single word of letters and digits, so it could never be found")
    return lowered


def _category_folders(lists: Path, categories: Sequence[str]) -> list[Path]:
    if not lists.is_dir():
        raise AssetError(
            f"{lists}: no such folder; it should hold one folder per category, as UT1's archive does"
        )
    names = ("domains", "domains.gz", "urls", "urls.gz")
    present = sorted(
        folder.name for folder in lists.iterdir() if any((folder / name).is_file() for name in names)
    )
    if not present:
        raise AssetError(f"{lists}: no category here has a file `domains` or `urls`")
    for wanted in categories:
        if wanted not in present:
            near = difflib.get_close_matches(wanted, present, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(present[:20])}"
            raise AssetError(f"{lists}: no category {wanted!r}; {hint}")
    return [lists / name for name in (categories or present)]


def _entries(folder: Path, name: str) -> Iterator[str]:
    """Lines that say something; files that are not UTF-8 are read as far as they are."""
    for path, opener in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if path.is_file():
            with opener(path, "rt", encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    entry = line.strip()
                    if entry and not entry.startswith("#"):
                        yield entry
