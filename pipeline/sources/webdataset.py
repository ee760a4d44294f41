"""WebDataset: tar archives in which the members of one sample follow one another."""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO
from typing import Any, BinaryIO, Final

import msgspec
import pyarrow as pa

from .beside import Beside, find_beside
from .compression import Decoded, Fault, compression_of
from .containers import ContainerCounts
from .jsonl import LineParser, RecordError, parse_object
from .pairs import IDS_OF_SAMPLES, PairFields
from .rows import content_id
from .sample_rows import SampleRows
from .split import Split
from .tar_archive import PlainFile, TarArchive, TarMember
from .tar_samples import Sample, Samples

# What webdataset and img2dataset call images, and other encodings of them; `img` says none.
IMAGE_SUFFIXES: Final = frozenset(
    b"jpg jpeg jpe jfif png webp gif bmp tif tiff avif heic jp2 j2k ppm pgm img image".split()
)
_DECODE: Final = msgspec.json.Decoder().decode


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
        self._rows = SampleRows(split.path)
        self._pairs = split.modality == "image-text"
        wanted = split.columns.get("image")
        images = frozenset([wanted.lower().encode()]) if wanted else IMAGE_SUFFIXES
        self._fields = PairFields(split.columns, IDS_OF_SAMPLES)
        self._parser = LineParser(split.columns)
        self._beside: Beside | None = None
        file.seek(0)
        compression = compression_of(file.read(4))
        file.seek(0)
        if isinstance(file, FileIO) and compression == "plain":
            self._archive = TarArchive(PlainFile(file))
        else:
            self._archive = TarArchive(Decoded(file, compression, 0, split.limits))
        self._samples = Samples(
            self._archive,
            split.path,
            images if self._pairs else frozenset(),
            split.limits.max_payload_bytes,
            counts,
            split.limit,
        )

    def read(self) -> Iterator[pa.RecordBatch]:
        """Batches of RAW_TEXT. Raises OSError only where the file system does."""
        self._beside = find_beside(self._split.path, self._counts) if self._pairs else None
        rows = self._rows
        add = self._add_pair if self._pairs else self._add_text
        for sample in self._samples:
            if isinstance(sample, TarMember):
                self._refuse(sample)
                continue
            try:
                if sample.error is not None:
                    raise RecordError(*sample.error)
                add(sample)
            except RecordError as error:
                self._fail(sample, error)
            if rows.full:
                yield rows.take()
        if self._beside is not None:
            self._beside.close()
        if self._archive.fault is not None:
            self.faults.append(self._archive.fault)
        if len(rows):
            yield rows.take()

    def _add_pair(self, sample: Sample) -> None:
        fields = {} if sample.json is None else _object(sample.json)
        key = sample.key.decode("utf-8", "replace")
        if self._beside is not None:
            self._beside.fill(fields, key)
        identity = self._fields.identity(fields)
        image = sample.image
        if not image:
            raise RecordError("no_image", _told(sample), identity)
        caption = _decoded(sample.text, identity)
        fields.setdefault("key", key)
        self._rows.add(sample.offset, *self._fields.take(fields, identity, image, caption), image)

    def _add_text(self, sample: Sample) -> None:
        fields = {} if sample.json is None else _object(sample.json)
        text = _decoded(sample.text, None)
        if text is not None and "html" not in self._split.columns:
            fields[self._parser.field] = text
        self._rows.add(sample.offset, **self._parser.record(fields))

    def _fail(self, sample: Sample, error: RecordError) -> None:
        """The row of a sample that cannot be used."""
        held = b"".join(part for part in (sample.image, sample.text, sample.json) if part)
        key = sample.key.decode("utf-8", "replace")[:200]
        detail = f"sample {key!r}: {error.detail}" if error.detail else f"sample {key!r}"
        identity = error.record or content_id(None, held or sample.key)
        self._rows.add(sample.offset, identity, error=error.reason, detail=detail)

    def _refuse(self, member: TarMember) -> None:
        """The row of a member that its sample has already."""
        told = member.name.decode("utf-8", "replace")[:200]
        identity = content_id(None, b"%d:%b" % (member.offset, member.name))
        self._rows.add(member.offset, identity, error="duplicate_member", detail=f"{told!r} is there twice")


def _object(data: bytes) -> dict[str, Any]:
    """What `parse_object` gives, sooner where all is well. Raises RecordError."""
    try:
        found = _DECODE(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return parse_object(data)
    return found if type(found) is dict else parse_object(data)


def _decoded(text: bytes | None, identity: str | None) -> str | None:
    if text is None:
        return None
    try:
        return text.decode()
    except UnicodeDecodeError as problem:
        raise RecordError(
            "invalid_utf8", f"txt: {problem.reason} at byte {problem.start}", identity
        ) from problem


def _told(sample: Sample) -> str:
    if sample.image is not None:
        return "its image holds no bytes"
    return f"it has {', '.join(sorted(s.decode('utf-8', 'replace')[:20] for s in sample.suffixes)[:10])}"
