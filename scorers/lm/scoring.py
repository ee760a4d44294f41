"""How likely a causal language model finds a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.contracts import AssetError, Assets, Scorer
from ..torch_device import PRECISIONS, threads
from .attention import UNIFORM, Uniform
from .batching import Windows, fixed, sliding, spans
from .heads import read_heads
from .model import LanguageModel, load_model

Numbers = npt.NDArray[np.int64]

_TYPES: Final[dict[str, pa.DataType]] = {
    "nll": pa.float32(),
    "sum": pa.float32(),
    "tokens": pa.int32(),
    "perplexity": pa.float32(),
    "bits_per_byte": pa.float32(),
    "token_nll": pa.list_(pa.float32()),
}
OUTPUTS: Final = tuple(_TYPES)
# Largest difference between two runs of the same text, of a mean or of one token's. With other batches,
# orders and threads a trained model of four layers gave 1e-6 and, in bf16, 2e-3; deeper ones will give more.
TOLERANCE: Final = 1e-4
HALF_TOLERANCE: Final = 0.05
# A sum, and a perplexity, move by as much more as a text has tokens, and as large as it is.
_SCALED: Final = 1000.0


class CausalLMScorer(Scorer):
    """Negative log-likelihood of a text under a causal language model of Hugging Face's, in nats.

    Reads `text`, and `condition` where one is named. `outputs` are some of: nll, the mean of the tokens that
    count; sum, of the same; tokens, how many these are; perplexity, exp(nll); bits_per_byte, the sum over
    ln 2 and the bytes of the text; token_nll, the value of each, in their order. Null where no token counts,
    as of an empty text, or where the condition is null; a perplexity is null where it is too large for
    float32.

    `model`: a folder with config.json, safetensors and a tokenizer.json or SentencePiece model, such as
    `thresher train lm` writes. Nothing is downloaded and no code of the folder is run. What looks like a
    special token in a text is read as text.

    `bos`: whether the token that marks the beginning comes before the text, and so its first token counts;
    auto: where the model's config names one. Without it the first token does not count. `condition`: a column
    whose text comes before, of which no token counts; both are cut into tokens by themselves.

    `window`: tokens that the model reads at a time, by default its context. A longer text is read in windows
    that begin `stride` tokens apart, by default half a window: each token counts once, from the second
    window on with at least window - stride tokens before it. `max_tokens`: of a text, without the condition;
    what is behind is not read. `sequence`: the text is cut instead into sequences of just so many tokens,
    each read by itself, as CoLoR-Filter scores; then nothing comes before them, and what is left at the end
    does not count.

    `mask_heads`: a file of `thresher train retrieval-heads`, whose heads look everywhere alike; `uniform`
    says how: visible, at what a token sees, with weights that sum to one; sequence, with one over the length
    of the sequence as each weight. AttentionInfluence (Hua et al. 2025, arXiv:2505.07293, appendix C) leaves
    open what becomes of the weights of tokens ahead.

    `precision`: fp32, bf16, fp16, or auto, which is bf16 where the device has instructions for it.
    `batch_tokens`: that the model is given at a time; by default 2048 on a CPU, on a GPU by its free memory.
    `threads`: of torch on a CPU, by default as many as the engine gives.
    """

    version: ClassVar[int] = 1

    def __init__(
        self,
        model: str,
        outputs: Sequence[str] = ("nll",),
        window: int | None = None,
        stride: int | None = None,
        max_tokens: int | None = None,
        bos: bool | Literal["auto"] = "auto",
        condition: str | None = None,
        sequence: int | None = None,
        mask_heads: str | None = None,
        uniform: Uniform = "visible",
        batch_tokens: int | None = None,
        precision: str = "auto",
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        chosen = [outputs] if isinstance(outputs, str) else list(outputs)
        wrong = [name for name in chosen if name not in OUTPUTS]
        if wrong or not chosen:
            told = f"there is no output {wrong[0]!r}" if wrong else "no output is asked for"
            raise ValueError(f"{told}; outputs are some of {', '.join(OUTPUTS)}")
        least = {"window": 2, "stride": 1, "max_tokens": 1, "sequence": 2, "batch_tokens": 1, "threads": 1}
        given = {
            "window": window,
            "stride": stride,
            "max_tokens": max_tokens,
            "sequence": sequence,
            "batch_tokens": batch_tokens,
            "threads": threads,
        }
        for name, value in given.items():
            if value is not None and value < least[name]:
                raise ValueError(f"{name} is {value}; write {least[name]} or more")
        if stride is not None and window is not None and stride >= window:
            raise ValueError(
                f"stride is {stride}; it is below the window, {window}, so that no token is lost"
            )
        if sequence is not None:
            others = {"window": window, "stride": stride, "condition": condition, "bos": bos or None}
            named = [name for name, value in others.items() if value not in (None, "auto")]
            if named:
                raise ValueError(f"sequence and {named[0]} exclude each other; keep one of them")
        if bos not in ("auto", True, False):
            raise ValueError(f"bos is {bos!r}; write auto, true or false")
        if uniform not in UNIFORM:
            raise ValueError(f"uniform is {uniform!r}; write {' or '.join(UNIFORM)}")
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision is {precision!r}; write auto, {', '.join(PRECISIONS)}")
        self._outputs = [name for name in OUTPUTS if name in chosen]
        self.inputs = ("text",) if condition is None else ("text", condition)
        self.assets = (model,) if mask_heads is None else (model, mask_heads)
        tolerance = TOLERANCE if precision == "fp32" else HALF_TOLERANCE
        self.tolerance = tolerance * (_SCALED if {"sum", "perplexity"} & set(chosen) else 1)
        self._condition, self._bos, self._uniform = condition, bos, uniform
        self._window, self._stride, self._max_tokens = window, stride, max_tokens
        self._sequence, self._batch_tokens, self._threads = sequence, batch_tokens, threads
        self._place = {"device": device, "precision": precision}
        self._model: LanguageModel | None = None
        self._start: list[int] = []

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {name: _TYPES[name] for name in self._outputs}

    def open(self, assets: Assets) -> None:
        heads = None
        if len(self.assets) == 2:
            heads = read_heads(assets.locate(self.assets[1]), self._uniform)
        model = load_model(assets.locate(self.assets[0]), heads=heads, **self._place)
        model.check_window(self._sequence or self._window or model.context)
        first = None if self._sequence or self._bos is False else model.first_token
        if first is None and self._bos is True:
            raise AssetError(
                f"{self.assets[0]}: its config names no token that marks the beginning of a text"
            )
        if self._stride is not None and self._stride >= (self._window or model.context):
            raise AssetError(
                f"stride is {self._stride}; it is below the window, which is the model's context of "
                f"{model.context}"
            )
        self._start = [] if first is None else [first]
        self._model = model

    def prepare(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        assert self._model is not None, "open comes before prepare"
        texts = batch.column("text").to_pylist()
        before = [""] * len(texts) if self._condition is None else batch.column(self._condition).to_pylist()
        tokenizer = self._model.tokenizer
        # A text without its condition is as none.
        read = [None if given is None else text for text, given in zip(texts, before, strict=True)]
        found = tokenizer.encode([text or "" for text in read], self._max_tokens)
        given: list[list[int]] = [[]] * len(texts)
        if self._condition is not None:
            given = tokenizer.encode([text or "" for text in before])
        made = {
            "tokens": pa.array(
                [self._start + prompt + tokens for prompt, tokens in zip(given, found, strict=True)],
                pa.list_(pa.int32()),
            ),
            "first": pa.array([len(self._start) + len(prompt) for prompt in given], pa.int64()),
        }
        if "bits_per_byte" in self._outputs:
            made["bytes"] = pa.array(map(self._bytes, read, found), pa.int64())
        return pa.RecordBatch.from_pydict(made)

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        assert self._model is not None, "open comes before score"
        column = batch.column("tokens")
        offsets = column.offsets.to_numpy().astype(np.int64)
        values = column.values.to_numpy().astype(np.int64)
        windows = self._windows(np.diff(offsets), batch.column("first").to_numpy())
        with threads(self._threads):
            losses = self._losses(values, offsets, windows)
        rows = np.repeat(windows.row, windows.counts)
        counts = np.bincount(rows, minlength=len(batch))
        sums = np.bincount(rows, weights=losses.astype(np.float64), minlength=len(batch))
        sizes = batch.column("bytes").to_numpy() if "bytes" in batch.schema.names else None
        return {name: _column(name, losses, counts, sums, sizes) for name in self._outputs}

    def _bytes(self, text: str | None, tokens: list[int]) -> int:
        """Of the UTF-8 that the tokens stand for."""
        text = text or ""
        if self._sequence is None and (self._max_tokens is None or len(tokens) < self._max_tokens):
            return len(text.encode())
        assert self._model is not None
        count = len(tokens) if self._sequence is None else len(tokens) // self._sequence * self._sequence
        return len(text[: self._model.tokenizer.covered(text, count)].encode())

    def _windows(self, lengths: Numbers, first: Numbers) -> Windows:
        assert self._model is not None
        if self._sequence is not None:
            return fixed(lengths, self._sequence)
        window = self._window or self._model.context
        return sliding(lengths, first, window, self._stride or max(1, window // 2))

    def _losses(self, values: Numbers, offsets: Numbers, windows: Windows) -> npt.NDArray[np.float32]:
        """That of each token that counts, in the order of the windows."""
        assert self._model is not None
        model, places = self._model, np.cumsum(windows.counts) - windows.counts
        longest = int(windows.reads.max(initial=1))
        losses = np.empty(int(windows.counts.sum()), np.float32)
        for part in model.batches(windows.reads, self._batch_tokens or model.batch_tokens(longest)):
            chosen = windows.take(part)
            at, reads = offsets[chosen.row], chosen.reads
            behind = np.cumsum(reads) - reads + chosen.scored - 1 - chosen.begin
            losses[spans(places[part], chosen.counts)] = model.losses(
                values[spans(at + chosen.begin, reads)],
                reads,
                spans(behind, chosen.counts),
                values[spans(at + chosen.scored, chosen.counts)],
            )
        return losses


def _column(
    name: str, losses: npt.NDArray[np.float32], counts: Numbers, sums: npt.NDArray[Any], sizes: Any
) -> pa.Array:
    nothing = counts == 0
    if name == "token_nll":
        ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(losses), mask=pa.array(nothing))
    if name == "tokens":
        return pa.array(counts, pa.int32(), mask=nothing)
    mean = sums / np.maximum(counts, 1)
    if name == "bits_per_byte":
        found = sums / np.log(2) / np.maximum(sizes, 1)
    else:
        with np.errstate(over="ignore"):
            found = {"nll": mean, "sum": sums, "perplexity": np.exp(mean)}[name]
    with np.errstate(over="ignore"):
        single = found.astype(np.float32)
    return pc.if_else(
        pa.array(np.isfinite(single) & ~nothing), pa.array(single), pa.scalar(None, pa.float32())
    )
