"""What dedup of images removes: clusters of every pair of records, found by comparing each with each."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import xxhash
from PIL import Image
from reference_dedup import PAGES

Record = dict[str, Any]
Alike = Callable[[Record, Record], bool]


def alike(method: str, how: dict[str, Any]) -> Alike:
    """Whether two records are copies of each other."""
    if method == "perceptual":
        return lambda one, other: (
            None not in (one["phash"], other["phash"])
            and (one["phash"] ^ other["phash"]).bit_count() <= how["radius"]
        )
    return lambda one, other: value(one, how) is not None and value(one, how) == value(other, how)


def value(record: Record, how: dict[str, Any]) -> Any:
    if how["on"] == "image":
        return record["image"]
    if how["on"] == "pixels":
        return picture(record["image"])
    page = PAGES.get(record["url"], record["url"])
    return None if page is None or record["text"] is None else (page, " ".join(record["text"].split()))


def picture(image: bytes | None) -> Any:
    if image is None:
        return None
    try:
        shown = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    except OSError:
        return None
    return shown.shape, shown.tobytes()


def rank(record: Record, keep: Any) -> tuple[Any, ...]:
    """The least of a cluster survives."""
    if keep == "first":
        return (record["position"],)
    column = {"largest": "pixels", "longest": "text"}.get(keep) if isinstance(keep, str) else keep["best"]
    found = record[column]
    size = None if found is None else len(found) if keep == "longest" else found
    content = (record["text"] or "").encode() if keep == "longest" else record["image"] or b""
    place = (1, 0) if size is None else (0, -size)
    return (*place, record["id"], xxhash.xxh3_64_intdigest(content), record["position"])


def duplicates(
    records: list[Record], method: str, how: dict[str, Any], older: list[Record] | None = None
) -> dict[str, str]:
    """Id of each record that goes -> id of the one that stands for it; `older` are what earlier runs kept."""
    same = alike(method, how)
    lost: dict[str, str] = {}
    fresh = []
    for record in records:
        old = next((one for one in older or [] if same(one, record)), None)
        if old is None:
            fresh.append(record)
        else:
            lost[record["id"]] = old["id"]
    cluster = list(range(len(fresh)))
    for a, b in combinations(range(len(fresh)), 2):
        if cluster[a] != cluster[b] and same(fresh[a], fresh[b]):
            cluster = [cluster[a] if one == cluster[b] else one for one in cluster]
    for label in set(cluster):
        members = [record for record, one in zip(fresh, cluster, strict=True) if one == label]
        best = min(members, key=lambda record: rank(record, how["keep"]))
        lost |= {record["id"]: best["id"] for record in members if record is not best}
    return lost
