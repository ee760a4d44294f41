"""Steps that need the whole corpus, as stages: dedup by exchange and union-find, selection by summaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow.parquet as pq

from .compilation import CorpusStep, DedupPlan
from .driver import Driver, layer_of, partitions_for
from .operator import build
from .stage import Input, Layer, OperatorRef, Parts
from .steps.dedup import (
    ByRoot,
    ChooseSurvivors,
    CombineKeys,
    DropDuplicates,
    Explode,
    FindClusters,
    FindEdges,
)
from .steps.reading import Keep, stream_part
from .steps.selection import Apply, Decide, Summarise

KEY_ROW_BYTES = 24  # key, position, link


def add_layer(parts: Parts, layers: Sequence[Layer]) -> Parts:
    """The parts with one more layer each."""
    return tuple(
        replace(part, layers=(*part.layers, layer)) for part, layer in zip(parts, layers, strict=True)
    )


def run_corpus_step(driver: Driver, step: CorpusStep, parts: Parts) -> Parts:
    """Runs the stages of a step and returns the parts with what survives them."""
    name = step.name.replace(":", "-")
    if step.dedup is not None:
        duplicates = _find_duplicates(driver, name, step.dedup, parts)
        judged, columns = add_layer(parts, [duplicates] * len(parts)), ("id", "source", "keeper")
        drop = OperatorRef.of(DropDuplicates, step=step.name)
    else:
        assert step.selector is not None
        decision = _decide(driver, name, step.selector, parts)
        inputs = build(step.selector).inputs
        judged, columns = parts, tuple(dict.fromkeys(("id", "source", *inputs)))
        spec = [step.selector.name, step.selector.arguments]
        drop = OperatorRef.of(Apply, step=step.name, selector=spec, decision=decision)
    keep = OperatorRef.of(Keep, stream="alive", columns=[])
    commits = driver.run(f"{name}-apply", {"records": Input(judged, (drop, keep), columns=_payload(columns))})
    return add_layer(parts, [layer_of(committed, "alive") for committed in commits])


def _payload(columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in columns if name != "position")


def _find_duplicates(driver: Driver, name: str, plan: DedupPlan, parts: Parts) -> Layer:
    """A layer of the positions that do not survive, with the id of the record that stands for each."""
    columns = (plan.keys, *([plan.low] if plan.low else []))
    explode = OperatorRef.of(Explode, keys=plan.keys, low=plan.low)
    rows = sum(part.rows for part in parts)
    edges = driver.run(
        f"{name}-edges",
        {"keys": Input(parts, (explode,), "key", columns)},
        partitions=partitions_for(rows * plan.keys_per_record * KEY_ROW_BYTES),
        reduce=OperatorRef.of(FindEdges),
        combine=OperatorRef.of(CombineKeys),
    )
    found = tuple(stream_part(c.task, c.streams["edges"]) for c in edges)
    clusters = driver.run(
        f"{name}-clusters",
        {"edges": Input(found, (), "src")},
        partitions=1,
        reduce=OperatorRef.of(FindClusters),
    )
    members = replace(layer_of(clusters[0], "members"), optional=True)
    ranked = plan.kind != "first"
    wanted = [
        "id",
        "root",
        *([plan.length, plan.hash] if ranked else []),
        *([plan.best] if plan.best else []),
    ]
    survivors = driver.run(
        f"{name}-survivors",
        {
            "members": Input(
                add_layer(parts, [members] * len(parts)), (OperatorRef.of(ByRoot),), "root", tuple(wanted)
            )
        },
        partitions=1,
        reduce=OperatorRef.of(
            ChooseSurvivors, kind=plan.kind, column=plan.best, length=plan.length, hash=plan.hash
        ),
    )
    return replace(layer_of(survivors[0], "duplicates"), optional=True)


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
