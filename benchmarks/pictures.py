"""Pictures to measure with: JPEGs of about 98 kB, drawn from a seed, as files of a server, or in tars.

python benchmarks/pictures.py FOLDER      # serves what `draw` has left there, and prints the port
"""

from __future__ import annotations

import asyncio
import io
import json
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

DISTINCT = 200  # pictures; what is more of them differs in a comment
SIZES = ((960, 720), (800, 600), (640, 853), (1024, 576))
QUALITIES = {True: 93, False: 88}  # of those that are served, and of small ones
WORDS = ("river", "market", "lantern", "bridge", "garden", "window", "harbour", "winter", "letter", "castle")


def draw(folder: Path, side: int | None = None, distinct: int = DISTINCT) -> list[Path]:
    """Draws the pictures that are not there yet; their smaller side is `side` where that is given."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.jpg" for number in range(distinct)]
    for number, path in enumerate(paths):
        if not path.exists():
            path.write_bytes(_jpeg(number, side))
    return paths


def crawled(number: int) -> bytes:
    """A JPEG of 320 x 240 pixels: of ten numbers one has the file of another, one its picture."""
    kind, source = number % 10, number - number % 10
    return _small(source if kind > 7 else number, 70 if kind == 8 else QUALITIES[False])


def _small(number: int, quality: int) -> bytes:
    random = np.random.default_rng(number)
    picture = np.zeros((240, 320, 3), np.int16)
    for cells, weight in ((7, 2), (80, 4)):
        seeds = random.integers(0, 256, (cells, cells, 3), np.uint8)
        layer = Image.fromarray(seeds).resize((320, 240), Image.Resampling.BILINEAR)
        picture += np.asarray(layer, np.int16) // weight
    out = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _jpeg(number: int, side: int | None) -> bytes:
    """Clouds of every size, as photographs have detail of every size."""
    random = np.random.default_rng(number)
    width, height = SIZES[number % len(SIZES)]
    if side is not None:
        width, height = (side * size // min(width, height) for size in (width, height))
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (2, 5, 11, 27, 64, 160, 400):
        seeds = random.integers(0, 256, (cells, cells, 3), np.uint8)
        layer = Image.fromarray(seeds).resize((width, height), Image.Resampling.BICUBIC)
        picture += np.asarray(layer, np.float32) / cells**0.55
    picture -= picture.min()
    out = io.BytesIO()
    scaled = (picture * (255 / picture.max())).astype(np.uint8)
    Image.fromarray(scaled).save(out, "JPEG", quality=QUALITIES[side is None])
    return out.getvalue()


def numbered(jpeg: bytes, number: int) -> bytes:
    """The same picture in a file of its own, which has a number in a comment."""
    comment = f"{number:012d}".encode()
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment + jpeg[2:]


def repeated(pictures: list[Path]) -> Callable[[int], bytes]:
    """A file for each number, of pictures that take turns."""
    bodies = [path.read_bytes() for path in pictures]
    return lambda number: numbered(bodies[number % len(bodies)], number)


def caption(number: int) -> str:
    """A few words that differ from number to number."""
    places = [number // len(WORDS) ** place % len(WORDS) for place in range(4)]
    return " ".join(["a picture of a", *(WORDS[place] for place in places), f"number {number}"])


def write_tars(picture: Callable[[int], bytes], folder: Path, count: int, each: int) -> list[Path]:
    """Shards of so many pairs, `each` in one, as `tarfile` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for first in range(0, count, each):
        shards.append(folder / f"{first // each:05d}.tar")
        with tarfile.open(shards[-1], "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(first, min(count, first + each)):
                told = {"url": f"https://pictures.example/{number}.jpg", "caption": caption(number)}
                members = {
                    "jpg": picture(number),
                    "txt": caption(number).encode(),
                    "json": json.dumps(told).encode(),
                }
                for extension, body in members.items():
                    member = tarfile.TarInfo(f"{number:09d}.{extension}")
                    member.size = len(body)
                    tar.addfile(member, io.BytesIO(body))
    return shards


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of the pictures, in a process of its own: ADDRESS/NUMBER.jpg."""
    command = [sys.executable, str(Path(__file__)), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


async def _serve(folder: Path) -> None:
    from aiohttp import web

    bodies = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]

    async def answer(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        body = numbered(bodies[number % len(bodies)], number)
        return web.Response(body=body, content_type="image/jpeg")

    application = web.Application()
    application.router.add_get(r"/{number:\d+}.jpg", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
