"""Makes the statistics that DSIR weighs texts by, from files of raw data and of targets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .training import NotTrainableError, texts

if TYPE_CHECKING:
    import pyarrow as pa

    from ..pipeline.sources.source_file import SourceFile

_NAMED: Final = re.compile(r"([A-Za-z0-9_]+)=(.+)", re.DOTALL)
_TARGET: Final = "target"  # what targets without a name are called


def train_dsir(
    targets: Sequence[str],
    raw: Sequence[str],
    out: Path,
    *,
    seed: int,
    text: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Counts hashed n-grams and returns where they are and how well they tell targets from raw data.

    `targets`: paths and globs of JSON Lines, Parquet or WET files, or NAME=PATH for several targets, each
    with counts of its own. `raw`: paths and globs; an equal share of each file is counted. `parameters`:
    those of scorers.dsir_training.DsirTrainer. `progress` is told, after each batch, of which data it was,
    and how many documents and n-grams of them there are.
    Raises NotTrainableError, SourceError where a path matches nothing.
    """
    from ..scorers.dsir_training import DsirTrainer

    if out.suffix != ".npz":
        raise NotTrainableError(f"--out {out}: write a name that ends in .npz")
    columns = {"text": text} if text else {}
    named = _named(targets)
    try:
        trained = DsirTrainer(**(parameters or {})).train(
            {name: texts(paths, columns) for name, paths in named.items()},
            list(_files(raw, columns)),
            out,
            seed,
            sources={**named, "raw": raw},
            progress=progress,
        )
    except ValueError as error:
        raise NotTrainableError(str(error)) from error
    bags = {**trained.statistics.targets, "raw": trained.statistics.raw}
    return {
        "model": trained.model.path,
        "sha256": trained.model.sha256,
        "card": str(trained.card),
        "documents": {name: bag.documents for name, bag in bags.items()},
        "ngrams": dict(trained.ngrams),
        "skipped": trained.skipped,
        "held_out": {
            name: {
                "documents": check.documents,
                "raw_documents": check.raw_documents,
                "mean": check.mean,
                "raw_mean": check.raw_mean,
                "difference": check.difference,
                "auc": check.auc,
            }
            for name, check in trained.checks.items()
        },
    }


def _named(targets: Sequence[str]) -> dict[str, list[str]]:
    """The paths of each target, by its name."""
    found: dict[str, list[str]] = {}
    for target in targets:
        named = _NAMED.fullmatch(target)
        name, path = (named[1], named[2]) if named else (_TARGET, target)
        found.setdefault(name, []).append(path)
    return found


def _files(paths: Sequence[str], columns: Mapping[str, str]) -> Iterator[Iterator[pa.RecordBatch]]:
    """The records of each file, which is opened when they are asked for."""
    from ..pipeline.sources.inputs import files_of

    for path in paths:
        source = {"path": path, "format": None, "columns": dict(columns)}
        yield from (_records(file, source) for file in files_of(source))


def _records(file: SourceFile, source: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    from ..pipeline.sources.containers import ContainerCounts
    from ..pipeline.sources.inputs import splits_of
    from ..pipeline.sources.reader import read
    from ..pipeline.sources.split import TARGET_BYTES

    for split in splits_of(file, source, TARGET_BYTES):
        yield from read(split, ContainerCounts())


def told(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text, with the step that uses the statistics."""
    skipped = f"; {answer['skipped']:,} records without a word were left out" if answer["skipped"] else ""
    counted = ", ".join(
        f"{count:,} documents ({answer['ngrams'][name]:,} n-grams) of {name}"
        for name, count in answer["documents"].items()
    )
    lines = [f"{answer['model']}: counted {counted}{skipped}"]
    for name, check in answer["held_out"].items():
        if check["difference"] is None:
            lines.append(f"{name}: not measured, for nothing long enough was held out on both sides")
            continue
        lines.append(
            f"{name}: {check['documents']:,} documents held out weigh {check['difference']:.1f} more than "
            f"{check['raw_documents']:,} of raw data; AUC {check['auc']:.4f}"
        )
    target = next(iter(answer["held_out"]), None) if len(answer["held_out"]) > 1 else None
    chosen = f", target: {target}" if target else ""
    return "\n".join(
        [
            *lines,
            f"its card is {answer['card']}; use it in a job as",
            f"  - score: {{dsir: {{statistics: {answer['model']}{chosen}}}}}",
            "    as: dsir",
        ]
    )
