"""What stands under the verbs of image-text jobs: download, resize, frequency, balance, vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from .quantities import Count, PositiveInt, Size
from .verbs import ColumnName, Model

# The names of img2dataset (img2dataset/resizer.py, class ResizeMode).
ResizeMode = Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"]
Encoding = Literal["jpeg", "png", "webp", "original"]
Seconds = Annotated[float, Field(gt=0)]


class Download(Model):
    """How images are fetched. The defaults are choices of ours where no source is named.

    A record that has an image already passes as it is. What fails is in the ledger with its reason, and every
    address with its outcome in `downloads/` of the output.
    """

    with_: Literal["thresher", "img2dataset"] = Field(
        default="thresher",
        alias="with",
        description="Who downloads. img2dataset keeps none of the limits below but concurrency, timeout and "
        "retries, and honours opt_out only; max_bytes is asked afterwards, and deadline is that of the list.",
    )
    concurrency: PositiveInt = Field(default=64, description="Requests at a time, of each worker.")
    per_host: PositiveInt = Field(default=8, description="Requests at a time to one host, of each worker.")
    delay: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Least seconds between the starts of two requests of a worker to one host."
    )
    timeout: Seconds = Field(
        default=10.0, description="Seconds of silence after which a request is given up."
    )
    deadline: Seconds = Field(
        default=60.0, description="Seconds that one address may take in all, redirects and retries included."
    )
    retries: Annotated[int, Field(ge=0, le=20)] = Field(
        default=2, description="Further attempts after a failure that may pass, such as 429 or 503."
    )
    max_bytes: Size = Field(default=20_000_000, description="Bytes of one image.")
    max_redirects: Annotated[int, Field(ge=0, le=20)] = Field(
        default=5, description="Redirects that are followed, each checked as the first address is."
    )
    allow: list[Annotated[str, Field(min_length=1)]] = Field(
        default=[],
        description="Hosts (or host:port) that may be at private addresses, for tests and intranets.",
    )
    opt_out: list[Literal["noai", "noimageai", "noindex", "noimageindex"]] = Field(
        default=["noai", "noimageai", "noindex", "noimageindex"],
        description="Directives of X-Robots-Tag by which an image is left out.",
    )
    tdm: bool = Field(
        default=True, description="Whether TDM-Reservation: 1 (W3C TDMRep) leaves an image out."
    )
    robots: bool = Field(default=False, description="Whether robots.txt (RFC 9309) is asked first.")
    contact: str = Field(
        default="",
        max_length=200,
        pattern=r"^[\x20-\x7e]*$",
        description="An address or page that the user agent names beside how to opt out.",
    )


class Resize(Model):
    """How images are decoded, made smaller and written again.

    An image that cannot be decoded, is no image, or has more than `max_pixels` is an error with its reason.
    The first frame of an animation is taken, its orientation applied.
    """

    mode: ResizeMode = Field(
        default="keep_ratio",
        description="As in img2dataset. no: as large as it is. border: fits into the padded square. "
        "keep_ratio: the smaller side becomes size. keep_ratio_largest: the larger side does. "
        "center_crop: the smaller side does, and the square in the middle stays.",
    )
    size: PositiveInt = Field(default=256, le=16_384, description="Pixels of that side.")
    only_larger: bool = Field(
        default=False, description="Whether images whose side is smaller stay as large as they are."
    )
    encode: Encoding = Field(
        default="jpeg",
        description="Format of the result. original, with mode no: the bytes as they came, once decoding has "
        "shown them to be sound.",
    )
    quality: Annotated[int, Field(ge=1, le=100)] = Field(
        default=95, description="Of JPEG and WebP; img2dataset's default."
    )
    matte: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = Field(
        default="#ffffff",
        description="Colour of borders, and behind transparent pixels of a result without alpha.",
    )
    max_pixels: Count = Field(
        default=50_000_000,
        description="Pixels of one frame, by the header, before anything is decoded. Decoding takes up to "
        "eight bytes for each; AVIF, JPEG 2000 and some progressive JPEGs take more and are refused earlier.",
    )
    truncated: Literal["refuse", "keep"] = Field(
        default="refuse", description="What becomes of an image whose data break off."
    )

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        if value.get("encode") == "original" and value.get("mode", "keep_ratio") != "no":
            yield "encode", "original bytes have the original size; write mode: no beside it"
        if value.get("mode") == "no":
            for key in ("size", "only_larger"):
                if value.get(key) is not None:
                    yield key, f"mode no leaves the size as it is; remove {key}, or the mode"


class Frequency(Model):
    """How many records of the corpus share a value, as a column; with `max` or `min` records are dropped."""

    of: ColumnName = Field(
        default="text",
        description="text (the caption), url, image (equal bytes), phash, or another column.",
    )
    distinct: ColumnName | None = Field(
        default=None,
        description="Count the different values of this column beside each value, not the records: of: text, "
        "distinct: phash is the number of images that a caption has.",
    )
    max: PositiveInt | None = Field(
        default=None, description="Records whose value is more frequent are dropped, all of them."
    )
    min: PositiveInt | None = Field(default=None, description="Records whose value is less frequent are.")

    @classmethod
    def conflicts(cls, value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
        low, high = value.get("min"), value.get("max")
        if isinstance(low, int) and isinstance(high, int) and low > high:
            yield "min", f"min {low} is above max {high}, so that nothing would be left"
        if value.get("distinct") is not None and value.get("distinct") == value.get("of", "text"):
            yield "distinct", f"each value of {value['distinct']} has one; name another column"


class Balance(Model):
    """Captions of frequent entries are thinned out, as MetaCLIP does (Xu et al. 2024, arXiv:2309.16671).

    An entry that matches `count` captions is kept with probability t / max(count, t); a record is kept if any
    of its entries is. A record that matches none is dropped.
    """

    entries: str = Field(
        min_length=1, description="The entries: a text file with one a line, or a JSON list of strings."
    )
    t: PositiveInt = Field(
        default=20_000,
        description="Captions that an entry keeps about. 20,000 is MetaCLIP's for 400M pairs; it goes with "
        "the size of the corpus.",
    )


class Vocabulary(Model):
    """Captions with a rare word are dropped, as ALIGN does (Jia et al. 2021, arXiv:2102.05918, section 3).

    Rare is what is not among the most frequent words and pairs of neighbouring words of the corpus.
    """

    size: Count = Field(
        default=100_000_000, description="Words and pairs that count as known, at most; ALIGN's 100 million."
    )
    ngrams: list[Literal[1, 2]] = Field(
        default=[1, 2], min_length=1, max_length=2, description="1: words, 2: pairs of neighbouring words."
    )
    lowercase: bool = Field(default=True, description="Ignore case. The paper does not say.")
