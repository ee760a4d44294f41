"""Accounts: in + added = kept + dropped + duplicates + errors, for every step and for the whole job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa

from ..schemas.ledger import DROPPED, DUPLICATE, ERROR

INPUT = "input"  # the step that stands for reading
NOTED = "figures"


class AccountsError(Exception):
    """Records were lost or counted twice; the message names the step and the figures."""


class Accounts:
    """Counts of one part, or of many added up. `steps` keeps the order in which steps were first met."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, Any]] = {}
        self.containers: dict[str, dict[str, Any]] = {}
        self.figures: Counter[str] = Counter()  # other sums that a stage hands to the driver

    def step(self, name: str) -> dict[str, Any]:
        """The counts of a step, made at first use."""
        empty = {"in": 0, "added": 0, "kept": 0, DROPPED: Counter(), "duplicates": 0, "errors": Counter()}
        return self.steps.setdefault(name, empty)

    def note(self, name: str, **figures: int) -> None:
        """Adds figures that a step tells beside its counts, as how many records it edited."""
        self.step(name).setdefault(NOTED, Counter()).update(figures)

    def count(self, step: str, rows: int, verdicts: pa.Array, reasons: pa.Array) -> None:
        """Adds `rows` records that reached a step, of which those with a verdict did not pass it."""
        counts = self.step(step)
        counts["in"] += rows
        counts["kept"] += rows - len(reasons)
        for verdict, reason in zip(verdicts.to_pylist(), reasons.to_pylist(), strict=True):
            if verdict == DUPLICATE:
                counts["duplicates"] += 1
            else:
                counts["errors" if verdict == ERROR else DROPPED][reason] += 1

    def add(self, other: Mapping[str, Any]) -> None:
        """Adds the accounts of another part, as `as_dict` gives them."""
        for name, theirs in other.get("steps", {}).items():
            ours = self.step(name)
            for field in ("in", "added", "kept", "duplicates"):
                ours[field] += theirs[field]
            for field in (DROPPED, "errors"):
                ours[field].update(theirs[field])
            if NOTED in theirs:
                self.note(name, **theirs[NOTED])
        for kind, theirs in other.get("containers", {}).items():
            ours = self.containers.setdefault(
                kind, {"in": 0, "read": 0, "skipped": Counter(), "errors": Counter()}
            )
            for field, counts in theirs.items():
                if field in ("in", "read"):
                    ours[field] += counts
                else:
                    ours[field].update(counts)
        self.figures.update(other.get("figures", {}))

    def as_dict(self) -> dict[str, Any]:
        """Plain data with sorted reasons, so that equal accounts are equal JSON."""
        return {
            "steps": {name: _plain(counts) for name, counts in self.steps.items()},
            "containers": {kind: _plain(self.containers[kind]) for kind in sorted(self.containers)},
            "figures": dict(sorted(self.figures.items())),
        }


def _plain(counts: Mapping[str, Any]) -> dict[str, Any]:
    return {k: dict(sorted(v.items())) if isinstance(v, Counter) else v for k, v in counts.items()}


@dataclass(frozen=True)
class Order:
    """The steps of a job as records pass them: each branch from its reading on, then those of all."""

    branches: tuple[tuple[str, ...], ...]
    trunk: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        return (*(name for branch in self.branches for name in branch), *self.trunk)


def balance(accounts: Accounts, order: Order, ledger_rows: int | None) -> None:
    """Checks every step, every seam between steps, every kind of container, and the ledger.

    `ledger_rows` is None where the ledger keeps no row for each record. Raises AccountsError.
    """
    not_kept = 0
    for name in order.steps:
        c = accounts.step(name)
        lost = sum(c[DROPPED].values()) + c["duplicates"] + sum(c["errors"].values())
        not_kept += lost
        if c["in"] + c["added"] != c["kept"] + lost:
            raise AccountsError(
                f"step {name}: in {c['in']} + added {c['added']} is not kept {c['kept']} + not kept {lost}"
            )
    for branch in order.branches:
        for before, name in pairwise(branch):
            _check_seam(accounts, [before], name)
    last = [branch[-1] for branch in order.branches]
    for name in order.trunk:
        _check_seam(accounts, last, name)
        last = [name]
    for kind, c in accounts.containers.items():
        known = c["read"] + sum(c["skipped"].values()) + sum(c["errors"].values())
        if c["in"] != known:
            raise AccountsError(f"containers of kind {kind}: in {c['in']}, accounted for {known}")
    if ledger_rows is not None and ledger_rows != not_kept:
        raise AccountsError(f"the ledger has {ledger_rows} rows for {not_kept} records that were not kept")


def _check_seam(accounts: Accounts, before: Sequence[str], name: str) -> None:
    flowing, seen = sum(accounts.step(step)["kept"] for step in before), accounts.step(name)["in"]
    if seen != flowing:
        raise AccountsError(f"step {name} saw {seen} records, but {', '.join(before)} let {flowing} pass")


def totals(accounts: Accounts, order: Order, written: int) -> dict[str, Any]:
    """What the output's manifest says of the whole job."""
    steps = [{"step": name, **_plain(accounts.step(name))} for name in order.steps]
    last = order.trunk[-1:] or tuple(branch[-1] for branch in order.branches)
    errors: Counter[str] = Counter()
    for counts in steps:
        errors.update(counts["errors"])
    return {
        "in": sum(accounts.step(branch[0])["in"] for branch in order.branches),
        "added": sum(counts["added"] for counts in steps),
        "kept": sum(accounts.step(name)["kept"] for name in last),
        "written": written,
        DROPPED: {counts["step"]: counts[DROPPED] for counts in steps if counts[DROPPED]},
        "duplicates": {counts["step"]: counts["duplicates"] for counts in steps if counts["duplicates"]},
        "errors": dict(sorted(errors.items())),
        "repeated_ids": accounts.figures["repeated_ids"],
        "containers": {kind: _plain(c) for kind, c in sorted(accounts.containers.items())},
        "steps": steps,
    }
