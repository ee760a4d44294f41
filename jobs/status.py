"""How far a run is: the parts that each stage has committed."""

from __future__ import annotations

from typing import Any

from . import work
from .places import Run
from .progress import counted, size
from .running import read_manifest


def status(run: Run) -> dict[str, Any]:
    """`state` (not started, running, stopped, finished) and, for each stage, parts, rows and bytes so far.

    `other_stages` counts those that the job left before it was changed.
    """
    found = []
    for stage in work.stages(run.work):
        entries = list(stage.entries())
        found.append(
            {
                "stage": stage.name,
                "finished": stage.finished,
                "parts": len(entries),
                "records_in": sum(entry["rows"][0] for entry in entries),
                "records_out": sum(entry["rows"][1] for entry in entries),
                "bytes": sum(file["bytes"] for entry in entries for file in entry["streams"].values()),
            }
        )
    if work.is_running(run.work):
        state = "running"
    elif run.finished:
        state = "finished"
    else:
        state = "stopped" if found else "not started"
    answer = {
        "name": run.name,
        "state": state,
        "output": str(run.output),
        "work": str(run.work),
        "stages": found,
        "other_stages": len(work.all_stages(run.work)) - len(found),
    }
    if run.finished:
        answer["totals"] = read_manifest(run.output)["totals"]
    return answer


def told(answer: dict[str, Any]) -> str:
    """The status as lines of text."""
    lines = [f"{answer['name']}: {answer['state']}"]
    for stage in answer["stages"]:
        records = f"{stage['records_in']:,} records in, {stage['records_out']:,} out"
        mark = "done" if stage["finished"] else "open"
        parts, bytes_ = counted(stage["parts"], "part"), size(stage["bytes"])
        lines.append(f"  {mark}  {stage['stage']}: {parts}, {records}, {bytes_}")
    totals = answer.get("totals")
    if totals:
        lines.append(f"  {totals['in']:,} in, {totals['kept']:,} kept, {totals['written']:,} written")
    if answer["other_stages"]:
        left = counted(answer["other_stages"], "stage")
        lines.append(f"  {left} of other variants of this job in {answer['work']}; clean removes them all")
    if answer["state"] == "stopped":
        lines.append("  run it again to go on from here")
    return "\n".join(lines)
