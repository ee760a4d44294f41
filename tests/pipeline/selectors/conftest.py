"""A selector's passes as a job makes them, without a job."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from thresher.schemas.contracts import Again, Decision, Selector

Decide = Callable[..., tuple[Decision, list[dict[str, Any]]]]


def _decide(
    selector: Selector, batch: pa.RecordBatch, edges: Sequence[int] = (), backwards: bool = False
) -> tuple[Decision, list[dict[str, Any]]]:
    bounds = [0, *sorted(edge % (len(batch) + 1) for edge in edges), len(batch)]
    parts = [batch.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    learned: Again | None = None
    for _ in range(20):
        states = [selector.update(selector.start(learned), part, learned) for part in parts]
        while len(states) > 1:
            at = -2 if backwards else 0
            states[at : at + 2 or None] = [selector.merge(states[at], states[at + 1], learned)]
        outcome = selector.finish(states[0], learned)
        values = json.loads(json.dumps(outcome.values, allow_nan=False))
        if isinstance(outcome, Decision):
            decision = Decision(values)
            rows = [row for part in parts for row in selector.decide(part, decision).to_pylist()]
            return decision, rows
        learned = Again(values)
    raise AssertionError("no decision after 20 passes")


@pytest.fixture(scope="session")
def decide() -> Decide:
    """The decision of a selector over a batch that is cut at `edges`, and what it says of each row.

    Requests and decisions travel as JSON; states are merged from the front, or from behind.
    """
    return _decide
