"""Decoders of Pillow, OpenCV and libjpeg-turbo, each asked for one format and given only the picture."""

from __future__ import annotations

import importlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from .header_model import Header, ImageError
from .headers_gif import lean_gif
from .headers_jpeg import lean_jpeg
from .headers_jpeg2000 import boxes
from .headers_png import lean_png
from .headers_webp import still_webp

if TYPE_CHECKING:
    from PIL import Image

Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# Each scan of a progressive JPEG goes through the whole picture again. Encoders write about ten, and more
# than 500 is what the fuzzers of libjpeg-turbo refuse, as a choice of its authors.
MAX_SCANS: Final = 500
# Pixels of a side from which on no other scale of libjpeg's than the one that is meant gives the same size.
_PLAIN_SIDE: Final = 64
_PARTIAL: Final = frozenset({"jpeg", "png", "gif", "bmp", "tiff"})  # of which a part can be shown

# The plug-ins are called by name: Image.open would try others, and refuses by limits of its own.
_PLUGINS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "jpeg": ("JpegImagePlugin", "JpegImageFile"),
        "png": ("PngImagePlugin", "PngImageFile"),
        "gif": ("GifImagePlugin", "GifImageFile"),
        "bmp": ("BmpImagePlugin", "BmpImageFile"),
        "tiff": ("TiffImagePlugin", "TiffImageFile"),
        "jpeg2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
        "avif": ("AvifImagePlugin", "AvifImageFile"),
    }
)
_LEAN: Final[Mapping[str, Callable[[bytes], bytes]]] = MappingProxyType(
    {"jpeg": lean_jpeg, "png": lean_png, "gif": lean_gif}
)


def by_pillow(data: bytes, header: Header, scale: int, grey: bool, keep: bool) -> Image.Image:
    """The picture, loaded, as it is stored, or of a JPEG its `scale`-th part in each direction.

    With `grey` a JPEG's colours are not decoded. With `keep` data that break off give what there is. Raises
    ImageError.
    """
    lean = _LEAN.get(header.format)
    if lean is not None:
        data = lean(data)
    if _too_many_scans(data, header):
        raise ImageError("undecodable", f"more than {MAX_SCANS} scans")
    try:
        return _load(data, header, scale, grey)
    except ImageError as error:
        if error.reason != "truncated" or not keep or header.format not in _PARTIAL:
            raise
    with _partly():
        return _load(data, header, scale, grey)


def by_turbo(data: bytes, header: Header, scale: int, grey: bool) -> npt.NDArray[np.uint8] | None:
    """What `by_pillow` gives, as RGB or grey pixels, in two thirds of its time: libjpeg-turbo by itself.

    None of what is no JPEG, has colours for print, is tiny, or is damaged: of those Pillow has to tell.
    """
    width, height = header.stored_size
    usual = header.format == "jpeg" and header.mode in ("rgb", "grey") and header.bit_depth == 8
    if not usual or min(width, height) < _PLAIN_SIDE:
        return None
    import simplejpeg  # type: ignore[import-untyped]

    data = lean_jpeg(data)
    if _too_many_scans(data, header):
        return None
    across, down = -(-width // scale), -(-height // scale)
    least = {"min_width": across, "min_height": down} if scale > 1 else {}
    try:
        if simplejpeg.decode_jpeg_header(data)[:2] != (height, width):
            return None
        pixels = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", **least)
    except (ValueError, RuntimeError, MemoryError):
        return None
    if pixels.shape[:2] != (down, across):
        return None
    return np.asarray(pixels[..., 0] if grey else pixels, np.uint8)


def _too_many_scans(data: bytes, header: Header) -> bool:
    return header.format == "jpeg" and header.buffered > 0 and data.count(b"\xff\xda") > MAX_SCANS


def _load(data: bytes, header: Header, scale: int, grey: bool) -> Image.Image:
    module, name = _PLUGINS[header.format]
    width, height = header.stored_size
    try:
        with _quietly(header.format):
            plugin: Any = importlib.import_module(f"PIL.{module}")
            if header.format == "avif":
                plugin.DEFAULT_MAX_THREADS = 1  # processes share the cores, not threads
            image: Image.Image = getattr(plugin, name)(io.BytesIO(data))
            if image.size not in ((width, height), (header.width, header.height)):
                raise ImageError("undecodable", f"{image.size} pixels, and by the header {(width, height)}")
            if header.format == "jpeg" and (scale > 1 or grey):
                image.draft("L" if grey else "RGB", (max(1, width // scale), max(1, height // scale)))
            image.load()
            return image
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("undecodable", "the decoder asks for more memory than there is") from error
    # What decoders meet in damaged data they raise as it comes: SyntaxError, struct.error, ValueError, ...
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        early = "truncated" in said.lower() or _breaks_off(data, header.format)
        detail = said or type(error).__name__
        raise ImageError("truncated" if early else "undecodable", detail) from error


@contextmanager
def _quietly(format: str) -> Iterator[None]:
    """Without Pillow's warnings, which are about metadata that nobody asked for."""
    if format == "jpeg":  # of which there are none, once it is lean
        yield
        return
    with warnings.catch_warnings(), _without_stderr() if format == "tiff" else nullcontext():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Nothing reaches the standard error, to which Pillow lets libtiff write what it finds wrong.

    What other threads write there meanwhile is lost too.
    """
    try:
        saved = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


@contextmanager
def _partly() -> Iterator[None]:
    """Pillow shows what there is of data that break off."""
    from PIL import ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _breaks_off(data: bytes, format: str) -> bool:
    """Whether the data of a format whose decoder does not say so end too early."""
    if format == "jpeg2000":
        return data[-64:].rfind(b"\xff\xd9") < 0
    if format == "avif":
        ends = [end for _, _, end in boxes(data, 0, len(data))]
        return not ends or ends[-1] > len(data)
    return False


def takes_opencv(header: Header) -> bool:
    """Whether OpenCV decodes it: WebP, of which Pillow reads each picture as an animation in twice the memory
    and time, and JPEG 2000 of more than eight bits, in which Pillow 12 turns white into black."""
    return header.format == "webp" or (header.format == "jpeg2000" and header.bit_depth > 8)


def by_opencv(data: bytes, header: Header) -> tuple[Samples, tuple[int, int]]:
    """The samples as they are stored, grey, RGB or BGRA, and where on the canvas they are.

    Raises ImageError.
    """
    cv2 = opencv()
    place = 0, 0
    picture = data
    if header.format == "webp":
        picture, place = still_webp(data)
    lossy = header.format == "webp" and not header.has_alpha
    how = (cv2.IMREAD_COLOR_RGB if lossy else cv2.IMREAD_UNCHANGED) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        samples = cv2.imdecode(np.frombuffer(picture, np.uint8), how)
    except cv2.error as error:
        raise ImageError("undecodable", str(error.err)[:200]) from error
    if samples is None:
        reason = "truncated" if _breaks_off(data, header.format) else "undecodable"
        raise ImageError(reason, "the data are damaged")
    if samples.ndim == 3 and samples.shape[2] == 3 and not lossy:
        samples = samples[..., ::-1]
    return samples, place


def opencv() -> Any:
    """OpenCV, with one thread, since processes share the cores, and without messages of its own."""
    import cv2

    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(0)
    return cv2
