"""What a job may ask for follows from what a record is: a text, or an image with its caption."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from typing import Final

from ..schemas.dedup import PIXELS_OF
from ..schemas.job import Input
from ..schemas.step import Step
from .outline import Outline
from .problems import Path, Problem

IMAGE_VERBS: Final = ("download", "resize")
PAGE_FORMATS: Final = ("warc", "arc", "html")
LINK_FORMATS: Final = ("urls", *PAGE_FORMATS)  # whose records are addresses of images
_IMAGE_FORMATS: Final = ("webdataset", "parquet", "image-folder")
NO_IMAGES_YET: Final = "looks at images, which are only there after download"
_LIST_FORMATS: Final = ("csv", "tsv", "jsonl")
# Import name of each package without which images are neither fetched nor looked at.
_PACKAGES: Final = {
    "aiohttp": "aiohttp",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "simplejpeg": "simplejpeg",
}


def check_modality(outline: Outline) -> Iterator[Problem]:
    """What does not go with the modality of the job."""
    if outline.modality == "text":
        yield from _check_text(outline)
        return
    missing = [name for module, name in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        told = f"needs {', '.join(missing)}: pip install 'thresher[images]'"
        yield Problem(("modality",), told)
    for index, source in enumerate(outline.inputs):
        if source is not None:
            yield from _check_input(source, ("input", index))
    for path, step in outline.all_steps:
        if step is not None and step.kind == "extract":
            yield Problem((*path, "extract"), "takes text out of pages; a record of this job is an image")
    yield from _check_downloads(outline)


def format_of(source: Input) -> str | None:
    """The format of an input's files; None where neither it nor the path says it, or a list names them."""
    from ..pipeline.sources.files import SourceError, guess_format

    try:
        return source.format or guess_format(source.path)
    except SourceError:
        return None


def _check_text(outline: Outline) -> Iterator[Problem]:
    told = "goes with images; write modality: image-text"
    for index, source in enumerate(outline.inputs):
        if source is not None and source.format in ("urls", "image-folder"):
            yield Problem(("input", index, "format"), f"{source.format} {told}")
        for ours in ("image", "caption"):
            if source is not None and ours in source.columns:
                yield Problem(("input", index, "columns", ours), f"{ours} {told}")
    for path, step in outline.all_steps:
        if step is None:
            continue
        if step.kind in IMAGE_VERBS:
            yield Problem((*path, step.kind), f"{step.kind} {told}")
        elif step.kind == "dedup" and (key := _looks_at(step)):
            yield Problem((*path, "dedup", *key), f"{key[0]} {told}" if len(key) == 1 else told)
    if outline.output is not None and outline.output.format == "datacomp":
        yield Problem(("output", "format"), f"datacomp {told}")


def _looks_at(step: Step, beside: Sequence[str] = ("pair",)) -> Path:
    """The place in a dedup step that asks for a picture, or for what stands `beside` one; () where none."""
    method, options = step.options.method, step.options.options
    if method == "perceptual":
        return ("perceptual",)
    if method == "exact" and options.on in (*PIXELS_OF, *beside):
        return ("exact", "on")
    largest = method in ("exact", "minhash") and options.keep.order == "largest"
    return (method, "keep") if largest else ()


def _check_input(source: Input, path: Path) -> Iterator[Problem]:
    kind = format_of(source)
    if kind in _LIST_FORMATS:
        told = f"a {kind} file holds no images; write format: urls for addresses"
        yield Problem((*path, "path"), f"{told}, or image-folder" if kind == "jsonl" else told)
    elif kind == "parquet" and "url" in source.columns and "image" not in source.columns:
        yield Problem((*path, "columns"), "names no image; write format: urls for addresses, or map image")
    elif kind is not None and kind not in (*LINK_FORMATS, *_IMAGE_FORMATS, "paths"):
        yield Problem((*path, "path"), f"{kind} holds no images")


def _check_downloads(outline: Outline) -> Iterator[Problem]:
    """Addresses are downloaded, once, before anything looks at images."""
    for line in outline.lines:
        kinds = [None if source is None else format_of(source) for source in line.inputs]
        verbs = [step.kind if step else None for _, step in line.steps]
        links = [number for number, kind in zip(line.numbers, kinds, strict=True) if kind in LINK_FORMATS]
        needed = outline.output is None or outline.output.format != "datacomp"
        if links and "download" not in verbs and None not in verbs and needed:
            told = "holds addresses of images, and no step fetches them; add download: {}"
            yield Problem(("input", links[0]), told)
        if "download" not in verbs:
            continue
        first = verbs.index("download")
        yield from _check_order(line.steps, first, bool(links))


def _check_order(steps: Sequence[tuple[Path, Step | None]], first: int, links: bool) -> Iterator[Problem]:
    for index, (path, step) in enumerate(steps):
        if step is None:
            continue
        if index > first and step.kind == "download":
            yield Problem((*path, "download"), "images are there already; a record passes one download step")
        looks = step.kind == "resize" or (step.kind == "dedup" and _looks_at(step, ()))
        if index < first and links and looks:
            yield Problem((*path, step.kind), NO_IMAGES_YET)
