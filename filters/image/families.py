"""The families of image signals: what computes each of them for a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import AssetError
from ..signal_options import SignalOptions
from ..signal_spec import Columns, Compute, Family, Requests

if TYPE_CHECKING:
    from .header import Header


def _header(columns: Columns, requests: Requests, options: SignalOptions) -> dict[str, pa.Array]:
    from .header import ImageError, read_header

    headers: list[Header | None] = []
    for image in columns["image"]:
        try:
            headers.append(read_header(image.as_py()) if image.is_valid else None)
        except ImageError:
            headers.append(None)
    sizes = _lengths(columns["image"]).to_pylist()
    found: dict[str, pa.Array] = {}
    for name, spec in requests:
        value = _OF_HEADER[spec.name]
        rows = [
            None if header is None else value(header, size)
            for header, size in zip(headers, sizes, strict=True)
        ]
        found[name] = pa.array(rows, spec.type)
    return found


_OF_HEADER: Final[Mapping[str, Callable[[Header, int], Any]]] = MappingProxyType(
    {
        "width": lambda header, size: header.width,
        "height": lambda header, size: header.height,
        "min_side": lambda header, size: min(header.width, header.height),
        "pixels": lambda header, size: header.width * header.height,
        "aspect": lambda header, size: max(header.width, header.height) / min(header.width, header.height),
        "bytes_per_pixel": lambda header, size: size / (header.width * header.height),
        "image_format": lambda header, size: header.format,
        "frames": lambda header, size: header.frames,
        "has_alpha": lambda header, size: header.has_alpha,
    }
)


def _bytes(columns: Columns, requests: Requests, options: SignalOptions) -> dict[str, pa.Array]:
    images = columns["image"]
    found: dict[str, pa.Array] = {}
    for name, spec in requests:
        if spec.name == "image_bytes":
            found[name] = _lengths(images)
        else:
            digests = [
                hashlib.sha256(image.as_buffer()).hexdigest() if image.is_valid else None for image in images
            ]
            found[name] = pa.array(digests, spec.type)
    return found


def _lengths(images: pa.Array) -> pa.Array:
    return pc.binary_length(images).cast(pa.int64())


def _pixels(columns: Columns, requests: Requests, options: SignalOptions) -> dict[str, pa.Array]:
    from .pixels import measure_pixels

    return measure_pixels(columns["image"], requests)


def _caption(columns: Columns, requests: Requests, options: SignalOptions) -> dict[str, pa.Array]:
    from .captions import measure_captions

    return measure_captions(columns["text"], requests)


IMAGE_FAMILIES: Final[Mapping[Family, Compute]] = MappingProxyType(
    {"header": _header, "bytes": _bytes, "pixels": _pixels, "caption": _caption}
)

_DECODING: Final = {"cv2": "opencv-python-headless", "PIL": "pillow"}  # import names, distributions
_PDQ: Final = ("pdq", "pdq_quality")


def image_versions(signals: Mapping[str, Family]) -> dict[str, Any]:
    """What some signals, given with their families, are made with beside their own code: for fingerprints.

    Raises AssetError where a library is missing.
    """
    if "pixels" not in signals.values():
        return {}
    pdq = any(name in _PDQ for name in signals)
    wanted = {**_DECODING, "pdqhash": "pdqhash"} if pdq else _DECODING
    missing = [distribution for module, distribution in wanted.items() if find_spec(module) is None]
    if missing:
        named = " and ".join(name for name, family in signals.items() if family == "pixels")
        raise AssetError(f"{named} needs {' and '.join(missing)}; run `pip install {' '.join(missing)}`")
    from .decode import DECODE_VERSION
    from .libraries import image_libraries

    made: dict[str, Any] = {"decoding": f"{DECODE_VERSION} {image_libraries()}"}
    return made | ({"pdqhash": version("pdqhash")} if pdq else {})
