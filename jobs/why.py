"""The story of one record: what became of it, at which step, and the values that decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ..pipeline.sinks.image_columns import IMAGE_COLUMNS
from ..pipeline.sinks.pair_table import TABLE_COLUMNS
from ..pipeline.sources.files import open_file
from ..pipeline.storage import Place
from ..schemas.records import IMAGE_TEXT, TEXT
from . import work
from .inspection import records
from .places import Run
from .running import read_manifest

# The columns of every shard, what stands beside a WebDataset's, and the key of its samples.
_NO_SCORES: Final = frozenset(
    {*TEXT.names, *IMAGE_TEXT.names, *IMAGE_COLUMNS.names, *TABLE_COLUMNS.names, "__key__", "uid"}
)


class NoAnswerError(Exception):
    """The run did not keep what would tell; the message says why."""


def why(run: Run, record: str) -> dict[str, Any]:
    """What the run's ledger, shards and sidecars say of the record with this id.

    `fates`: one mapping for each record of the id (ids may repeat) with `verdict` kept, dropped, duplicate
    or error; `step`, `reason` and `value` where it was not kept, `shard` and `scores` by name where it was;
    `signals` by name, as long as the work directory is there. Raises NoAnswerError where the run is not
    finished, the ledger does not hold every record, or no record has this id.
    """
    if not run.finished:
        raise NoAnswerError(f"{run.output} has no manifest: the run is not finished; see thresher status")
    fates = [*_lost(run.output, record), *_kept(run.output, record)]
    if not fates and run.ledger != "full":
        raise NoAnswerError(
            f"{record} is in no shard, and the ledger of this run is {run.ledger}: it does not hold every"
            " record. Set run.ledger to full and run again to know"
        )
    if not fates:
        raise NoAnswerError(
            f"no record of this run has the id {record}: it is in no shard and not in the ledger"
        )
    _add_signals(run.work, record, fates)
    return {"id": record, "fates": fates}


def told(story: dict[str, Any]) -> str:
    """The story as lines of text."""
    lines: list[str] = []
    for fate in story["fates"]:
        if fate["verdict"] == "kept":
            lines.append(f"{story['id']}: kept, in {fate['shard']}")
        else:
            at = "at step" if fate["verdict"] != "error" else "an error in step"
            value = "" if fate["value"] is None else f" ({_value(fate)})"
            lines.append(f"{story['id']}: {fate['verdict']}, {at} {fate['step']}: {fate['reason']}{value}")
            lines.append(f"  source: {fate['source']}")
        columns = {**fate.get("signals", {}), **fate.get("scores", {})}
        lines += [f"  {name} = {value}" for name, value in sorted(columns.items())]
    return "\n".join(lines)


def _value(fate: dict[str, Any]) -> str:
    return f"stands for it: {fate['value']}" if fate["verdict"] == "duplicate" else str(fate["value"])


def _lost(output: Place, record: str) -> Iterator[dict[str, Any]]:
    for path in _ledger(output):
        yield from _rows(path, "id", record)


def _ledger(output: Place) -> Sequence[Place]:
    if isinstance(output, Path):
        return sorted((output / "ledger").glob("*.parquet"))
    return [output / name for name in read_manifest(output)["files"] if name.startswith("ledger/")]


def _kept(output: Place, record: str) -> Iterator[dict[str, Any]]:
    for shard in read_manifest(output)["shards"]:
        # The table beside a shard of images has all that is asked for, and is read without the images.
        beside = [file["path"] for file in shard.get("sidecars", ())]
        tables = [name for name in beside if name.endswith(".parquet") and "/" not in name]
        path = output / (tables or [shard["path"]])[0]
        for row in records(path, without=_NO_SCORES - {"id", "uid"}, equal=record):
            if row.get("id") == record or row.get("uid") == record.lower():
                scores = {
                    name: value
                    for name, value in row.items()
                    if name not in _NO_SCORES and not _is_embedding(value)
                }
                kept = {"verdict": "kept", "shard": str(output / shard["path"])}
                yield kept | ({"scores": scores} if scores else {})


def _is_embedding(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(number, float) for number in value)


def _add_signals(directory: Place, record: str, fates: list[dict[str, Any]]) -> None:
    """Adds to each fate the signals of its position, from the sidecars that are still there."""
    stages = work.stages(directory)
    positions = {fate["position"] for fate in fates if "position" in fate}
    kept = [fate for fate in fates if fate["verdict"] == "kept"]
    if kept:
        # Shards carry no position, so a kept record's is looked up among the parts of the run.
        found = {
            row["position"]
            for stage in stages
            for path in stage.streams("records", ("id", "position"))
            for row in _rows(path, "id", record, ["position"])
        }
        for fate, position in zip(kept, sorted(found - positions), strict=False):
            fate["position"] = position
    sidecars = [path for stage in stages for path in stage.streams("signals", ("position",))]
    for fate in fates:
        signals: dict[str, Any] = {}
        for path in sidecars if "position" in fate else ():
            for row in _rows(path, "position", fate["position"]):
                signals |= {name: value for name, value in row.items() if name != "position"}
        if signals:
            fate["signals"] = signals


def _rows(path: Place, column: str, value: Any, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a Parquet file with this value; of a remote file just the ranges that are read travel."""
    import pyarrow.parquet as pq

    with open_file(str(path), ahead=False) as file:
        rows: list[dict[str, Any]] = pq.read_table(
            file, columns=columns, filters=[(column, "==", value)]
        ).to_pylist()
    return rows
