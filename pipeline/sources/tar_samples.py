"""Samples of a tar: consecutive members of one name up to its extension, as webdataset groups them."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Set
from types import ModuleType
from typing import Any, Final

import msgspec

from .containers import TAR_MEMBER, ContainerCounts
from .tar_archive import TarArchive, TarMember

TEXT: Final = b"txt"
JSON: Final = b"json"
_NO_LIMIT: Final = 1 << 62
# Members that webdataset passes over, such as `__meta__/shard.json`.
_META: Final = re.compile(rb"__[^/]*__(?:$|/)")

_INDEX: Final = f"{__package__}.tar_index"
_KERNELS: Final = "thresher.filters.kernels"
# Samples that a process reads before it loads the index, which costs it 0.9 s of CPU, or 0.15 s behind
# another kernel, and saves about 10 us a sample.
_WAIT: Final = 50_000
_WAIT_BEHIND_KERNELS: Final = 5_000


class Sample(msgspec.Struct, gc=False):
    """Members of one name up to its extension; of those that no record needs only the suffixes are kept.

    An image may be a view of more that is in memory. `suffixes` are empty where nothing was wrong.
    """

    key: bytes
    offset: int  # decoded, of its first header
    image: bytes | memoryview | None
    text: bytes | None
    json: bytes | None
    suffixes: set[bytes] | tuple[()] = ()
    error: tuple[str, str] | None = None


class _Compiled:
    """The compiled index, for a process in which it pays."""

    def __init__(self) -> None:
        self._module: ModuleType | None = None
        self._samples = 0

    def module(self) -> ModuleType | None:
        """To be asked at each sample that is read without it."""
        if self._module is None:
            self._samples += 1
            wait = _WAIT_BEHIND_KERNELS if _KERNELS in sys.modules else _WAIT
            if self._samples > wait or _INDEX in sys.modules:
                self._module = importlib.import_module(_INDEX)
        return self._module


compiled: Final = _Compiled()


class Samples:
    """Gives the samples of an archive, and of a sample that has a suffix twice, before it, each member that
    is there again: at most `limit` of both.

    Suffixes are told apart in lower case. A sample's image is the first member with a suffix of `images`. A
    member that is wanted and larger than `largest` bytes, or that the archive ends in, is the sample's error.
    `counts` learns of members that belong to no sample, and of the others in the end.
    """

    def __init__(
        self,
        archive: TarArchive,
        path: str,
        images: Set[bytes],
        largest: int,
        counts: ContainerCounts,
        limit: int | None = None,
    ) -> None:
        self._archive = archive
        self._path = path
        self._images = images
        self._largest = largest
        self._counts = counts
        self._left = _NO_LIMIT if limit is None else limit
        self._met = 0
        self._index: Any = None

    def __iter__(self) -> Iterator[Sample | TarMember]:
        archive = self._archive
        sample: Sample | None = None
        suffixes: set[bytes] = set()
        while self._left and (member := archive.next()) is not None:
            place = self._place(member)
            if place is None:
                continue
            self._met += 1
            key, suffix = place
            if sample is None or sample.key != key:
                if sample is not None:
                    self._left -= 1
                    yield sample
                if found := self._find(member.offset):
                    sample = None
                    yield from found
                    continue
                suffixes = set()
                sample = Sample(key, member.offset, None, None, None, suffixes)
            if suffix not in suffixes:
                suffixes.add(suffix)
                self._add(sample, suffix, member)
            elif self._left:
                self._left -= 1
                yield member
        if sample is not None and self._left:
            self._left -= 1
            yield sample
        if self._met:
            self._counts.meet(TAR_MEMBER, self._met)
            self._counts.read(TAR_MEMBER, self._met)

    def _find(self, offset: int) -> list[Sample]:
        """Samples that are in memory as a whole, from the member at `offset` on, which has been met."""
        if self._index is None:
            module = compiled.module()
            if module is None:
                return []
            wanted = [(suffix, module.IMAGE) for suffix in sorted(self._images)]
            wanted += [(TEXT, module.TEXT), (JSON, module.JSON)]
            self._index = module.SampleIndex(wanted, bool(self._images), self._largest)
        window, at = self._archive.held_from(offset)
        # The last one that the limit allows is read with what follows it, as it always is.
        if at < 0 or self._left < 2:
            return []
        found = self._index.find(window, at, self._left - 1)
        if not found:
            return []
        after = found.pop()
        self._archive.go_on(after[0])
        self._left -= len(found)
        self._met += sum([row[1] for row in found]) - 1
        base, view = offset - at, memoryview(window)
        return [
            Sample(
                view[key:key_stop].tobytes(),
                base + begin,
                view[image:image_stop] if image >= 0 else None,
                view[text:text_stop].tobytes() if text >= 0 else None,
                view[json:json_stop].tobytes() if json >= 0 else None,
            )
            for begin, _, key, key_stop, image, image_stop, text, text_stop, json, json_stop in found
        ]

    def _place(self, member: TarMember) -> tuple[bytes, bytes] | None:
        """Key and suffix; None, and an account, for what is no member of a sample."""
        name = member.name
        if member.kind == "file":
            base = name.rfind(b"/") + 1
            dot = name.find(b".", base)
            meta = name[:2] == b"__" and _META.match(name)
            if dot > base and not meta:
                return name[:dot], name[dot + 1 :].lower()
            reason = "meta" if meta else "no_suffix"
        else:
            reason = member.kind
        self._counts.meet(TAR_MEMBER)
        if reason == "sparse":
            told = name.decode("utf-8", "replace")[:200]
            self._counts.fail(
                TAR_MEMBER, reason, f"{self._path}:{member.offset}", f"{told!r} is stored with holes"
            )
        else:
            self._counts.skip(TAR_MEMBER, reason)
        return None

    def _add(self, sample: Sample, suffix: bytes, member: TarMember) -> None:
        """Reads the member, if a record has use for it."""
        image = sample.image is None and suffix in self._images
        if not image and suffix != TEXT and suffix != JSON:
            return
        if member.size > self._largest:
            told = f"{suffix.decode('utf-8', 'replace')} of {member.size} bytes"
            sample.error = sample.error or ("payload_too_large", told)
            return
        content = self._archive.content()
        if content is None:
            fault = self._archive.fault
            sample.error = ("truncated_member", fault.detail if fault else "")
        elif image:
            sample.image = content
        elif suffix == TEXT:
            sample.text = content
        else:
            sample.json = content
