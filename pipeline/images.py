"""The steps of a job that fetch images and change them."""

from __future__ import annotations

from ..filters.image.libraries import image_libraries
from ..schemas import images as schema
from .compiled import MapStep
from .stage import OperatorRef


def compile_download(name: str, options: schema.Download) -> MapStep:
    """Images of the records that have none yet."""
    from .steps.download import Download

    operator = OperatorRef.of(Download, step=name, options=options.model_dump(mode="json"))
    return MapStep(name, operator, frozenset({"url", "image"}), ("image",), edits="image")


def compile_resize(name: str, options: schema.Resize) -> MapStep:
    """Images decoded, made smaller and written again."""
    from ..filters.image.decode import DECODE_VERSION
    from ..filters.image.encode import ENCODE_VERSION
    from .steps.resizing import Resize

    libraries = f"decoding {DECODE_VERSION} encoding {ENCODE_VERSION} {image_libraries()}"
    operator = OperatorRef.of(Resize, step=name, options=options.model_dump(mode="json"), libraries=libraries)
    types = {"original_width": "int32", "original_height": "int32"}
    adds = ("image", *types)
    return MapStep(name, operator, frozenset({"image"}), adds, edits="image", types=types)
