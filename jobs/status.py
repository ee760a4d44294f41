"""How far a run is: the parts that each stage has committed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..pipeline.storage import RemotePath
from . import work
from .places import Run
from .progress import counted, size
from .running import read_manifest


def status(run: Run) -> dict[str, Any]:
    """`state` and, for each stage, parts, rows and bytes so far, with its own engine and resources if any.

    `state`: not started, running, stopped or finished; unfinished in a store, where a run cannot be seen:
    `written` says when something was last written there. `other_stages` counts those that the job left before
    it was changed.
    """
    every = work.all_stages(run.work)
    stages = work.stages(run.work, every)
    answer: dict[str, Any] = {
        "name": run.name,
        "state": _state(run, begun=bool(stages)),
        "output": str(run.output),
        "work": str(run.work),
        "stages": [_counted(stage, run) for stage in stages],
        "other_stages": len(every) - len(stages),
    }
    if isinstance(run.work, RemotePath) and answer["state"] == "unfinished":
        written = work.last_written(run.work)
        answer["written"] = None if written is None else written.isoformat(timespec="seconds")
    if run.finished:
        answer["totals"] = read_manifest(run.output)["totals"]
    return answer


def _state(run: Run, begun: bool) -> str:
    if isinstance(run.work, Path) and work.is_running(run.work):
        return "running"
    if run.finished:
        return "finished"
    if not begun:
        return "not started"
    return "stopped" if isinstance(run.work, Path) else "unfinished"


def _counted(stage: work.StageDirectory, run: Run) -> dict[str, Any]:
    entries = stage.entries()
    return {
        "stage": stage.name,
        **_placed(stage.name, run.placed),
        "finished": stage.finished,
        "parts": len(entries),
        "records_in": sum(entry["rows"][0] for entry in entries),
        "records_out": sum(entry["rows"][1] for entry in entries),
        "bytes": sum(file["bytes"] for entry in entries for file in entry["streams"].values()),
    }


def _placed(stage: str, placed: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Engine and resources of a stage: those of the step that its name begins with, the longest such name.

    Steps that share a pass have them in common; a pass that only reads for a step is the job's.
    """
    if stage.endswith("-reads"):
        return {}
    starts = [
        name for name in placed if stage == name[:60] or stage.startswith((f"{name}-", f"{name[:28]}-to-"))
    ]
    return placed[max(starts, key=len)] if starts else {}


def where(stage: Mapping[str, Any]) -> str:
    """In words, the engine (`on`) and the resources that a stage has of its own; "" where it has none."""
    needs = stage.get("resources") or {}
    told = [f"on {stage['on']}"] if stage.get("on") else []
    # Resources are told where they are not what every task has.
    if needs.get("cpus", 1) != 1:
        told.append(f"{needs['cpus']:g} cores")
    if needs.get("gpus"):
        told.append(f"{needs['gpus']:g} GPU{'' if needs['gpus'] == 1 else 's'}")
    if needs.get("memory"):
        told.append(size(needs["memory"]))
    if needs.get("actors"):
        fewest, most = needs["actors"]
        told.append(counted(most, "actor") if fewest == most else f"{fewest} to {most} actors")
    return ", ".join(told)


def told(answer: dict[str, Any]) -> str:
    """The status as lines of text."""
    lines = [f"{answer['name']}: {answer['state']}"]
    for stage in answer["stages"]:
        records = f"{stage['records_in']:,} records in, {stage['records_out']:,} out"
        mark = "done" if stage["finished"] else "open"
        parts, bytes_ = counted(stage["parts"], "part"), size(stage["bytes"])
        needs = f" ({own})" if (own := where(stage)) else ""
        lines.append(f"  {mark}  {stage['stage']}{needs}: {parts}, {records}, {bytes_}")
    totals = answer.get("totals")
    if totals:
        lines.append(f"  {totals['in']:,} in, {totals['kept']:,} kept, {totals['written']:,} written")
    if answer["other_stages"]:
        left = counted(answer["other_stages"], "stage")
        lines.append(f"  {left} of other variants of this job in {answer['work']}; see clean --keep last")
    if totals and not answer["stages"]:
        lines.append(f"  nothing is kept in {answer['work']}: it was cleaned, or the job file names another")
    if answer["state"] == "stopped":
        lines.append("  run it again to go on from here")
    if answer["state"] == "unfinished":
        when = f"; last written to at {answer['written']}" if answer.get("written") else ""
        lines.append(f"  a store does not show whether a run is at work{when}")
        lines.append("  if none is, run it again to go on from here")
    return "\n".join(lines)
