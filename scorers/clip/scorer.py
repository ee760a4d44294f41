"""How well a caption fits its picture, and the embeddings of both, by a CLIP model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...filters.embeddings.matrix import EMBEDDING, column_of
from ...schemas.contracts import AssetError, Assets, Scorer
from ..torch_device import PRECISIONS, batch_on, threads
from .masking import RING
from .model import Clip, clip_assets, load_clip
from .pictures import as_column, decoders_of, rows_of, shown_images

Matrix = npt.NDArray[np.float32]
Valid = npt.NDArray[np.bool_]

OUTPUTS: Final = ("similarity", "image", "text", "probability")
# Largest difference between two runs of the same pair, of a cosine or a number of an embedding. Measured on
# ViT-B-32 with other batches, threads and, for the second, precisions.
TOLERANCE: Final = 1e-4
HALF_TOLERANCE: Final = 2e-2
# A probability moves by up to a quarter of the logit scale, of which trained models have about 100.
_PROBABILITY: Final = 25.0


class ClipScorer(Scorer):
    """Embeddings of an image and its caption in one space, and their cosine.

    Reads `image` and `text`, of these what its outputs need. `outputs` are some of: similarity, the cosine,
    float32; image and text, embeddings of length one; probability, of models trained with a sigmoid (SigLIP),
    that image and caption belong together. Null where the image is null or cannot be decoded, or the caption
    is null, in what needs it.

    `model` and `checkpoint`: a folder as `thresher train clip` writes it, or one of open_clip's architectures
    with a file of safetensors (scorers/clip/model.py). `precision`: fp32, bf16, fp16, or auto, which is bf16
    where the device has instructions for it. `batch`: images or captions that the model is given at a time,
    by default 32 on a CPU and 256 elsewhere. `threads`: of torch on a CPU, and for decoding; by default as
    many as the engine gives. `mask`: the column with boxes of text (T-MARS), each a list of left, top, right
    and bottom as shares of width and height, which are painted over; null gives null. `ring`: how wide the
    surrounding is whose mean colour they get, as a share of a box's shorter side.

    Raises AssetError where the model cannot be loaded, or has no bias and is asked for a probability.
    """

    version: ClassVar[int] = 1
    obtain = "`thresher train clip` makes one, and `hf download REPOSITORY` fetches a published one"
    kernels: ClassVar[tuple[str, ...]] = ("thresher.filters.image.resampling",)

    def __init__(
        self,
        model: str,
        checkpoint: str | None = None,
        outputs: Sequence[str] = ("similarity",),
        precision: str = "auto",
        device: str = "auto",
        batch: int | None = None,
        threads: int | None = None,
        mask: str | None = None,
        ring: float = RING,
    ) -> None:
        chosen = [outputs] if isinstance(outputs, str) else list(dict.fromkeys(outputs))
        wrong = [name for name in chosen if name not in OUTPUTS]
        if wrong or not chosen:
            told = f"there is no output {wrong[0]!r}" if wrong else "no output is asked for"
            raise ValueError(f"{told}; outputs are some of {', '.join(OUTPUTS)}")
        for name, value in (("batch", batch), ("threads", threads)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; write 1 or more")
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision is {precision!r}; write auto, {', '.join(PRECISIONS)}")
        self._outputs = chosen
        self._sees = chosen != ["text"]
        self._reads = chosen != ["image"]
        if mask is not None and not self._sees:
            raise ValueError("mask paints boxes of a picture over, and only the output text is asked for")
        self.inputs = tuple(
            name
            for name, needed in (("image", self._sees), ("text", self._reads), (mask, mask is not None))
            if needed and name is not None
        )
        self.assets = clip_assets(model, checkpoint)
        tolerance = TOLERANCE if precision == "fp32" else HALF_TOLERANCE
        self.tolerance = min(1.0, tolerance * (_PROBABILITY if "probability" in chosen else 1))
        self._model = model, checkpoint
        self._place = {"device": device, "precision": precision}
        self._batch, self._threads = batch, threads
        self._mask, self._ring = mask, ring
        self._clip: Clip | None = None
        self._decoders: ThreadPoolExecutor | None = None

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {
            name: EMBEDDING if name in ("image", "text") else pa.float32()
            for name in OUTPUTS
            if name in self._outputs
        }

    def open(self, assets: Assets) -> None:
        self._clip = load_clip(*self._model, assets, **self._place)
        if "probability" in self._outputs and self._clip.logit_bias is None:
            raise AssetError(
                f"{self._model[0]}: was not trained to give probabilities, as it has no bias (SigLIP has); "
                "take the output similarity"
            )
        if self._reads:
            self._clip.open_tokenizer()
        self._decoders = decoders_of(self._threads)

    def prepare(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        assert self._clip is not None, "open comes before prepare"
        assert self._decoders is not None
        made: dict[str, pa.Array] = {}
        if self._sees:
            boxes = None if self._mask is None else batch.column(self._mask)
            made["pixels"] = shown_images(
                batch.column("image"), self._clip.preprocessing, self._decoders, boxes, self._ring
            )
        if self._reads:
            made["tokens"] = _tokens(batch.column("text"), self._clip)
        return pa.RecordBatch.from_pydict(made)

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        assert self._clip is not None, "open comes before score"
        clip, needed = self._clip, {"image", "text"} & set(self._outputs)
        pairs = np.ones(len(batch), np.bool_)
        for name in batch.schema.names:
            pairs &= _valid(batch.column(name))
        found: dict[str, tuple[Matrix, Valid]] = {}
        size = self._batch or batch_on(clip.device)
        with threads(self._threads):
            if self._sees:
                column = batch.column("pixels")
                valid = _valid(column) if "image" in needed else pairs
                pixels = rows_of(column, (*clip.image_size, 3), np.uint8)[valid]
                found["image"] = _in_batches(clip.encode_images, pixels, size, clip.dimensions), valid
            if self._reads:
                column = batch.column("tokens")
                valid = _valid(column) if "text" in needed else pairs
                found["text"] = (
                    _of_captions(clip, rows_of(column, (clip.context,), np.int32)[valid], size),
                    valid,
                )
        return {name: self._column(name, found, pairs) for name in self.outputs}

    def _column(self, name: str, found: dict[str, tuple[Matrix, Valid]], pairs: Valid) -> pa.Array:
        if name in ("image", "text"):
            return column_of(*found[name])
        assert self._clip is not None
        images, texts = (matrix[pairs[valid]] for matrix, valid in (found["image"], found["text"]))
        values = np.zeros(len(pairs), np.float32)
        values[pairs] = np.einsum("ij,ij->i", images, texts)
        if name == "probability":
            bias = self._clip.logit_bias or 0.0
            logits = self._clip.logit_scale * values.astype(np.float64) + bias
            values = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return pa.array(values, pa.float32(), mask=~pairs)


def _valid(column: pa.Array) -> Valid:
    return np.asarray(pc.is_valid(column).to_numpy(zero_copy_only=False), np.bool_)


def _tokens(texts: pa.Array, clip: Clip) -> pa.Array:
    """The tokens of each caption; those that repeat are cut into tokens once."""
    coded = texts.dictionary_encode()
    rows = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    different = clip.tokenize(coded.dictionary.to_pylist())
    if not len(different):  # of none, or of nulls alone
        different = np.zeros((1, clip.context), np.int32)
    return as_column(different[rows], _valid(texts))


def _of_captions(clip: Clip, tokens: npt.NDArray[Any], size: int) -> Matrix:
    """Each caption's embedding; those that are the same to the model are encoded once."""
    different, back = np.unique(tokens, axis=0, return_inverse=True)
    return _in_batches(clip.encode_texts, different, size, clip.dimensions)[back.reshape(-1)]


def _in_batches(
    encode: Callable[[npt.NDArray[Any]], Matrix], rows: npt.NDArray[Any], size: int, dimensions: int
) -> Matrix:
    made = np.empty((len(rows), dimensions), np.float32)
    for start in range(0, len(rows), size):
        made[start : start + size] = encode(rows[start : start + size])
    return made
