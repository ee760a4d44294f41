"""What a model of images wants to be shown, as open_clip's `preprocess_cfg` says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from ...schemas.contracts import AssetError

Channels = tuple[float, float, float]
Interpolation = Literal["bicubic", "bilinear"]
ResizeMode = Literal["shortest", "longest", "squash"]

# Mean and standard deviation of the pixels that OpenAI trained CLIP on (github.com/openai/CLIP, clip.py).
OPENAI_MEAN: Final[Channels] = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Final[Channels] = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a model.

    shortest: the shorter side gets its size, and the middle is taken; longest: the longer one does, and the
    rest is filled; squash: both do, whatever the image's shape.
    """

    size: tuple[int, int]  # height, width
    mean: Channels = OPENAI_MEAN  # of samples in [0, 1]
    std: Channels = OPENAI_STD
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill_color: int | tuple[int, int, int] = 0
    scaled_to: tuple[int, int] | None = None  # height, width, where more than `size` is scaled and cropped


def preprocessing_of(settings: Mapping[str, Any], size: tuple[int, int]) -> Preprocessing:
    """What open_clip does with `preprocess_cfg` and a model that takes images of `size` (height, width).

    Raises AssetError for values that open_clip has no meaning for.
    """
    found: dict[str, Any] = {"size": size}
    for name in ("mean", "std"):
        if settings.get(name) is not None:
            found[name] = _channels(name, settings[name])
    for name, words in (("interpolation", Interpolation), ("resize_mode", ResizeMode)):
        word = settings.get(name)
        if (name, word) == ("interpolation", "random"):  # a choice while training, and bicubic otherwise
            word = "bicubic"
        if word is None:
            continue
        if word not in get_args(words):
            raise AssetError(
                f"{name} of preprocess_cfg is {word!r}; it is one of {', '.join(get_args(words))}"
            )
        found[name] = word
    if settings.get("fill_color") is not None:
        found["fill_color"] = int(settings["fill_color"])
    # open_clip does not hand its interpolation on where the shorter side of an oblong has to fit.
    if size[0] != size[1] and found.get("resize_mode", "shortest") == "shortest":
        found["interpolation"] = "bicubic"
    return Preprocessing(**found)


def _channels(name: str, value: Any) -> Channels:
    given = list(value) if isinstance(value, list | tuple) else [value] * 3
    if len(given) != 3 or not all(isinstance(number, int | float) for number in given):
        raise AssetError(f"{name} of preprocess_cfg is {value!r}; write three numbers")
    return cast(Channels, tuple(float(number) for number in given))


@dataclass(frozen=True)
class Geometry:
    """What becomes of a picture: the size that it is scaled to, what is taken of that, and where it goes."""

    scaled: tuple[int, int]  # width, height
    window: tuple[int, int, int, int]  # left, top, right, bottom, in pixels of the scaled picture
    place: tuple[int, int]  # left, top of the window in the model's input


def geometry(width: int, height: int, wanted: Preprocessing) -> Geometry:
    """What torchvision and open_clip make of a picture of this size, with their ways of rounding."""
    scaled = _scaled(width, height, wanted)
    (left, right, x), (top, bottom, y) = (
        _middle(*sizes) for sizes in zip(scaled, wanted.size[::-1], strict=True)
    )
    return Geometry(scaled, (left, top, right, bottom), (x, y))


def _scaled(width: int, height: int, wanted: Preprocessing) -> tuple[int, int]:
    down, across = wanted.scaled_to or wanted.size
    if wanted.resize_mode == "squash":
        return across, down
    if wanted.resize_mode == "shortest" and down == across:
        if width <= height:
            return across, int(across * height / width)
        return int(across * width / height), across
    choose = max if wanted.resize_mode == "longest" else min
    ratio = choose(height / down, width / across)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def _middle(size: int, wanted: int) -> tuple[int, int, int]:
    """Where the middle of a side begins and ends, and where it is put."""
    if size < wanted:
        return 0, size, (wanted - size) // 2
    start = round((size - wanted) / 2)
    return start, start + wanted, 0
