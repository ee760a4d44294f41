"""Pictures of two colours, one above the other, and captions that say which."""

from __future__ import annotations

import io
import json
from pathlib import Path
from random import Random

import pyarrow as pa

SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("payload", pa.binary())])
COLOURS = {
    "red": (210, 40, 40),
    "blue": (40, 60, 200),
    "green": (40, 160, 60),
    "yellow": (240, 220, 50),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
}


def draw(number: int) -> tuple[str, bytes]:
    """A caption and a PNG, with strokes that make each picture another one."""
    from PIL import Image, ImageDraw

    random = Random(number)
    above, below = random.sample(sorted(COLOURS), 2)
    picture = Image.new("RGB", (40, 40), COLOURS[above])
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 20, 40, 40), fill=COLOURS[below])
    for _ in range(4):
        pen.line([random.randrange(40) for _ in range(4)], fill=(128, 128, 128), width=2)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return f"{above} above {below}", out.getvalue()


def batch(count: int) -> pa.RecordBatch:
    """So many pairs, as the trainer takes them."""
    captions, images = zip(*map(draw, range(count)), strict=True)
    ids = [f"pair {number}" for number in range(count)]
    return pa.RecordBatch.from_pydict({"id": ids, "text": captions, "payload": images}, SCHEMA)


def write_folder(folder: Path, count: int) -> Path:
    """The same pairs as files with a list beside them; returns the list."""
    lines = []
    for number in range(count):
        caption, image = draw(number)
        (folder / f"{number}.png").write_bytes(image)
        lines.append(json.dumps({"file": f"{number}.png", "caption": caption, "id": f"pair {number}"}))
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path
