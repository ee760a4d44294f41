"""Trains what a perplexity scorer reads: a SentencePiece tokenizer, and a KenLM model of its pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .training import NotTrainableError, texts

if TYPE_CHECKING:
    import pyarrow as pa

    from ..scorers.language_model_card import TrainedLanguageModel


def train_sentencepiece(
    inputs: Sequence[str],
    out: Path,
    *,
    seed: int,
    text: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains a tokenizer and returns where it is and how it does on documents held out.

    `inputs`: paths and globs as `train_fasttext` takes them. `parameters`: those of
    scorers.sentencepiece_training.SentencePieceTrainer. Raises NotTrainableError, AssetError where a package
    is missing, SourceError where a path matches nothing.
    """
    from ..scorers.sentencepiece_training import SentencePieceTrainer
    from ..scorers.training import TrainingError

    try:
        trainer = SentencePieceTrainer(**(parameters or {}))
        trained = trainer.train(_batches(inputs, text), out, seed, inputs)
    except (ValueError, TrainingError) as error:
        raise NotTrainableError(str(error)) from error
    return _answer(trained)


def train_kenlm(
    inputs: Sequence[str],
    out: Path,
    *,
    tokenizer: Path,
    seed: int,
    text: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains a language model and returns where it is and its perplexity on documents held out.

    `tokenizer`: a SentencePiece model. `parameters`: those of scorers.kenlm_training.KenLMTrainer. Raises
    NotTrainableError, AssetError where lmplz, a package or the tokenizer is missing, SourceError where a path
    matches nothing.
    """
    from ..scorers.kenlm_training import KenLMTrainer
    from ..scorers.training import TrainingError

    try:
        trainer = KenLMTrainer(str(tokenizer), **(parameters or {}))
        trained = trainer.train(_batches(inputs, text), out, seed, inputs)
    except (ValueError, TrainingError) as error:
        raise NotTrainableError(str(error)) from error
    return {**_answer(trained), "tokenizer": str(tokenizer)}


def _batches(inputs: Sequence[str], text: str | None) -> Iterator[pa.RecordBatch]:
    return texts(inputs, {"text": text} if text else {})


def _answer(trained: TrainedLanguageModel) -> dict[str, Any]:
    return {
        "model": trained.model.path,
        "sha256": trained.model.sha256,
        "card": str(trained.card),
        "documents": trained.documents,
        "held_out": trained.held_out,
        "skipped": trained.skipped,
        "figures": dict(trained.figures),
    }


def told(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text, with what the model is for."""
    skipped = f"; {answer['skipped']:,} records without text were left out" if answer["skipped"] else ""
    lines = [f"{answer['model']}: learned from {answer['documents']:,} documents{skipped}"]
    if answer["figures"]:
        lines.append(f"on {answer['held_out']:,} documents held out:")
        lines += [f"  {name}: {value:.4g}" for name, value in answer["figures"].items()]
    else:
        lines.append("not measured: nothing was held out")
    lines.append(f"its card is {answer['card']}; use it in a job as")
    if "tokenizer" in answer:
        names = f"model: {answer['model']}, tokenizer: {answer['tokenizer']}"
        return "\n".join([*lines, f"  - score: {{kenlm: {{{names}}}}}", "    as: perplexity"])
    lines[-1] = f"its card is {answer['card']}; train a language model of its pieces with"
    return "\n".join([*lines, f"  thresher train kenlm --tokenizer {answer['model']} --input … --out lm.bin"])
