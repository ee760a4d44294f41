"""The step that makes images smaller and writes them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final, NamedTuple

import pyarrow as pa

from ...filters.image.decode import decode
from ...filters.image.encode import encode
from ...filters.image.header import Header, ImageError, read_header
from ...filters.image.resize import RESIZE_VERSION, decode_resized
from ...schemas.ledger import ERROR
from ..operator import Operator, Output
from .binary import binary_array

BATCH_BYTES: Final = 16 << 20  # of images that a batch holds, about: they may have grown


class _Made(NamedTuple):
    image: bytes | None
    width: int | None = None  # as it was, and as it was shown
    height: int | None = None
    reason: str | None = None
    detail: str | None = None


class Resize(Operator):
    """Replaces `image`, and adds `original_width` and `original_height`, those of the picture as shown.

    An image that gives no picture is an error with its reason; so is a record without one, as `no_image`.
    `options` are those of schemas.images.Resize, `libraries` the versions of what decodes and encodes, for
    the fingerprint. Images of several frames are counted as `animations`.
    """

    version = RESIZE_VERSION
    kernels: ClassVar[tuple[str, ...]] = ("cv2", "simplejpeg", "PIL.JpegImagePlugin", "PIL.PngImagePlugin")

    @classmethod
    def kernels_with(cls, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        """See Operator.kernels_with; those that stay as they are need nothing compiled."""
        if arguments["options"]["encode"] == "original":
            return cls.kernels
        return *cls.kernels, "thresher.filters.image.area"

    def __init__(self, step: str, options: Mapping[str, Any], libraries: str) -> None:
        self._step, self._options = step, options
        matte = bytes.fromhex(options["matte"][1:])
        self._matte = matte[0], matte[1], matte[2]
        self._limits = {"max_pixels": options["max_pixels"], "truncated": options["truncated"]}

    def apply(self, batch: pa.RecordBatch, out: Output) -> pa.RecordBatch:
        return pa.concat_batches(self._pieces(batch, out))

    def flow(self, batches: Iterator[pa.RecordBatch], out: Output) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from self._pieces(batch, out)

    def _pieces(self, batch: pa.RecordBatch, out: Output) -> Iterator[pa.RecordBatch]:
        """The batch, in as many pieces as its new images need, at least one."""
        images = batch.column("image")
        made: list[_Made] = []
        start = held = 0
        for row, image in enumerate(images):
            made.append(self._make(image.as_buffer(), out))
            held += len(made[-1].image or b"")
            if held >= BATCH_BYTES:
                yield self._piece(batch.slice(start, len(made)), made, out)
                made, start, held = [], row + 1, 0
        if made or not start:
            yield self._piece(batch.slice(start), made, out)

    def _piece(self, batch: pa.RecordBatch, made: list[_Made], out: Output) -> pa.RecordBatch:
        columns = {name: batch.column(name) for name in batch.schema.names} | {
            "image": binary_array([one.image for one in made]),
            "original_width": pa.array([one.width for one in made], pa.int32()),
            "original_height": pa.array([one.height for one in made], pa.int32()),
        }
        reasons = pa.array([one.reason for one in made], pa.string())
        details = pa.array([one.detail for one in made], pa.string())
        return out.drop(self._step, pa.RecordBatch.from_pydict(columns), reasons, details, ERROR)

    def _make(self, image: pa.Buffer | None, out: Output) -> _Made:
        if image is None:
            return _Made(None, reason="no_image")
        data = image.to_pybytes()
        try:
            header = read_header(data)
            new = self._new(data, header)
        except ImageError as error:
            return _Made(None, reason=error.reason, detail=error.detail or None)
        if header.frames > 1:
            out.accounts.note(self._step, animations=1)
        return _Made(new, header.width, header.height)

    def _new(self, data: bytes, header: Header) -> bytes:
        options = self._options
        if options["encode"] == "original":
            decode(data, header=header, at_least=1, **self._limits)
            return data
        pixels = decode_resized(
            data,
            options["mode"],
            options["size"],
            only_larger=options["only_larger"],
            # JPEG has no alpha; the others keep that of the image.
            matte=self._matte if options["encode"] == "jpeg" else None,
            border=self._matte,
            header=header,
            **self._limits,
        )
        try:
            return encode(pixels, options["encode"], options["quality"])
        except ValueError as error:
            raise ImageError("too_large_to_encode", str(error)) from error
