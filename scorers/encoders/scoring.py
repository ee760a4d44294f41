"""Embeddings of texts by an encoder, and what its heads say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...filters.embeddings.matrix import column_of, normalised
from ...schemas.contracts import Assets, Scorer
from ..embedded import spread
from ..heads.linear import applied
from ..torch_device import PRECISIONS, threads
from .heads import EMBEDDING_OUTPUT, Asked, Doubles, answer, asked_of, type_of
from .model import BATCH_TOKENS, Encoder, load_encoder
from .reading import POOLINGS, Pooling

# Largest difference between two runs of the same text beside others, of an embedding's number, of length one
# or not, and of what a head says.
TOLERANCE: Final = 2e-3
HALF_TOLERANCE: Final = 0.1


class EncoderScorer(Scorer):
    """Embeddings of a text encoder, and the values, classes and probabilities of its heads.

    Reads `column`. `outputs` are some of: embedding; HEAD, a regression's value or the likeliest class where
    classes are numbers, float32; HEAD_label, the likeliest class, string; HEAD_probability, its probability,
    float32; HEAD_CLASS, that of one class; HEAD_probabilities, those of all, list<float32>. A model that
    transformers loads with its head (…ForSequenceClassification) has one that is called `score`. Null where
    the text is null, or has no token.

    `model`: a folder as transformers writes it, or `thresher train encoder`: config.json, model.safetensors,
    tokenizer.json, and heads.json where it has heads of ours. `pooling` (cls, mean, last), `normalise`
    (whether an embedding has length one), `max_tokens` and `prefix` are those that the folder says where they
    are left out, else mean, true, 512, none; heads read the vector that they were trained on. `prompt`: one
    of the folder's prompts, in place of a prefix. `precision`, `device` and `threads` as for `clip`.
    `batch_tokens`: tokens, with padding, that the model is given at a time.

    Raises AssetError where the model cannot be loaded, or has no such head.
    """

    version: ClassVar[int] = 1
    obtain = "`thresher train encoder` makes one, and so does transformers"
    kernels: ClassVar[tuple[str, ...]] = ("thresher.filters.embeddings.products",)

    def __init__(
        self,
        model: str,
        outputs: Sequence[str] = (EMBEDDING_OUTPUT,),
        column: str = "text",
        pooling: Pooling | None = None,
        normalise: bool | None = None,
        max_tokens: int | None = None,
        prefix: str | None = None,
        prompt: str | None = None,
        precision: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        chosen = [outputs] if isinstance(outputs, str) else list(dict.fromkeys(outputs))
        if not chosen:
            raise ValueError(f"no output is asked for; write {EMBEDDING_OUTPUT}, or the name of a head")
        for name, value in (("max_tokens", max_tokens), ("threads", threads), ("batch_tokens", batch_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; write 1 or more")
        if pooling is not None and pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; write {', '.join(POOLINGS)}")
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision is {precision!r}; write auto, {', '.join(PRECISIONS)}")
        if prefix is not None and prompt is not None:
            raise ValueError("prefix and prompt both say what comes before a text; write one of them")
        self.inputs = (column,)
        self.assets = (model,)
        self.tolerance = TOLERANCE if precision == "fp32" else HALF_TOLERANCE
        self._names = tuple(chosen)
        self._settings = {
            "pooling": pooling,
            "normalise": normalise,
            "max_tokens": max_tokens,
            "prefix": prefix,
            "prompt": prompt,
            "device": device,
            "precision": precision,
        }
        self._threads, self._budget = threads, batch_tokens
        self._encoder: Encoder | None = None
        self._asked: dict[str, Asked] = {}

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {name: type_of(name) for name in self._names}

    def open(self, assets: Assets) -> None:
        model = self.assets[0]
        encoder = load_encoder(model, assets, **self._settings)  # type: ignore[arg-type]
        self._asked = {
            name: asked_of(name, encoder.questions, model) for name in self._names if name != EMBEDDING_OUTPUT
        }
        self._encoder = encoder

    def prepare(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        assert self._encoder is not None, "open comes before prepare"
        tokens = self._encoder.tokenizer(batch.column(self.inputs[0]).to_pylist())
        return pa.RecordBatch.from_pydict({"tokens": tokens})

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        assert self._encoder is not None, "open comes before score"
        encoder, column = self._encoder, batch.column("tokens")
        has = np.asarray(pc.is_valid(column).to_numpy(zero_copy_only=False), np.bool_)
        tokens = [np.asarray(row, np.int32) for row in column.drop_null().to_numpy(zero_copy_only=False)]
        heads, embeds = encoder.heads, EMBEDDING_OUTPUT in self._names
        asks = bool(self._asked)
        poolings: set[Pooling] = {encoder.reading.pooling} if embeds else set()
        if asks and heads is not None:
            poolings.add(heads.pooling)
        with threads(self._threads):
            encoded = encoder.encode(tokens, poolings, asks and heads is None, self._budget)
        found: dict[str, pa.Array] = {}
        if embeds:
            matrix = encoded.pooled[encoder.reading.pooling]
            found[EMBEDDING_OUTPUT] = column_of(
                normalised(matrix) if encoder.reading.normalise else matrix, has
            )
        values: dict[str, Doubles] = {}
        for name, asked in self._asked.items():
            if asked.head not in values:
                if encoded.own is not None:
                    values[asked.head] = encoded.own
                else:
                    assert heads is not None
                    matrix = encoded.pooled[heads.pooling]
                    read = normalised(matrix) if heads.normalised else matrix
                    values[asked.head] = applied(heads.heads[asked.head], read)
            found[name] = spread(answer(asked, encoder.questions[asked.head], values[asked.head]), has)
        return {name: found[name] for name in self._names}
