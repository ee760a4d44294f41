"""The libraries that decode images, for fingerprints: another version may decode to other pixels."""

from __future__ import annotations


def image_libraries() -> str:
    """Their names and versions. Raises ImportError where one is missing."""
    import cv2
    import PIL
    import simplejpeg  # type: ignore[import-untyped]

    return f"cv2 {cv2.__version__} PIL {PIL.__version__} simplejpeg {simplejpeg.__version__}"
