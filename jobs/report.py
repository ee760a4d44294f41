"""The funnel: what entered each step, what it kept, and why the rest did not pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .progress import counted, duration, size


def share(part: int, whole: int) -> str:
    """`part` of `whole` in percent; "" of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else ""


def losses(step: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What a step did not let pass: (reason, records), the most frequent first."""
    found = [(reason, n) for reason, n in step["dropped"].items() if n]
    found += [("duplicate", step["duplicates"])] if step["duplicates"] else []
    found += [(f"error: {kind}", n) for kind, n in step["errors"].items() if n]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def funnel(manifest: Mapping[str, Any]) -> str:
    """Plain text of at most 100 columns: one row for each step and reason, then containers and totals.

    `manifest` is the output's `manifest.json`, of which `totals` is read, or the totals themselves.
    """
    totals = manifest.get("totals", manifest)
    rows = [("step", "in", "kept", "", "why the rest did not pass"), *_rows(totals)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:4], widths[1:4]), row[4]]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *_summary(totals)])


def _rows(totals: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    for step in totals["steps"]:
        entered = step["in"] + step.get("added", 0)
        reasons = [f"{reason} {n:,} ({share(n, entered)})" for reason, n in losses(step)]
        reasons += [f"[{name.replace('_', ' ')} {n:,}]" for name, n in step.get("figures", {}).items()]
        first, *others = reasons or [""]
        yield step["step"], f"{step['in']:,}", f"{step['kept']:,}", share(step["kept"], entered), first
        for reason in others:
            yield "", "", "", "", reason


def _summary(totals: Mapping[str, Any]) -> Iterator[str]:
    for kind, counts in totals.get("containers", {}).items():
        parts = [f"{counts['in']:,} in", f"{counts['read']:,} read"]
        parts += [f"{n:,} skipped: {reason}" for reason, n in counts["skipped"].items() if n]
        parts += [f"{n:,} failed: {reason}" for reason, n in counts["errors"].items() if n]
        yield f"containers, {kind.replace('_', ' ')}: {', '.join(parts)}"
    dropped = sum(n for reasons in totals["dropped"].values() for n in reasons.values())
    duplicates, errors = sum(totals["duplicates"].values()), sum(totals["errors"].values())
    added = f" + {totals['added']:,} added" if totals["added"] else ""
    yield (
        f"{totals['in']:,} in{added} = {totals['kept']:,} kept + {dropped:,} dropped"
        f" + {duplicates:,} duplicates + {errors:,} errors; {totals['written']:,} written"
    )
    if "tokens" in totals:
        yield f"{totals['tokens']:,} tokens written"
    if totals.get("repeated_ids"):
        yield f"{totals['repeated_ids']:,} records share their id with an earlier one"


def closing(totals: Mapping[str, Any], shards: list[Mapping[str, Any]], output: str, seconds: float) -> str:
    """The last sentence of a run: how much, how long, where."""
    records, bytes_ = counted(totals["written"], "record"), size(sum(shard["bytes"] for shard in shards))
    return f"{records} in {counted(len(shards), 'shard')} ({bytes_}) in {output}, {duration(seconds)}"


def report(manifest: Mapping[str, Any]) -> str:
    """The report of a run as Markdown: funnel, reasons, containers, languages, shards.

    It holds no times, so that equal runs leave equal reports.
    """
    totals = manifest["totals"]
    lines = ["# Report", "", *list(_summary(totals)), "", "## Steps", "", *step_table(totals)]
    lines += [
        "",
        "## What did not pass",
        "",
        "| step | reason | records | of what entered |",
        "|---|---|--:|--:|",
    ]
    for step in totals["steps"]:
        entered = step["in"] + step.get("added", 0)
        for reason, n in losses(step):
            lines.append(f"| {cell(step['step'])} | {cell(reason)} | {n:,} | {share(n, entered)} |")
    if totals.get("languages"):
        lines += ["", "## Languages", "", *language_table(totals)]
    shards = manifest.get("shards", [])
    counted_too = any("tokens" in shard for shard in shards)
    tokens = ("tokens | ", "--:|") if counted_too else ("", "")
    lines += ["", "## Shards", "", f"| shard | records | {tokens[0]}bytes | SHA-256 |"]
    lines.append(f"|---|--:|{tokens[1]}--:|---|")
    for shard in shards:
        more = f"{shard.get('tokens', 0):,} | " if counted_too else ""
        counts = f"{shard['records']:,} | {more}{shard['bytes']:,}"
        lines.append(f"| {cell(shard['path'])} | {counts} | `{shard['sha256']}` |")
    return "\n".join(lines) + "\n"


def step_table(totals: Mapping[str, Any]) -> Iterator[str]:
    """The funnel as a Markdown table."""
    yield "| step | in | kept | kept % |"
    yield "|---|--:|--:|--:|"
    for step in totals["steps"]:
        entered = step["in"] + step.get("added", 0)
        kept = share(step["kept"], entered)
        yield f"| {cell(step['step'])} | {step['in']:,} | {step['kept']:,} | {kept} |"


def language_table(totals: Mapping[str, Any]) -> Iterator[str]:
    """The languages of the written records as a Markdown table, the most frequent first."""
    yield "| language | records | of what was written |"
    yield "|---|--:|--:|"
    for language, n in sorted(totals["languages"].items(), key=lambda pair: (-pair[1], pair[0])):
        yield f"| {cell(language)} | {n:,} | {share(n, totals['written'])} |"


def cell(text: object) -> str:
    """Text that cannot end its cell: steps and reasons may come from a job that someone else wrote."""
    return " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
