"""Trains the tokenizer of a perplexity scorer, as CCNet does."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa

from ..schemas.contracts import AssetRef
from .assets import checksum
from .kenlm_model import LINES, NORMALIZATIONS, Lines, Normalization
from .language_model_card import TrainedLanguageModel, language_model_card
from .sentencepiece_model import SentencePieceModel, library, load
from .training import TrainingError
from .training_documents import DataDigest, TrainingDocuments

ModelType = Literal["unigram", "bpe"]
MODEL_TYPES: Final[tuple[ModelType, ...]] = ("unigram", "bpe")

# The longest line that spm_train reads, in bytes, unless told otherwise; longer ones it leaves out (option
# max_sentence_length).
_LINE_BYTES: Final = 4192
_MOST_PIECES: Final = re.compile(r"value <= (\d+)")


@dataclass(frozen=True)
class SentencePieceTrainer:
    """Trains a SentencePiece model from streams of batches with a column `text`.

    The defaults are those of CCNet's Makefile: a unigram model of `vocab_size` pieces; where the text is too
    little for so many, of `fallback_vocab_size` (null: none). `max_documents` is its NDOC_FOR_LM; which of
    more documents are taken is drawn by hash(seed, text). `normalize` and `lines` are those of the scorer.
    Lines that SentencePiece would leave out as too long are cut at spaces. `max_bytes` bounds the text that
    is learned from, which takes some 27 times as much memory (measured: 54 MB of English, 1.5 GB); its
    default is ours.
    `held_out`: the share of documents that the model is measured on and never sees. The same data, seed and
    `threads` give the same bytes.

    Raises ValueError for parameters out of range.
    """

    vocab_size: int = 65_536
    fallback_vocab_size: int | None = 40_000
    model_type: ModelType = "unigram"
    character_coverage: float = 0.9995
    hard_vocab_limit: bool = True
    byte_fallback: bool = False
    normalize: Normalization = "ccnet"
    lines: Lines = "joined"
    max_documents: int = 1_000_000
    max_bytes: int = 200_000_000
    threads: int = 1
    held_out: float = 0.1
    licence: str = "unknown"

    def __post_init__(self) -> None:
        for name in ("vocab_size", "fallback_vocab_size", "max_documents", "max_bytes", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is at least 1")
        known = {"model_type": MODEL_TYPES, "normalize": NORMALIZATIONS, "lines": LINES}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; write {' or '.join(choices)}")
        if not 0 < self.character_coverage <= 1:
            raise ValueError(f"character_coverage is {self.character_coverage}; it is above 0 and at most 1")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; write a fraction of 0 or more and below 1")

    def fit(self, data: Mapping[str, Iterable[pa.RecordBatch]], out: Path, seed: int) -> AssetRef:
        """Trains on the batches of all labels and writes `out`, a `.model` file, and its card `out` + `.md`.

        Raises as `train` does.
        """
        return self.train(chain.from_iterable(data.values()), out, seed).model

    def train(
        self, batches: Iterable[pa.RecordBatch], out: Path, seed: int, sources: Iterable[str] = ()
    ) -> TrainedLanguageModel:
        """As `fit`; returns all there is to know. `sources`: for the card, where the data came from.

        Raises ValueError if no document has text, AssetError if sentencepiece is missing, and TrainingError
        if it gives up, as where the text is too little for the vocabulary.
        """
        library()
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            documents = TrainingDocuments(
                Path(folder), seed, self.held_out, self.max_documents, self.normalize, self.lines
            )
            for batch in batches:
                documents.add(batch.column("text"))
            model, digest = self._run(documents)
            made = Path(folder) / "made.model"
            made.write_bytes(model)
            held_out, figures = _measured(load(made), documents.held_out())
            documents.close()
            os.replace(made, out)
        asset = AssetRef(str(out), checksum(out), self.licence)
        card = out.with_name(out.name + ".md")
        trained = TrainedLanguageModel(
            asset, card, digest.documents, held_out, documents.skipped, digest.hexdigest(), figures
        )
        what = f"A SentencePiece model ({self.model_type}) of {load(out).size} pieces."
        parameters = {**asdict(self), "seed": seed}
        card.write_text(language_model_card(what, trained, parameters, sources), encoding="utf-8")
        return trained

    def _run(self, documents: TrainingDocuments) -> tuple[bytes, DataDigest]:
        sizes = [self.vocab_size]
        if self.fallback_vocab_size is not None and self.fallback_vocab_size < self.vocab_size:
            sizes.append(self.fallback_vocab_size)
        most: str | None = None
        for size in sizes:
            digest = DataDigest(documents.learned())
            lines = _bounded(digest, self.max_bytes)
            first = next(lines, None)
            if first is None:
                raise ValueError("there is no document with text to learn from")
            model = io.BytesIO()
            try:
                library().SentencePieceTrainer.train(
                    sentence_iterator=chain([first], lines), model_writer=model, **self._options(size)
                )
            except (OSError, RuntimeError, ValueError) as error:
                found = _MOST_PIECES.search(str(error))
                if found is None:
                    told = str(error).strip().splitlines()[0]
                    raise TrainingError(f"SentencePiece stopped: {told}") from error
                most = found[1]
                continue
            return model.getvalue(), digest
        tried = " and ".join(map(str, sizes))
        raise TrainingError(
            f"the text is too little for a vocabulary of {tried} pieces; give more of it, or a vocab_size of "
            f"at most {most}"
        )

    def _options(self, size: int) -> dict[str, Any]:
        return {
            "vocab_size": size,
            "model_type": self.model_type,
            "character_coverage": self.character_coverage,
            "hard_vocab_limit": self.hard_vocab_limit,
            "byte_fallback": self.byte_fallback,
            "max_sentence_length": _LINE_BYTES,
            "num_threads": self.threads,
            "minloglevel": 2,
        }


def _bounded(lines: Iterable[str], max_bytes: int) -> Iterator[str]:
    """The lines in pieces that SentencePiece reads, until `max_bytes` are reached."""
    given = 0
    for line in lines:
        for part in cut(line, _LINE_BYTES):
            given += len(part.encode())
            if given > max_bytes:
                return
            yield part


def cut(line: str, most: int) -> Iterator[str]:
    """A line in parts of at most `most` bytes of UTF-8, cut behind a space where there is one; no empty part.

    `most` is at least 4, for the longest character.
    """
    encoded = line.encode()
    at = 0
    while at < len(encoded):
        stop = len(encoded)
        if stop - at > most:
            stop = encoded.rfind(b" ", at, at + most) + 1
            if stop <= at:
                stop = at + most
                while encoded[stop] & 0xC0 == 0x80:
                    stop -= 1
        yield encoded[at:stop].decode()
        at = stop


def _measured(model: SentencePieceModel, documents: Iterable[list[str]]) -> tuple[int, dict[str, float]]:
    count = pieces = unknown = chars = size = 0
    vocabulary = set(model.vocabulary())
    for lines in documents:
        count += 1
        for line in lines:
            found = model.pieces(line)
            pieces += len(found)
            unknown += sum(piece not in vocabulary for piece in found)
            chars += len(line)
            size += len(line.encode())
    if not pieces:
        return count, {}
    return count, {
        "characters per piece": chars / pieces,
        "bytes per piece": size / pieces,
        "share of unknown pieces": unknown / pieces,
    }
