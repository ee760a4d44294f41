"""WebDataset: tar archives in which the members of one sample follow one another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import pyarrow as pa

from .beside import Beside, find_beside
from .compression import Decoded, Fault, compression_of
from .containers import TAR_MEMBER, ContainerCounts
from .jsonl import LineParser, RecordError, parse_object
from .pairs import IDS_OF_SAMPLES, PairFields
from .rows import Rows, content_id
from .split import Split
from .tar_archive import TarArchive, TarMember

# What webdataset and img2dataset call images, and other encodings of them; `img` says none.
IMAGE_SUFFIXES: Final = frozenset(
    b"jpg jpeg jpe jfif png webp gif bmp tif tiff avif heic jp2 j2k ppm pgm img image".split()
)
_TEXT: Final = b"txt"
_JSON: Final = b"json"
# Members that webdataset passes over, such as `__meta__/shard.json`.
_META: Final = re.compile(rb"__[^/]*__(?:$|/)")


@dataclass(slots=True)
class _Sample:
    """Members of one name up to its extension; of those that no record needs only the suffixes are kept."""

    key: bytes
    offset: int
    suffixes: set[bytes] = field(default_factory=set)
    image: bytes | None = None
    text: bytes | None = None
    json: bytes | None = None
    error: tuple[str, str] | None = None


class WebDatasetReader:
    """Reads the samples of a tar, plain, gzip or zstd, in its order.

    A sample is what webdataset makes one: consecutive members of one name up to the first dot after the last
    slash, told apart by what follows it, in lower case. A member whose suffix the sample has already is a
    record with the error `duplicate_member`, and the first one counts. Links, devices, folders and names
    without a suffix are skipped, sparse members refused; a member is a container of kind `tar_member`.
    `faults` says what was wrong with the archive.
    """

    def __init__(self, file: BinaryIO, split: Split, counts: ContainerCounts) -> None:
        self.faults: list[Fault] = []
        self._split = split
        self._counts = counts
        self._left = split.limit
        self._rows = Rows()
        self._pairs = split.modality == "image-text"
        self._most = split.limits.max_payload_bytes
        wanted = split.columns.get("image")
        self._images = frozenset([wanted.lower().encode()]) if wanted else IMAGE_SUFFIXES
        self._fields = PairFields(split.columns, IDS_OF_SAMPLES)
        self._parser = LineParser(split.columns)
        self._beside: Beside | None = None
        file.seek(0)
        compression = compression_of(file.read(4))
        file.seek(0)
        self._archive = TarArchive(Decoded(file, compression, 0, split.limits))

    def read(self) -> Iterator[pa.RecordBatch]:
        """Batches of RAW_TEXT. Raises OSError only where the file system does."""
        self._beside = find_beside(self._split.path, self._counts) if self._pairs else None
        sample: _Sample | None = None
        met = 0
        while self._left != 0 and (member := self._archive.next()) is not None:
            place = self._place(member)
            if place is None:
                continue
            met += 1
            key, suffix = place
            if sample is None or sample.key != key:
                if sample is not None:
                    self._take(sample)
                    if self._rows.full:
                        yield self._rows.take()
                sample = _Sample(key, member.offset)
            if suffix in sample.suffixes:
                self._refuse(member)
            else:
                sample.suffixes.add(suffix)
                self._add(sample, suffix, member)
        if sample is not None:
            self._take(sample)
        if met:
            self._counts.meet(TAR_MEMBER, met)
            self._counts.read(TAR_MEMBER, met)
        if self._beside is not None:
            self._beside.close()
        if self._archive.fault is not None:
            self.faults.append(self._archive.fault)
        if len(self._rows):
            yield self._rows.take()

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
                TAR_MEMBER, reason, self._source(member.offset), f"{told!r} is stored with holes"
            )
        else:
            self._counts.skip(TAR_MEMBER, reason)
        return None

    def _add(self, sample: _Sample, suffix: bytes, member: TarMember) -> None:
        """Reads the member, if a record has use for it."""
        image = self._pairs and sample.image is None and suffix in self._images
        if not image and suffix != _TEXT and suffix != _JSON:
            return
        if member.size > self._most:
            told = f"{suffix.decode('utf-8', 'replace')} of {member.size} bytes"
            sample.error = sample.error or ("payload_too_large", told)
            return
        content = self._archive.content()
        if content is None:
            fault = self._archive.fault
            sample.error = ("truncated_member", fault.detail if fault else "")
        elif image:
            sample.image = content
        elif suffix == _TEXT:
            sample.text = content
        else:
            sample.json = content

    def _refuse(self, member: TarMember) -> None:
        if self._left == 0:
            return
        told = member.name.decode("utf-8", "replace")[:200]
        source = self._source(member.offset)
        identity = content_id(None, b"%d:%b" % (member.offset, member.name))
        self._rows.add(identity, source, error="duplicate_member", detail=f"{told!r} is there twice")
        self._given()

    def _take(self, sample: _Sample) -> None:
        """The row of a sample, readable or not."""
        if self._left == 0:
            return
        source = self._source(sample.offset)
        try:
            if sample.error is not None:
                raise RecordError(*sample.error)
            self._rows.add(source=source, **(self._pair(sample) if self._pairs else self._text(sample)))
        except RecordError as error:
            held = b"".join(part for part in (sample.image, sample.text, sample.json) if part)
            key = sample.key.decode("utf-8", "replace")[:200]
            detail = f"sample {key!r}: {error.detail}" if error.detail else f"sample {key!r}"
            identity = error.record or content_id(None, held or sample.key)
            self._rows.add(identity, source, error=error.reason, detail=detail)
        self._given()

    def _pair(self, sample: _Sample) -> dict[str, Any]:
        fields = {} if sample.json is None else parse_object(sample.json)
        key = sample.key.decode("utf-8", "replace")
        if self._beside is not None:
            self._beside.fill(fields, key)
        identity = self._fields.identity(fields)
        if not sample.image:
            raise RecordError("no_image", _told(sample), identity)
        caption = _decoded(sample.text, identity)
        fields.setdefault("key", key)
        return self._fields.record(fields, identity, sample.image, caption)

    def _text(self, sample: _Sample) -> dict[str, Any]:
        fields = {} if sample.json is None else parse_object(sample.json)
        text = _decoded(sample.text, None)
        if text is not None and "html" not in self._split.columns:
            fields[self._parser.field] = text
        return self._parser.record(fields)

    def _given(self) -> None:
        self._left = None if self._left is None else self._left - 1

    def _source(self, offset: int) -> str:
        return f"{self._split.path}:{offset}"


def _decoded(text: bytes | None, identity: str | None) -> str | None:
    if text is None:
        return None
    try:
        return text.decode()
    except UnicodeDecodeError as problem:
        raise RecordError(
            "invalid_utf8", f"txt: {problem.reason} at byte {problem.start}", identity
        ) from problem


def _told(sample: _Sample) -> str:
    if sample.image is not None:
        return "its image holds no bytes"
    return f"it has {', '.join(sorted(s.decode('utf-8', 'replace')[:20] for s in sample.suffixes)[:10])}"
