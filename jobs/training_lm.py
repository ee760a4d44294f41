"""Trains a causal language model on files of text, and finds the heads of one that retrieve."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .training import NotTrainableError, texts

if TYPE_CHECKING:
    from ..scorers.lm.training_loop import Progress


def train_lm(
    paths: Sequence[str],
    out: Path,
    *,
    seed: int,
    text: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Trains a language model and returns where it is and how good it is on documents held out.

    `paths`: paths and globs of JSON Lines, Parquet or WET files, whose column `text` (or the one named) is
    learned. `parameters`: those of scorers.lm.training.LMTrainer. `report` hears of each evaluation. Ctrl-C
    keeps the best model so far, and the answer says so; before there is one, KeyboardInterrupt is raised.
    Raises NotTrainableError, AssetError where a package or a file is missing, SourceError where a path
    matches nothing.
    """
    from ..scorers.lm.training import LMTrainer
    from ..scorers.training import TrainingError

    try:
        trainer = LMTrainer(**(parameters or {}))
        found = trainer.train(
            texts(paths, {"text": text} if text else {}), out, seed, sources=paths, report=report
        )
    except (ValueError, TrainingError) as error:
        raise NotTrainableError(str(error)) from error
    return {
        "model": str(found.folder),
        "sha256": found.trained.model.sha256,
        "card": str(found.trained.card),
        "documents": found.trained.documents,
        "held_out": found.trained.held_out,
        "skipped": found.trained.skipped,
        "parameters": found.parameters,
        "tokens": found.tokens,
        "steps": found.steps,
        "best_step": found.best_step,
        "ending": found.ending,
        "loss": found.loss,
        "start_loss": found.start_loss,
    }


def find_heads(
    model: Path,
    out: Path,
    *,
    seed: int,
    parameters: Mapping[str, Any] | None = None,
    report: Callable[[int, int], None] = lambda done, tasks: None,
) -> dict[str, Any]:
    """Finds the heads of the model in a folder that retrieve, and writes them to `out`.

    `parameters`: those of scorers.lm.retrieval_heads.RetrievalHeadFinder. `report` hears how many tasks are
    done, of how many. Raises NotTrainableError, AssetError where there is no such model.
    """
    from ..scorers.assets import LocalAssets
    from ..scorers.lm.retrieval_heads import RetrievalHeadFinder

    try:
        finder = RetrievalHeadFinder(**(parameters or {}))
    except ValueError as error:
        raise NotTrainableError(str(error)) from error
    heads, scores = finder.find(LocalAssets().locate(str(model)), out, seed, report)
    return {
        "heads_file": str(out),
        "model": str(model),
        "of": int(scores.size),
        "mean": float(scores.mean()),
        "heads": [
            {"layer": layer, "head": head, "score": float(scores[layer, head])} for layer, head in heads
        ],
    }


def told(answer: Mapping[str, Any]) -> str:
    """A trained model as lines of text, with the step that uses it."""
    skipped = f"; {answer['skipped']:,} records without text were left out" if answer["skipped"] else ""
    measured = "not measured"
    if answer["loss"] is not None:
        measured = f"{answer['loss']:.4f} nats per token"
        if answer["start_loss"] is not None:
            measured += f", {answer['start_loss']:.4f} before training"
    lines = [
        f"{answer['model']}: {answer['parameters']:,} parameters, learned from "
        f"{answer['documents']:,} documents ({answer['tokens']:,} tokens){skipped}",
        f"on {answer['held_out']:,} documents held out: {measured}, after step {answer['best_step']:,} of "
        f"{answer['steps']:,}",
        f"its card is {answer['card']}; use it in a job as",
        f"  - score: {{causal_lm: {{model: {answer['model']}}}}}",
        "    as: lm",
    ]
    if answer["ending"] == "interrupted":
        lines.insert(0, "interrupted; this is the best model until then")
    return "\n".join(lines)


def told_heads(answer: Mapping[str, Any]) -> str:
    """Heads that were found as lines of text, with the step that masks them."""
    return "\n".join(
        [
            f"{answer['heads_file']}: {len(answer['heads'])} of {answer['of']} heads, whose mean score is "
            f"{answer['mean']:.4f}",
            *(
                f"  layer {one['layer']}, head {one['head']}: {one['score']:.4f}"
                for one in answer["heads"][:10]
            ),
            *(["  …"] if len(answer["heads"]) > 10 else []),
            "mask them in a job as",
            f"  - score: {{causal_lm: {{model: {answer['model']}, mask_heads: {answer['heads_file']}}}}}",
            "    as: masked",
        ]
    )


def told_progress(progress: Progress) -> str:
    """One line for an evaluation."""
    parts = [f"step {progress.step:,}"]
    if not math.isnan(progress.loss):
        parts.append(f"loss {progress.loss:.3f}")
    if progress.held_out is not None:
        parts.append(f"held out {progress.held_out:.4f}{' (best)' if progress.best else ''}")
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:,.0f} tokens/s")
        parts.append(f"{progress.seconds_left:,.0f} s left")
    return ", ".join(parts)
