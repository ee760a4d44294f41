"""Trains the language model of a perplexity scorer, as CCNet does."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from ..schemas.contracts import AssetRef
from . import kenlm_model, sentencepiece_model
from .assets import checksum
from .kenlm_model import LINES, NORMALIZATIONS, Lines, Normalization, PieceLanguageModel
from .kenlm_tools import KenLMTools, find
from .language_model_card import TrainedLanguageModel, language_model_card
from .sentencepiece_model import SentencePieceModel
from .training import TrainingError
from .training_documents import DataDigest, TrainingDocuments

Structure = Literal["probing", "trie"]
STRUCTURES: Final[tuple[Structure, ...]] = ("probing", "trie")

# CCNet divides a corpus at the 30th and 60th percentile of perplexity (cc_net/perplexity.py).
PERCENTILES: Final = (10, 30, 50, 60, 90)
_MOST_ORDER: Final = 6  # KENLM_MAX_ORDER, with which lmplz and the Python package are compiled
_MEMORY: Final = re.compile(r"\d+[%bKMGT]?")


@dataclass(frozen=True)
class KenLMTrainer:
    """Trains an n-gram model of SentencePiece pieces from streams of batches with a column `text`.

    The defaults are those of CCNet's Makefile: order 5, modified Kneser-Ney with `discount_fallback` where a
    discount cannot be estimated, nothing pruned, the probing structure. `prune` is lmplz's: counts up to
    which n-grams are left out, for each order, as (0, 0, 1). `structure`: trie takes less memory and is
    slower; `quantize` stores its numbers in so many bits. `memory` is lmplz's for sorting, 8G in CCNet; it
    changes no result. `max_documents` is CCNet's NDOC_FOR_LM; which of more documents are taken is drawn by
    hash(seed, text). `normalize` and `lines` are those of the scorer. `held_out`: the share of documents that
    the model is measured on and never sees. The same data and seed give the same bytes.

    Raises ValueError for parameters out of range.
    """

    tokenizer: str
    order: int = 5
    prune: tuple[int, ...] = ()
    discount_fallback: bool = True
    structure: Structure = "probing"
    quantize: int | None = None
    memory: str = "1G"
    normalize: Normalization = "ccnet"
    lines: Lines = "joined"
    max_documents: int = 1_000_000
    held_out: float = 0.1
    licence: str = "unknown"

    def __post_init__(self) -> None:
        if not 2 <= self.order <= _MOST_ORDER:
            raise ValueError(f"order is {self.order}; it is from 2 to {_MOST_ORDER}")
        rising = list(self.prune) == sorted(self.prune) and min(self.prune, default=0) == 0
        if not rising or len(self.prune) > self.order:
            raise ValueError(
                f"prune is {self.prune}; write at most {self.order} counts, from 0 on, that never fall"
            )
        if self.quantize is not None and (self.structure != "trie" or not 2 <= self.quantize <= 25):
            raise ValueError("quantize is from 2 to 25 bits, and only for the structure trie")
        if not _MEMORY.fullmatch(self.memory):
            raise ValueError(f"memory is {self.memory!r}; write it as lmplz does: 512M, 8G or 50%")
        known = {"structure": STRUCTURES, "normalize": NORMALIZATIONS, "lines": LINES}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; write {' or '.join(choices)}")
        if self.max_documents < 1:
            raise ValueError(f"max_documents is {self.max_documents}; it is at least 1")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; write a fraction of 0 or more and below 1")

    def fit(self, data: Mapping[str, Iterable[pa.RecordBatch]], out: Path, seed: int) -> AssetRef:
        """Trains on the batches of all labels and writes `out`, a `.bin` file, and its card `out` + `.md`.

        Raises as `train` does.
        """
        return self.train(chain.from_iterable(data.values()), out, seed).model

    def train(
        self, batches: Iterable[pa.RecordBatch], out: Path, seed: int, sources: Iterable[str] = ()
    ) -> TrainedLanguageModel:
        """As `fit`; returns all there is to know. `sources`: for the card, where the data came from.

        Memory: `memory`, then the model's own size. Disk: the text and all its n-grams, beside `out`, until
        the end. Raises ValueError if no document has text, AssetError if lmplz or a package is missing or the
        tokenizer is none, and TrainingError if lmplz gives up.
        """
        tools = find()
        kenlm_model.library()
        path = Path(self.tokenizer)
        tokenizer = sentencepiece_model.load(path)
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as place:
            folder = Path(place)
            documents = TrainingDocuments(
                folder, seed, self.held_out, self.max_documents, self.normalize, self.lines
            )
            for batch in batches:
                documents.add(batch.column("text"))
            digest = DataDigest(documents.learned())
            made = self._run(tools, tokenizer, digest, folder)
            held_out, figures = _measured(kenlm_model.load(made, path), documents.held_out())
            documents.close()
            os.replace(made, out)
        asset = AssetRef(str(out), checksum(out), self.licence)
        card = out.with_name(out.name + ".md")
        trained = TrainedLanguageModel(
            asset, card, digest.documents, held_out, documents.skipped, digest.hexdigest(), figures
        )
        what = f"A KenLM model of order {self.order} over the pieces of {path.name}."
        parameters = {
            **asdict(self),
            "tokenizer": f"{path.name}, SHA-256 `{checksum(path)}`",
            "seed": seed,
        }
        card.write_text(language_model_card(what, trained, parameters, sources), encoding="utf-8")
        return trained

    def _run(self, tools: KenLMTools, tokenizer: SentencePieceModel, lines: DataDigest, folder: Path) -> Path:
        arpa, made = folder / "model.arpa", folder / "model.bin"
        temporary = f"{folder}{os.sep}"
        command = [str(tools.lmplz), "-o", str(self.order), "-S", self.memory, "-T", temporary]
        # A piece may be what lmplz keeps for itself, if the tokenizer was made with symbols of its user's.
        command += ["--vocab_estimate", str(tokenizer.size), "--skip_symbols", "--arpa", str(arpa)]
        command += ["--discount_fallback"] if self.discount_fallback else []
        command += ["--prune", *map(str, self.prune)] if self.prune else []
        text = (" ".join(tokenizer.pieces(line)) + "\n" for line in lines)
        _feed(command, text, folder / "lmplz.log")
        if not lines.documents:
            raise ValueError("there is no document with text to learn from")
        build = [str(tools.build_binary), "-T", temporary, "-S", self.memory]
        build += ["-q", str(self.quantize), "-b", str(self.quantize)] if self.quantize else []
        _feed([*build, self.structure, str(arpa), str(made)], (), folder / "build_binary.log")
        arpa.unlink()
        return made


def _feed(command: Sequence[str], lines: Iterable[str], log: Path) -> None:
    """Runs a program on lines. Raises TrainingError with its last words if it fails."""
    # What it tells goes to a file: a pipe that nobody reads while the lines are written would stop it.
    with log.open("wb") as told:
        running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=told, stderr=told)
        assert running.stdin is not None
        try:
            with running.stdin:
                for line in lines:
                    running.stdin.write(line.encode("utf-8", "replace"))
        except BrokenPipeError:
            pass  # it has given up, and tells why below
        except BaseException:
            running.kill()
            running.wait()
            raise
        status = running.wait()
    if status:
        last = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()][-3:]
        raise TrainingError(
            f"{Path(command[0]).name} ended with status {status}: {' '.join(last) or 'it said nothing'}"
        )


def _measured(model: PieceLanguageModel, documents: Iterable[list[str]]) -> tuple[int, dict[str, float]]:
    """How many documents there are, and the figures of the model on them."""
    total = 0.0
    words = 0
    perplexities: list[float] = []
    for lines in documents:
        scores, lengths = model.score(lines)
        total += float(scores.sum())
        words += int(lengths.sum())
        perplexities.append(10.0 ** float(-scores.sum() / lengths.sum()))
    if not perplexities:
        return 0, {}
    cuts = np.percentile(perplexities, PERCENTILES)
    return len(perplexities), {
        "perplexity of all their pieces together": 10.0 ** (-total / words),
        **{
            f"perplexity of documents, percentile {percent}": float(value)
            for percent, value in zip(PERCENTILES, cuts, strict=True)
        },
    }
