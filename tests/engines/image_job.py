"""One image-text job with everything that can go wrong on an engine, and what it leaves."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import thresher
from engine_settings import Setting
from PIL import Image
from whole_job import Outcome

SOUND, EXACT, NEAR, SMALL, BLANK, BROKEN, COMMON = 60, 8, 8, 5, 4, 3, 7
ONE_CAPTION = "the same words beside each of these"


@dataclass(frozen=True)
class Pair:
    """A drawn picture as a file, and its caption."""

    image: bytes
    caption: str


def picture(number: int, size: tuple[int, int] | None = None) -> Image.Image:
    """Clouds that look like those of no other number."""
    random = np.random.default_rng(number)
    seeds = random.integers(0, 256, (7, 7, 3), np.uint8)
    width, height = random.integers(90, 200, 2)
    return Image.fromarray(seeds).resize(size or (int(width), int(height)), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def pairs() -> list[Pair]:
    """So many pairs of each sort, in a fixed order that mixes them."""
    sound = [Pair(encoded(picture(n), ("PNG", "JPEG")[n % 2]), f"clouds number {n}") for n in range(SOUND)]
    made = list(sound)
    made += [Pair(sound[n].image, f"clouds number {n}, once more") for n in range(EXACT)]
    for number in range(EXACT, EXACT + NEAR):
        whole = picture(number)
        smaller = whole.resize([side * 4 // 5 for side in whole.size], Image.Resampling.LANCZOS)
        made.append(Pair(encoded(smaller, "JPEG", quality=70), f"clouds like number {number}"))
    made += [Pair(encoded(picture(1000 + n, (30, 40))), f"small clouds {n}") for n in range(SMALL)]
    blank = [Image.new("RGB", (120, 100 + n), (200, 10 * n, 90)) for n in range(BLANK)]
    made += [Pair(encoded(one), f"nothing {n}") for n, one in enumerate(blank)]
    made += [Pair(encoded(picture(2000 + n))[:-2000], f"half of it {n}") for n in range(BROKEN)]
    made += [Pair(encoded(picture(3000 + n)), ONE_CAPTION) for n in range(COMMON)]
    order = np.random.default_rng(0).permutation(len(made))
    return [made[place] for place in order]


def make_input(folder: Path) -> Path:
    """The pairs in three tars, and the last of them in a folder with JSON Lines."""
    made = pairs()
    for number in range(3):
        (folder / "tars").mkdir(exist_ok=True)
        with tarfile.open(folder / "tars" / f"{number:05d}.tar", "w") as tar:
            for index, pair in enumerate(made[number:-20:3]):
                for extension, content in (("png", pair.image), ("txt", pair.caption.encode())):
                    member = tarfile.TarInfo(f"{number}{index:04d}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    (folder / "folder").mkdir()
    lines = []
    for index, pair in enumerate(made[-20:]):
        (folder / "folder" / f"{index:02d}.png").write_bytes(pair.image)
        lines.append(json.dumps({"file": f"{index:02d}.png", "caption": pair.caption}))
    (folder / "folder" / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def job(folder: Path, out: str, work: str, setting: Setting) -> dict[str, Any]:
    """Two inputs, rules on header, pixels and captions, counts over the corpus, both kinds of dedup."""
    return {
        "name": "images-everywhere",
        "modality": "image-text",
        "input": [
            {"name": "tars", "path": str(folder / "tars" / "*.tar"), "format": "webdataset"},
            {"name": "folder", "path": str(folder / "folder" / "pairs.jsonl"), "format": "image-folder"},
        ],
        "steps": [
            {"rule": "min_side >= 48", "name": "small"},
            {"resize": {"mode": "keep_ratio", "size": 64}, "name": "resize"},
            {"rule": "not near_uniform", "name": "blank"},
            {"signals": ["brightness", "image_format"]},
            {"frequency": {"max": 6}, "name": "common"},
            {"frequency": {"of": "image", "distinct": "text"}, "as": "captions"},
            {"dedup": {"exact": {"on": "image"}}, "name": "exact"},
            {"dedup": {"perceptual": {"radius": 8, "keep": {"best": "original_width"}}}, "name": "near"},
        ],
        "output": {"path": out, "format": "webdataset", "shard": "40KB", "shuffle": "parts", "card": False},
        "run": {**setting.run, "part": "60KB", "work": work, "directory": str(folder)},
    }


def run(described: dict[str, Any]) -> Outcome:
    """Runs a job to its end and reads what it leaves; a shard is also what lies beside it."""
    thresher.run(thresher.load(described))
    files, root = fsspec.core.url_to_fs(described["output"]["path"])
    files.invalidate_cache()

    def digests(pattern: str) -> dict[str, str]:
        found = sorted(files.glob(f"{root}/{pattern}"))
        return {path.rpartition("/")[2]: hashlib.sha256(files.cat_file(path)).hexdigest() for path in found}

    manifest = json.loads(files.cat_file(f"{root}/manifest.json"))
    listed = [file for shard in manifest["shards"] for file in (shard, *shard.get("sidecars", ()))]
    shards = digests("shard-*")
    assert shards == {file["path"]: file["sha256"] for file in listed}
    return Outcome(shards, digests("ledger/*"), manifest["totals"])
