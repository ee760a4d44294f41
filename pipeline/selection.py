"""Steps that choose over the whole corpus: a summary of every part, merged, then a decision applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from ..schemas import selection as schema
from ..schemas.verbs import OnNull
from .compiled import CorpusStep, add_layer
from .driver import Driver, layer_of
from .operator import build
from .selectors.limit import LimitSelector
from .selectors.top import UNIT_COLUMNS, TopSelector
from .stage import Input, OperatorRef, Parts
from .steps.reading import Keep
from .steps.selection import Apply, Decide, Summarise


@dataclass
class SelectStep(CorpusStep):
    """Keeps what a selector decides for."""

    selector: OperatorRef | None = None

    @property
    def kind(self) -> str:
        return "summary"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.selector is not None
        decision = _decide(driver, self.stage_name, self.selector, parts)
        columns = tuple(dict.fromkeys(("id", "source", *build(self.selector).inputs)))
        spec = [self.selector.name, self.selector.arguments]
        drop = OperatorRef.of(Apply, step=self.name, selector=spec, decision=decision)
        keep = OperatorRef.of(Keep, stream="alive", columns=[])
        commits = driver.run(
            f"{self.stage_name}-apply", {"records": Input(parts, (drop, keep), columns=_payload(columns))}
        )
        return add_layer(parts, [layer_of(committed, "alive") for committed in commits])


def compile_limit(name: str, count: int) -> SelectStep:
    """The first records of the corpus."""
    selector = OperatorRef.of(LimitSelector, count=count)
    return SelectStep(name, frozenset({"position"}), selector=selector)


def compile_select(name: str, options: schema.Select, seed: int, on_null: OnNull) -> SelectStep:
    """The best records, by share or by budget."""
    selector = OperatorRef.of(
        TopSelector,
        by=options.by,
        top=options.top,
        budget=options.budget,
        within=options.within,
        unit=options.unit,
        seed=seed,
        step=name,
        on_null=on_null,
    )
    reads = {options.by, options.within, UNIT_COLUMNS[options.unit]}
    return SelectStep(name, frozenset(column for column in reads if column), selector=selector)


def _payload(columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in columns if name != "position")


def _decide(driver: Driver, name: str, selector: OperatorRef, parts: Parts) -> str:
    """The selector's decision as JSON, after as many passes as it asks for."""
    spec = [selector.name, selector.arguments]
    columns = _payload(build(selector).inputs)
    learned: str | None = None
    passed = 0
    while True:
        passed += 1
        commits = driver.run(
            f"{name}-pass-{passed}",
            {
                "states": Input(
                    parts, (OperatorRef.of(Summarise, selector=spec, learned=learned),), "key", columns
                )
            },
            partitions=1,
            reduce=OperatorRef.of(Decide, selector=spec, learned=learned),
        )
        (row,) = pq.read_table(commits[0].streams["decision"].path).to_pylist()
        if row["kind"] == "decision":
            return str(row["values"])
        learned = row["values"]
