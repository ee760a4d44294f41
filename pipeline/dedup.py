"""The dedup step: keys in the pass before it, edges by exchange, clusters, survivors, the decision."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..schemas import dedup as schema
from .against import Clustered, describe, find_older, open_against, save_keys, scheme_of
from .compiled import CorpusStep, MapStep, add_layer
from .components import find_clusters
from .dedup_plan import DedupPlan
from .driver import Driver, layer_of, partitions_for
from .line_dedup import LineDedupStep, compile_line_dedup
from .part_order import in_part_order
from .perceptual import find_near
from .stage import Committed, Input, Layer, OperatorRef, Parts
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
    assert isinstance(chosen, Clustered), "embeddings have steps of their own"
    arguments, keys_per_record = scheme_of(chosen)
    on = "phash" if isinstance(chosen, schema.Perceptual) else chosen.on
    ranked = _ranked_by(chosen)
    operator = OperatorRef.of(
        Keys,
        prefix=prefix,
        method=options.method,
        on=on,
        arguments=arguments,
        ranked=ranked,
        library=_decoder() if on == "pixels" else "",
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
        "longest" if chosen.keep.order == "largest" else chosen.keep.order,
        best,
        keys_per_record,
        chosen.cluster_memory,
        older=f"{prefix}older" if chosen.against else "",
        against=open_against(options),
        radius=chosen.radius if isinstance(chosen, schema.Perceptual) else None,
        verify=getattr(chosen, "verify", None),
        on=on,
        arguments=arguments,
        scheme=describe(chosen) if chosen.save_keys else None,
    )
    reads = {*adds, *([best] if best else []), *([on] if plan.verify is not None else [])}
    needs = {*_compared(on), *({"image": ["image", "pixels"], "text": ["text"]}.get(ranked or "", []))}
    keys = MapStep(name, operator, frozenset(needs), tuple(adds))
    return DedupStep(name, frozenset(reads), keys, plan=plan)


def _decoder() -> str:
    from ..filters.dedup import images

    return images.decoder()


def _compared(on: str) -> tuple[str, ...]:
    """The columns that keys are made of."""
    return {"pixels": ("image",), "pair": ("url", "text")}.get(on, (on,))


def _ranked_by(options: Clustered) -> str | None:
    """The column by whose size and content survivors are chosen; None where the first of all stays."""
    order = options.keep.order
    if order in ("first", "longest"):
        return None if order == "first" else "text"
    of_image = isinstance(options, schema.Perceptual) or options.on in schema.PIXELS_OF
    return "image" if order == "largest" or of_image else "text"


def _find_duplicates(driver: Driver, name: str, plan: DedupPlan, parts: Parts) -> list[Layer]:
    """Layers of the positions that do not survive, with the id of the record that stands for each."""
    find = _find_equal if plan.radius is None else find_near
    edges = find(driver, name, plan, parts)
    joined = sum(committed.streams["edges"].rows for committed in edges)
    members = add_layer(parts, find_clusters(driver, name, edges, parts, plan.memory))
    if plan.verify is not None:
        members = add_layer(parts, verify_clusters(driver, name, plan, members, joined))
    return choose_survivors(driver, name, plan, members, joined, parts)


def choose_survivors(
    driver: Driver, name: str, plan: DedupPlan, members: Parts, joined: int, parts: Parts
) -> list[Layer]:
    """Layers of the positions that do not survive of each cluster, with the id of the one that does.

    `members` are the parts with the column `root`, which `joined` edges have made.
    """
    rows = sum(part.rows for part in parts)
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


def _find_equal(driver: Driver, name: str, plan: DedupPlan, parts: Parts) -> list[Committed]:
    """Edges that connect all records that have a key in common."""
    explode = OperatorRef.of(Explode, keys=plan.keys, low=plan.low, older=plan.older or None)
    rows = sum(part.rows for part in parts)
    columns = (*plan.key_columns, *([plan.older] if plan.older else []))
    return driver.run(
        f"{name}-edges",
        {"keys": Input(parts, (explode,), "key", columns)},
        partitions=partitions_for(rows * plan.keys_per_record * KEY_ROW_BYTES),
        reduce=OperatorRef.of(FindEdges),
        combine=OperatorRef.of(CombineKeys),
    )
