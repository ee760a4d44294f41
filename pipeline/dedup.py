"""The dedup step: keys in the pass before it, edges by exchange, clusters, survivors, the decision."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..schemas import dedup as schema
from .against import describe, find_older, open_against, save_keys, scheme_of
from .compiled import CorpusStep, MapStep, add_layer
from .components import find_clusters
from .dedup_plan import DedupPlan
from .driver import Driver, layer_of, partitions_for
from .line_dedup import LineDedupStep, compile_line_dedup
from .part_order import in_part_order
from .stage import Input, Layer, OperatorRef, Parts
from .steps.dedup import CombineKeys, Explode, FindEdges, Keys
from .steps.reading import Keep, stream_part
from .steps.survivors import ByRoot, ChooseSurvivors, DropDuplicates
from .verify import verify_clusters

KEY_ROW_BYTES = 24  # key, position, link
SURVIVOR_ROW_BYTES = 96  # key, position, length, hash, an id of some 40 bytes


@dataclass
class DedupStep(CorpusStep):
    """Keeps one record of each cluster of duplicates."""

    plan: DedupPlan | None = None

    @property
    def kind(self) -> str:
        return "exchange"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.plan is not None
        plan, judged, keepers = self.plan, parts, ["keeper"]
        if plan.against:
            judged = add_layer(parts, find_older(driver, self.stage_name, plan, parts))
            keepers.append(plan.older)
        judged = add_layer(judged, _find_duplicates(driver, self.stage_name, plan, judged))
        drop = OperatorRef.of(DropDuplicates, step=self.name, keepers=keepers)
        keep = OperatorRef.of(Keep, stream="alive", columns=[])
        commits = driver.run(
            f"{self.stage_name}-apply",
            {"records": Input(judged, (drop, keep), columns=("id", "source", *keepers))},
        )
        alive = add_layer(parts, [layer_of(committed, "alive") for committed in commits])
        if plan.scheme is not None:
            save_keys(driver, self.name, self.stage_name, plan, alive)
        return alive


def compile_dedup(name: str, prefix: str, options: schema.Dedup) -> DedupStep | LineDedupStep:
    """The step of a job; `prefix` begins the names of its columns. Raises AgainstError."""
    chosen = options.options
    if isinstance(chosen, schema.Lines):
        return compile_line_dedup(name, options.method, chosen)
    arguments, keys_per_record = scheme_of(chosen)
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
        f"{prefix}keys",
        low,
        f"{prefix}length",
        f"{prefix}hash",
        chosen.keep.order,
        best,
        keys_per_record,
        chosen.cluster_memory,
        older=f"{prefix}older" if chosen.against else "",
        against=open_against(options),
        verify=getattr(chosen, "verify", None),
        on=chosen.on,
        arguments=arguments,
        scheme=describe(chosen) if chosen.save_keys else None,
    )
    reads = {*adds, *([best] if best else []), *([chosen.on] if plan.verify is not None else [])}
    keys = MapStep(name, operator, frozenset({chosen.on, "text"} if ranked else {chosen.on}), tuple(adds))
    return DedupStep(name, frozenset(reads), keys, plan=plan)


def _find_duplicates(driver: Driver, name: str, plan: DedupPlan, parts: Parts) -> list[Layer]:
    """Layers of the positions that do not survive, with the id of the record that stands for each."""
    explode = OperatorRef.of(Explode, keys=plan.keys, low=plan.low, older=plan.older or None)
    rows = sum(part.rows for part in parts)
    columns = (*plan.key_columns, *([plan.older] if plan.older else []))
    edges = driver.run(
        f"{name}-edges",
        {"keys": Input(parts, (explode,), "key", columns)},
        partitions=partitions_for(rows * plan.keys_per_record * KEY_ROW_BYTES),
        reduce=OperatorRef.of(FindEdges),
        combine=OperatorRef.of(CombineKeys),
    )
    joined = sum(committed.streams["edges"].rows for committed in edges)
    members = add_layer(parts, find_clusters(driver, name, edges, parts, plan.memory))
    if plan.verify is not None:
        members = add_layer(parts, verify_clusters(driver, name, plan, members, joined))
    ranked = plan.kind != "first"
    wanted = [
        "id",
        "root",
        *([plan.length, plan.hash] if ranked else []),
        *([plan.best] if plan.best else []),
    ]
    bytes_ = min(2 * joined, rows) * SURVIVOR_ROW_BYTES
    partitions = partitions_for(bytes_)
    survivors = driver.run(
        f"{name}-survivors",
        {"members": Input(members, (OperatorRef.of(ByRoot),), "key", tuple(wanted))},
        partitions=partitions,
        reduce=OperatorRef.of(
            ChooseSurvivors,
            kind=plan.kind,
            column=plan.best,
            length=plan.length,
            hash=plan.hash,
            ordered=partitions == 1,
        ),
    )
    if partitions == 1:
        return [replace(layer_of(survivors[0], "duplicates"), optional=True)] * len(parts)
    found = tuple(stream_part(c.task, c.streams["duplicates"]) for c in survivors)
    return in_part_order(driver, f"{name}-duplicates", found, parts, {"keeper": "keeper"}, bytes_=bytes_)
