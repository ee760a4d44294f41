"""What is wrong with the pairs of the demo, planted one kind after the other and written down.

`plant` draws the pictures into a folder and leaves beside them `served.json`, which tells the server what to
answer at each path, and `truth.json`, which tells what was planted in each row of the list of addresses.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import scenes
from PIL import Image, ImageDraw, ImageFilter

Answer = dict[str, Any]  # what the server does at a path: see server.py
JPEG = "image/jpeg"


@dataclass(frozen=True)
class Kind:
    """A defect: how many rows of a thousand have it, and the step of images.yaml that has to see it.

    Without a step the pair has to come through. `least`: rows, however short the list is.
    """

    share: int
    step: str = ""
    least: int = 2


# In the order of the table that the demo prints.
KINDS: dict[str, Kind] = {
    "repeated row": Kind(30, "repeated_pair"),
    "file name as caption": Kind(20, "file_name"),
    "boilerplate as caption": Kind(20, "boilerplate"),
    "caption in another language": Kind(15, "english"),
    "one caption for many": Kind(20, "common_caption", least=15),
    "wrong scheme": Kind(2, "download"),
    "not found": Kind(30, "download"),
    "never ends": Kind(3, "download"),
    "redirect to a private address": Kind(6, "download", least=4),
    "redirect loop": Kind(5, "download"),
    "opted out": Kind(20, "download", least=4),
    "page instead of picture": Kind(15, "download"),
    "no picture at all": Kind(10, "download"),
    "tiny": Kind(20, "datacomp_basic"),
    "elongated": Kind(20, "datacomp_basic"),
    "truncated": Kind(15, "resize"),
    "25,000 x 25,000 pixels": Kind(2, "resize"),
    "blank": Kind(10, "blank"),
    "blurred": Kind(20, "blurred"),
    "placeholder": Kind(20, "placeholder", least=15),
    "exact copy": Kind(40, "same_image"),
    "near copy": Kind(40, "near_copy"),
    "moved": Kind(20),
    "503 at first": Kind(15),
    "429 at first": Kind(3),
    "swapped captions": Kind(30),
}
GOOD = "sound"
COPIES = ("repeated row", "exact copy", "near copy")  # of sound pictures, one of each at most
FEWEST = 100

BOILERPLATE = (
    "Thumbnail for version as of 12:04",
    "image not found",
    "Click to enlarge",
    "untitled",
    "Read more",
)
ELSEWHERE = (
    "ein kleines Haus mit rotem Dach am See",
    "une petite maison au toit rouge près du lac",
    "una casa pequeña con techo rojo junto al lago",
    "un gatto nero dorme sul divano di casa",
    "een oude molen aan het water in de winter",
)
SHARED = "buy the best gifts online at our shop today"
FILE_NAMES = ("IMG_{0:04d}.jpg", "DSC{0:05d}.JPG", "photo-{0}.png", "scan_{0:03d}.jpeg")
PRIVATE = (
    "http://10.0.0.7/picture.jpg",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:192.168.0.1]/picture.jpg",
    "http://0x7f000001:9/picture.jpg",
)
OPT_OUTS = (
    {"X-Robots-Tag": "noai"},
    {"X-Robots-Tag": "noimageindex, noimageai"},
    {"X-Robots-Tag": "thresher: noindex"},
    {"TDM-Reservation": "1"},
)
FOREIGN = ("file:///etc/hostname", "data:image/png;base64,iVBORw0KGgo=", "ftp://127.0.0.1/picture.jpg")
PAGE = "<!DOCTYPE html>\n<html><head><title>Gone</title></head><body>This picture has moved.</body></html>\n"


@dataclass
class Row:
    """A row of the list, and what its address answers."""

    kind: str
    path: str  # below the server's address; a whole URL where it is not the server's
    caption: str
    picture: int  # rows with the same number show the same picture
    answer: Answer = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """What the truth file says."""
        return {name: value for name, value in asdict(self).items() if name != "answer"}


def counts(rows: int) -> dict[str, int]:
    """Rows of each kind in a list of so many; what is not planted is sound."""
    planted = {name: max(kind.least, rows * kind.share // 1000) for name, kind in KINDS.items()}
    sound = rows - sum(planted.values())
    if sound < sum(planted[name] for name in COPIES):
        raise SystemExit(f"{rows} rows are too few to plant everything in; {FEWEST} are enough")
    return {GOOD: sound, **planted}


def plant(folder: Path, rows: int, seed: int = 0) -> list[Row]:
    """Draws the pictures of a list of so many rows; does not where they are there already."""
    asked, made = {"rows": rows, "seed": seed}, folder / "truth.json"
    if made.exists():
        found = json.loads(made.read_text(encoding="utf-8"))
        if found["asked"] == asked:
            return [Row(**row) for row in found["rows"]]
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    names = [name for name, count in counts(rows).items() for _ in range(count)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        draw = partial(_make, folder / "pictures", seed)
        planted = list(pool.map(draw, range(rows), names, _pictures(names), chunksize=32))
    swapped = [row for row in planted if row.kind == "swapped captions"]
    captions = [row.caption for row in swapped]
    for row, caption in zip(swapped, captions[1:] + captions[:1], strict=True):
        row.caption = caption
    answers = {row.path: row.answer for row in planted if row.answer}
    for row in planted:
        if row.kind == "moved":
            answers[f"/old{row.path}"] = {"status": 301, "headers": {"Location": row.path}}
            row.path = f"/old{row.path}"
    Random(seed).shuffle(planted)
    (folder / "served.json").write_text(json.dumps(answers), encoding="utf-8")
    truth = {"asked": asked, "rows": [row.told() for row in planted]}
    made.write_text(json.dumps(truth), encoding="utf-8")
    return planted


def _pictures(names: list[str]) -> list[int]:
    """The number of what each row shows: its own, or that of the sound picture that it is a copy of."""
    pictures, source = [], 0
    for number, name in enumerate(names):
        if name in COPIES:
            pictures.append(source)
            source += 1
        else:
            pictures.append(number)
    return pictures


def _make(folder: Path, seed: int, number: int, kind: str, picture: int) -> Row:
    """Draws one picture and says what is answered in its place."""
    random = Random(f"{seed}:{picture}")  # of what a copy shares with its original
    scene = scenes.draw(random, SIZES[kind](random) if kind in SIZES else None)
    encoding = random.choice(scenes.FORMATS)
    path = f"/pictures/{picture:05d}.{scenes.EXTENSIONS[encoding]}"
    random = Random(f"{seed}:{number}:{kind}")
    row = Row(kind, path, _caption(kind, scene.caption, random), picture)
    if kind == "wrong scheme":
        row.path = FOREIGN[number % len(FOREIGN)]
    elif kind != "repeated row":
        if kind in COPIES:
            row.path = f"/copies/{number:05d}.{scenes.EXTENSIONS[encoding]}"
        row.answer = _answer(kind, number, row.path, encoding)
        if "file" in row.answer:
            body = _body(kind, scene.picture, encoding, random)
            (folder / row.answer["file"]).write_bytes(body)
    return row


# Kinds whose pictures have sides of their own.
SIZES: dict[str, Callable[[Random], tuple[int, int]]] = {
    "tiny": lambda random: (random.randint(48, 180), random.randint(48, 180)),
    "elongated": lambda random: (random.randint(840, 1200), random.randint(210, 240)),
}


def _caption(kind: str, caption: str, random: Random) -> str:
    if kind == "file name as caption":
        return random.choice(FILE_NAMES).format(random.randrange(10_000))
    if kind == "boilerplate as caption":
        return random.choice(BOILERPLATE)
    if kind == "caption in another language":
        return random.choice(ELSEWHERE)
    if kind == "one caption for many":
        return SHARED
    return f"picture of {caption}" if kind == "near copy" else caption


def _answer(kind: str, number: int, path: str, encoding: str) -> Answer:
    """What the server does: see server.py."""
    file = {"file": f"{number:05d}", "type": f"image/{encoding.lower()}"}
    if kind == "not found":
        return {"status": 404}
    if kind == "never ends":
        return {**file, "drips": True}
    if kind == "redirect to a private address":
        return {"status": 302, "headers": {"Location": PRIVATE[number % len(PRIVATE)]}}
    if kind == "redirect loop":
        return {"status": 302, "headers": {"Location": path}}
    if kind == "opted out":
        return {**file, "headers": OPT_OUTS[number % len(OPT_OUTS)]}
    if kind == "503 at first":
        return {**file, "first": {"status": 503}}
    if kind == "429 at first":
        return {**file, "first": {"status": 429, "headers": {"Retry-After": "1"}}}
    return file


def _body(kind: str, picture: Image.Image, encoding: str, random: Random) -> bytes:
    """The bytes that are served: those of the picture, or what has become of them."""
    if kind == "page instead of picture":
        return PAGE.encode()
    if kind == "no picture at all":
        return random.randbytes(random.randint(200, 5_000))
    if kind == "25,000 x 25,000 pixels":
        return _huge()
    if kind == "placeholder":
        return scenes.encode(_placeholder(), "PNG")
    if kind == "blank":
        return scenes.encode(
            Image.new("RGB", picture.size, random.choice(list(scenes.COLOURS.values()))), encoding
        )
    if kind == "blurred":
        return scenes.encode(picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 20)), encoding)
    if kind == "near copy":
        least = 210 / min(picture.size)
        factor = random.uniform(max(0.5, least), 0.95)
        smaller = picture.resize([round(side * factor) for side in picture.size], Image.Resampling.LANCZOS)
        return scenes.encode(smaller, random.choice(("JPEG", "WEBP")), random.randint(50, 80))
    whole = scenes.encode(picture, encoding)
    return whole[: int(len(whole) * random.uniform(0.3, 0.8))] if kind == "truncated" else whole


@cache
def _placeholder() -> Image.Image:
    """What a host shows where it has no picture any more."""
    picture = Image.new("RGB", (480, 360), (226, 226, 226))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((140, 90, 340, 230), outline=(150, 150, 150), width=8)
    pen.polygon([(150, 220), (215, 140), (255, 190), (285, 160), (330, 220)], fill=(150, 150, 150))
    pen.text((165, 260), "picture not available", fill=(90, 90, 90))
    return picture


@cache
def _huge() -> bytes:
    """A PNG of 25,000 x 25,000 black pixels of one bit in less than 100 kB."""
    side = 25_000
    packer = zlib.compressobj(9)
    line = bytes(1 + -(-side // 8))
    data = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
