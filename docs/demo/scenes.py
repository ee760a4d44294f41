"""Scenes that a program draws, each with the caption that describes it.

A few shapes of one colour stand left of, right of, above or below a shape of another, on a background that
may be plain, striped, chequered, clouded or shaded. Everything follows from the random source.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]
Point = tuple[float, float]

COLOURS: dict[str, Colour] = {
    "red": (205, 45, 40),
    "blue": (40, 80, 190),
    "green": (50, 140, 70),
    "yellow": (240, 205, 60),
    "orange": (235, 130, 40),
    "purple": (125, 60, 150),
    "pink": (235, 140, 175),
    "brown": (120, 80, 50),
    "black": (25, 25, 28),
    "white": (245, 245, 242),
}
SHAPES = ("circle", "square", "triangle", "star", "diamond", "ring", "cross", "crescent")
PLURALS = {"cross": "crosses"}
COUNTS = ("a", "two", "three", "four", "five")
PLACES = ("left of", "right of", "above", "below")
BACKGROUNDS = ("plain", "striped", "chequered", "cloudy", "shaded")
LEAST_CONTRAST = 50  # grey levels
SIDES = (256, 900)  # pixels
FORMATS = ("JPEG", "JPEG", "JPEG", "PNG", "WEBP")  # as often as that
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


@dataclass(frozen=True)
class Scene:
    """A picture and what is on it."""

    picture: Image.Image
    caption: str


def draw(random: Random, size: tuple[int, int] | None = None) -> Scene:
    """A scene; where no size is given, its sides are between 256 and 900 pixels, none twice the other."""
    width, height = size or _size(random)
    first, second, behind = _colours(random)
    many, one = random.sample(SHAPES, 2)
    count, place = random.randrange(len(COUNTS)), random.choice(PLACES)
    kind = random.choice(BACKGROUNDS)
    picture = background(random, kind, COLOURS[behind], (width, height))
    pen = ImageDraw.Draw(picture)
    horizontal = place in PLACES[:2]
    share = random.uniform(0.35, 0.65)
    halves = _halves(width, height, share, horizontal)
    if place in ("right of", "below"):
        halves = halves[::-1]
    for box in _boxes(random, halves[0], count + 1, vertical=horizontal):
        shape(pen, many, box, COLOURS[first])
    for box in _boxes(random, halves[1], 1, vertical=horizontal):
        shape(pen, one, box, COLOURS[second])
    group = f"{COUNTS[count]} {first} {_plural(many) if count else many}"
    article = "an" if second == "orange" else "a"
    group = f"an{group[1:]}" if not count and first == "orange" else group
    return Scene(picture, f"{group} {place} {article} {second} {one} on a {kind} {behind} background")


def _colours(random: Random) -> list[str]:
    """Three, of which the last is much lighter or darker than the others."""
    while True:
        chosen = random.sample(sorted(COLOURS), 3)
        one, other, behind = (_grey(COLOURS[name]) for name in chosen)
        if min(abs(one - behind), abs(other - behind)) >= LEAST_CONTRAST:
            return chosen


def _grey(colour: Colour) -> float:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _size(random: Random) -> tuple[int, int]:
    long = random.randint(*SIDES)
    short = random.randint(max(SIDES[0], (long + 1) // 2), long)
    return (long, short) if random.random() < 0.5 else (short, long)


def _plural(name: str) -> str:
    return PLURALS.get(name, f"{name}s")


def _halves(width: int, height: int, share: float, horizontal: bool) -> list[Box]:
    if horizontal:
        return [(0, 0, width * share, height), (width * share, 0, width, height)]
    return [(0, 0, width, height * share), (0, height * share, width, height)]


def _boxes(random: Random, area: Box, count: int, vertical: bool) -> list[Box]:
    """So many squares in an area, one after the other, of different sizes and not quite in line."""
    left, top, right, bottom = area
    wide, high = right - left, bottom - top
    step_x, step_y = (wide, high / count) if vertical else (wide / count, high)
    boxes = []
    for number in range(count):
        side = min(step_x, step_y) * random.uniform(0.55, 0.92)
        x = left + (0 if vertical else number * step_x) + random.uniform(0, step_x - side)
        y = top + (number * step_y if vertical else 0) + random.uniform(0, step_y - side)
        boxes.append((x, y, x + side, y + side))
    return boxes


def background(random: Random, kind: str, colour: Colour, size: tuple[int, int]) -> Image.Image:
    """A picture of one colour and its neighbours."""
    width, height = size
    darker = tuple(int(value * 0.72) for value in colour)
    lighter = tuple(int(value + (255 - value) * 0.35) for value in colour)
    picture = Image.new("RGB", size, colour)
    pen = ImageDraw.Draw(picture)
    if kind == "striped":
        step, upright = random.randint(24, 70), random.random() < 0.5
        for start in range(0, width if upright else height, 2 * step):
            stripe = (start, 0, start + step, height) if upright else (0, start, width, start + step)
            pen.rectangle(stripe, fill=darker)
    elif kind == "chequered":
        step = random.randint(30, 80)
        for row, y in enumerate(range(0, height, step)):
            for x in range(row % 2 * step, width, 2 * step):
                pen.rectangle((x, y, x + step - 1, y + step - 1), fill=darker)
    elif kind in ("cloudy", "shaded"):
        if kind == "cloudy":
            seeds = np.frombuffer(random.randbytes(81), np.uint8).reshape(9, 9)
        else:
            slope = np.linspace(0, 255, 9, dtype=np.uint8)
            seeds = np.tile(slope, (9, 1)) if random.random() < 0.5 else np.tile(slope[:, None], (1, 9))
            seeds = seeds[::-1, ::-1] if random.random() < 0.5 else seeds
        mask = Image.fromarray(np.ascontiguousarray(seeds)).resize(size, Image.Resampling.BICUBIC)
        picture = Image.composite(Image.new("RGB", size, lighter), Image.new("RGB", size, darker), mask)
    return picture


def shape(pen: ImageDraw.ImageDraw, name: str, box: Box, colour: Colour) -> None:
    """Draws one shape that fills a square."""
    left, top, right, bottom = box
    side, middle = right - left, ((left + right) / 2, (top + bottom) / 2)
    if name == "circle":
        pen.ellipse(box, fill=colour)
    elif name == "square":
        pen.rectangle(box, fill=colour)
    elif name == "ring":
        pen.ellipse(box, outline=colour, width=max(2, int(side / 6)))
    elif name == "cross":
        bar = side / 3
        pen.rectangle((left + bar, top, right - bar, bottom), fill=colour)
        pen.rectangle((left, top + bar, right, bottom - bar), fill=colour)
    else:
        radius = side / 2
        points = _crescent() if name == "crescent" else _corners(name)
        pen.polygon([(middle[0] + radius * x, middle[1] + radius * y) for x, y in points], fill=colour)


def _corners(name: str) -> list[Point]:
    """The corners of a figure within a circle of radius 1, from the top."""
    corners = {"triangle": 3, "diamond": 4, "star": 10}[name]
    points = []
    for corner in range(corners):
        radius = 0.42 if name == "star" and corner % 2 else 1.0
        angle = 2 * math.pi * corner / corners - math.pi / 2
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    return points


def _crescent() -> list[Point]:
    """Most of a circle, and back along a flatter curve."""
    ends = math.pi / 3
    angles = [ends + (2 * math.pi - 2 * ends) * step / 24 for step in range(25)]
    outer = [(math.cos(angle), math.sin(angle)) for angle in angles]
    inner = [
        (
            math.cos(ends) - 0.95 * math.cos(math.pi * (step / 24 - 0.5)),
            -math.cos(math.pi * step / 24) * math.sin(ends),
        )
        for step in range(25)
    ]
    return outer + inner


def encode(picture: Image.Image, kind: str, quality: int = 90) -> bytes:
    """The picture as a file of a format, `JPEG`, `PNG` or `WEBP`."""
    out = io.BytesIO()
    options = {"PNG": {"compress_level": 3}, "WEBP": {"method": 0, "quality": quality}}
    picture.save(out, kind, **options.get(kind, {"quality": quality}))
    return out.getvalue()
