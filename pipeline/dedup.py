"""The dedup step: keys in the pass before it, edges by exchange, clusters, survivors, the decision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..schemas import dedup as schema
from .compiled import CorpusStep, MapStep, add_layer
from .driver import Driver, layer_of, partitions_for
from .stage import Input, Layer, OperatorRef, Parts
from .steps.dedup import (
    ByRoot,
    ChooseSurvivors,
    CombineKeys,
    DropDuplicates,
    Explode,
    FindClusters,
    FindEdges,
    Keys,
)
from .steps.reading import Keep, stream_part

KEY_ROW_BYTES = 24  # key, position, link


@dataclass(frozen=True)
class DedupPlan:
    """Names of the columns and choices of one dedup step."""

    keys: str
    low: str | None
    length: str
    hash: str
    kind: str
    best: str | None
    keys_per_record: int


@dataclass
class DedupStep(CorpusStep):
    """Keeps one record of each cluster of duplicates."""

    plan: DedupPlan | None = None

    @property
    def kind(self) -> str:
        return "exchange"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.plan is not None
        duplicates = _find_duplicates(driver, self.stage_name, self.plan, parts)
        judged = add_layer(parts, [duplicates] * len(parts))
        drop = OperatorRef.of(DropDuplicates, step=self.name)
        keep = OperatorRef.of(Keep, stream="alive", columns=[])
        commits = driver.run(
            f"{self.stage_name}-apply",
            {"records": Input(judged, (drop, keep), columns=("id", "source", "keeper"))},
        )
        return add_layer(parts, [layer_of(committed, "alive") for committed in commits])


def compile_dedup(name: str, prefix: str, options: schema.Dedup) -> DedupStep:
    """The step of a job; `prefix` begins the names of its columns."""
    chosen = options.options
    if isinstance(chosen, schema.MinHash):
        arguments, keys_per_record = _scheme(chosen)
    else:
        arguments = {} if chosen.on == "url" else {"normalize": chosen.normalize}
        keys_per_record = 1
    ranked = chosen.keep.order != "first"
    operator = OperatorRef.of(
        Keys, prefix=prefix, method=options.method, on=chosen.on, arguments=arguments, ranked=ranked
    )
    low = f"{prefix}low" if options.method == "exact" else None
    adds = [
        f"{prefix}keys",
        *([low] if low else []),
        *([f"{prefix}length", f"{prefix}hash"] if ranked else []),
    ]
    best = chosen.keep.column
    plan = DedupPlan(
        f"{prefix}keys", low, f"{prefix}length", f"{prefix}hash", chosen.keep.order, best, keys_per_record
    )
    reads = frozenset([*adds, *([best] if best else [])])
    keys = MapStep(name, operator, frozenset({chosen.on, "text"} if ranked else {chosen.on}), tuple(adds))
    return DedupStep(name, reads, keys, plan=plan)


def _scheme(options: schema.MinHash) -> tuple[dict[str, Any], int]:
    shared = {key: getattr(options, key) for key in ("ngram", "unit", "words", "hash", "lowercase")}
    if options.threshold is not None:
        from ..filters.dedup.minhash import MinHashScheme

        scheme = MinHashScheme.for_threshold(options.threshold, options.num_perm or 112, **shared)
        return shared | {"bands": scheme.bands, "rows": scheme.rows}, scheme.bands
    assert options.bands is not None
    return shared | {"bands": options.bands, "rows": options.rows}, options.bands


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
