"""Image records out of the pages that WARC, ARC and HTML files hold."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa

from .containers import PAGE, ContainerCounts
from .page_images import PageError, page_images
from .pairs import pair_id
from .rows import Rows
from .split import Split
from .warc import mime_type


def images_of_pages(
    batches: Iterator[pa.RecordBatch], split: Split, containers: ContainerCounts
) -> Iterator[pa.RecordBatch]:
    """A record for each image of each page, `source` being the page's with `#` and the image's number.

    A page is a container: skipped where it has no image or is no markup, an error where it cannot be read.
    `meta` says the page's address and by which element the image was found.
    """
    rows = Rows()
    left = split.limit
    for batch in batches:
        for page in batch.to_pylist():
            if left == 0:
                break
            containers.meet(PAGE)
            if page["error"] is not None:
                containers.fail(PAGE, page["error"], page["source"], page["detail"])
                continue
            if page["payload"] is None or mime_type(page["content_type"]) == "text/plain":
                containers.skip(PAGE, "not_markup")
                continue
            try:
                images = page_images(page["payload"], page["content_type"], page["url"], split.links)
            except PageError as error:
                containers.fail(PAGE, error.reason, page["source"])
                continue
            if not images:
                containers.skip(PAGE, "no_images")
                continue
            containers.read(PAGE)
            for number, image in enumerate(images[:left]):
                meta = {"page": page["url"], "via": image.via} if page["url"] else {"via": image.via}
                rows.add(
                    pair_id(image.url, None, _valid(image.caption)),
                    f"{page['source']}#{number}",
                    url=image.url,
                    date=page["date"],
                    meta=json.dumps(meta, ensure_ascii=False, separators=(",", ":")),
                    text=_valid(image.caption),
                )
                if rows.full:
                    yield rows.take()
            left = None if left is None else left - len(images[:left])
        if left == 0:
            break
    if len(rows):
        yield rows.take()


def _valid(caption: str | None) -> str | None:
    return caption and caption.encode("utf-8", "replace").decode()
