"""Pairs that a CLIP model learns from: decoded once, in an order of their own, some of them held out."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from ....filters.image.decode import Pixels
from ....filters.image.header import ImageError
from ....filters.image.phash import hash_bits, shrink
from ..captions import Tokenizer, Tokens
from ..pictures import shown
from ..preprocessing import Preprocessing
from .pixels import PixelStore

Numbers = npt.NDArray[np.int64]
_SHARE_BITS: Final = 64


class TrainingPairs:
    """Collects pairs, and tells which are learned from and which are held out.

    Which picture is held out is decided by hash(seed, its perceptual hash), so exact copies, and nearly all
    that were only scaled or compressed, fall on the same side. The order is hash(seed, id), so what is
    learned does not depend on the order of the input. `pool` decodes. In memory: up to `most_bytes` of
    pixels, and about 4 bytes for each token of the model's context; on disk, in `folder`: the encoded images
    whose pixels had no room.
    """

    def __init__(
        self,
        folder: Path,
        preprocessing: Preprocessing,
        tokenizer: Tokenizer,
        seed: int,
        held_out: float,
        most_bytes: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.without_image = 0  # or with one that cannot be decoded
        self.without_caption = 0
        self._tokenizer, self._pool = tokenizer, pool
        self._prefix = f"{seed}\0".encode()
        self._bound = int(held_out * 2**_SHARE_BITS)
        self._show = partial(shown, wanted=preprocessing)
        self._pixels = PixelStore(folder / "images", preprocessing.size, most_bytes, self._show, pool)
        self._tokens: list[Tokens] = []
        self._captions: list[int] = []
        self._pictures: list[int] = []
        self._order: list[int] = []
        self._digests: list[bytes] = []

    def __len__(self) -> int:
        return len(self._order)

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds the pairs of a batch with `id`, `text` and `payload`; what is no pair is counted."""
        there = batch.filter(pc.is_valid(batch.column("payload")))
        text = pc.fill_null(there.column("text"), "")
        pairs = there.filter(pc.not_equal(pc.utf8_trim_whitespace(text), ""))
        self.without_image += batch.num_rows - there.num_rows
        self.without_caption += there.num_rows - pairs.num_rows
        ids, captions = (pairs.column(name).to_pylist() for name in ("id", "text"))
        images = pairs.column("payload")
        encoded = [value.as_buffer().to_pybytes() for value in images]
        added = []
        for row, pixels in enumerate(self._pool.map(self._decoded, encoded)):
            if pixels is None:
                self.without_image += 1
                continue
            self._pixels.add(pixels, encoded[row])
            self._note(ids[row] or "", captions[row], encoded[row], pixels)
            added.append(captions[row])
        if added:
            self._tokens.append(self._tokenizer(added))

    def close(self) -> None:
        """Closes its files."""
        self._pixels.close()

    def finish(self) -> None:
        """Has to be called once all is added: brings the pairs into their order."""
        order = np.array(self._order, np.uint64)
        digests = np.array(self._digests, "S32")
        # Of two pairs with one id the order is that of their content.
        self._sorted = np.lexsort((digests, order)).astype(np.int64)
        self.tokens: Tokens = np.concatenate(self._tokens) if self._tokens else np.zeros((0, 1), np.int32)
        self.captions = np.array(self._captions, np.uint64)  # the same number for the same caption
        self.pictures = np.array(self._pictures, np.uint64)  # and for the same picture
        held = np.array([self._is_held_out(picture) for picture in self._pictures], np.bool_)
        self.learned: Numbers = self._sorted[~held[self._sorted]]
        self.held_out: Numbers = self._sorted[held[self._sorted]]

    def pixels(self, numbers: Numbers) -> Pixels:
        """What the model is shown of these pairs, (pairs, height, width, 3)."""
        return self._pixels.take(numbers)

    def data_sha256(self) -> str:
        """Of the pairs that are learned from, in their order: the SHA-256 of each one's image and caption."""
        return hashlib.sha256(b"".join(self._digests[number] for number in self.learned)).hexdigest()

    def _decoded(self, encoded: bytes) -> Pixels | None:
        try:
            return self._show(encoded)
        except ImageError:
            return None

    def _note(self, id: str, caption: str, encoded: bytes, pixels: Pixels) -> None:
        text = caption.encode("utf-8", "replace")
        self._captions.append(xxhash.xxh3_64_intdigest(text))
        self._pictures.append(_perceptual_hash(pixels))
        self._order.append(xxhash.xxh3_64_intdigest(self._prefix + id.encode("utf-8", "replace")))
        image = hashlib.sha256(encoded).digest()
        self._digests.append(hashlib.sha256(image + text).digest())

    def _is_held_out(self, picture: int) -> bool:
        return xxhash.xxh3_64_intdigest(self._prefix + picture.to_bytes(8, "big")) < self._bound


def _perceptual_hash(pixels: Pixels) -> int:
    import cv2

    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    return int(hash_bits(shrink(grey)[None])[0])
