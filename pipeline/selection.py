"""Steps that choose over the whole corpus: a summary or an exchange, then a decision applied to the parts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from ..schemas import selection as schema
from ..schemas.steps import MixStep as Mixing
from ..schemas.steps import SelectStep as Selecting
from ..schemas.verbs import OnNull
from ..scorers.assets import LocalAssets
from ..scorers.tokens import TokenScorer
from .compiled import CorpusStep, MapStep, add_layer
from .driver import Driver, layer_of, partitions_for
from .mixture_weights import weights_of
from .operator import build
from .part_order import in_part_order, shift_of
from .selectors import BucketSelector, LimitSelector, MixSelector, TopSelector
from .stage import Input, Layer, OperatorRef, Parts
from .steps.reading import Keep, stream_part
from .steps.selection import (
    Apply,
    ByGroup,
    CollectPlaces,
    Decide,
    DropOutsideCaps,
    DropOverCap,
    KeepWithinCap,
    Measure,
    Prune,
    ReportMinimum,
    Summarise,
)

# The column that says how many units a record has; `tokens` has one for each step.
UNIT_COLUMNS: Final[dict[str, str | None]] = {
    "records": None,
    "characters": "char_count",
    "bytes": "byte_count",
}
CAP_ROW_BYTES: Final = 80  # two halves of a hash, rank, units, position, an id of some 40 bytes
GROUPS_OF_A_RECORD: Final = 10  # on average, where it has a list of them
KEPT_ROW_BYTES: Final = 16
NO_NOISE: Final[Mapping[str, Any]] = {}
LISTS: Final = ("list<", "large_list<", "fixed_size_list<")  # what Arrow's names of lists begin with


class SelectionError(Exception):
    """A choice over the corpus cannot be made as the job says; the message says what is missing."""


@dataclass
class SelectStep(CorpusStep):
    """Keeps what a selector decides for; with `types`, what decided stays as the column that they name.

    With `reports`, all records stay, and the column says which are chosen. With `counts` it says how often.
    """

    selector: OperatorRef | None = None
    reports: bool = False
    counts: bool = False  # the column says how often a record is chosen

    @property
    def kind(self) -> str:
        return "summary"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.selector is not None
        decision = decide(driver, self.stage_name, self.selector, parts)
        self.look_at(driver, json.loads(decision))
        columns = tuple(dict.fromkeys(("id", "source", *build(self.selector).inputs)))
        spec = [self.selector.name, self.selector.arguments]
        made: dict[str, Any] = {"report" if self.reports else "column": self.makes[0]} if self.makes else {}
        if self.counts:
            made["counts"] = True
        drop = OperatorRef.of(Apply, step=self.name, selector=spec, decision=decision, **made)
        return _apply(driver, self, drop, parts, _payload(columns))

    def look_at(self, driver: Driver, decision: dict[str, Any]) -> None:
        """What a decision is checked for before it is applied."""


@dataclass
class MixStep(SelectStep):
    """Keeps of each group what its weight or cap allows, and says which groups have less."""

    def look_at(self, driver: Driver, decision: dict[str, Any]) -> None:
        short = [group for group in decision["groups"] if group["short"]]
        for group in short:
            there = group["budget"] - group["short"]
            told = f"{self.name}: {group['group']} has {there:,} {decision['unit']}"
            driver.listener.note(f"{told} of the {group['budget']:,} that its weight asks for")
        empty = [group["group"] for group in decision["groups"] if group["share"] and not group["records"]]
        if empty and not decision["budget"] and any(group["records"] for group in decision["groups"]):
            raise SelectionError(
                f"{self.name}: no record of {' or '.join(empty)} is left, so that no other could be kept in "
                "proportion; correct the weights, or give a budget"
            )


@dataclass
class CapStep(CorpusStep):
    """Keeps of each group the best records up to a cap; groups may be millions.

    With `listed`, a record is in several groups at once and stays if it fits into one of them.
    """

    by: str = ""
    within: str = ""
    cap: int = 0
    unit_column: str | None = None
    on_null: OnNull = "drop"
    kept: str = ""  # the column that marks what fits, for this step alone
    listed: bool = False
    reports: bool = False

    @property
    def kind(self) -> str:
        return "exchange"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        columns = ("id", self.by, self.within, *([self.unit_column] if self.unit_column else []))
        # What is not listed is named as before lists were: so are the stages that it has committed.
        listed = {"listed": True} if self.listed else {}
        by_group = OperatorRef.of(
            ByGroup,
            step=self.name,
            by=self.by,
            within=self.within,
            unit_column=self.unit_column,
            on_null=self.on_null,
            **listed,
        )
        rows = sum(part.rows for part in parts) * (GROUPS_OF_A_RECORD if self.listed else 1)
        commits = driver.run(
            f"{self.stage_name}-groups",
            {"rows": Input(parts, (by_group,), "key", tuple(dict.fromkeys(columns)))},
            partitions=partitions_for(rows * CAP_ROW_BYTES),
            reduce=OperatorRef.of(KeepWithinCap, step=self.name, cap=self.cap, **listed),
            combine=OperatorRef.of(Prune, cap=self.cap),
        )
        found = tuple(stream_part(committed.task, committed.streams["kept"]) for committed in commits)
        columns = ("id", "source", self.by, self.kept, *([self.within] if self.listed else []))
        return _apply(
            driver,
            self,
            self._drop(),
            add_layer(parts, self._layers(driver, found, parts)),
            tuple(dict.fromkeys(columns)),
        )

    def _layers(self, driver: Driver, found: Parts, parts: Parts) -> list[Layer]:
        collect = OperatorRef.of(CollectPlaces, shift=shift_of(parts), column=self.kept)
        return in_part_order(
            driver,
            f"{self.stage_name}-kept",
            found,
            parts,
            {"kept": self.kept},
            bytes_=sum(part.rows for part in found) * KEPT_ROW_BYTES,
            reduce=collect if self.listed else None,
        )

    def _drop(self) -> OperatorRef:
        arguments = {"step": self.name, "by": self.by, "kept": self.kept, "on_null": self.on_null}
        if self.listed:
            (column,) = self.makes
            arguments |= {"within": self.within, "column": column}
            return OperatorRef.of(DropOutsideCaps, **arguments, report=self.reports)
        made = {"report": self.makes[0]} if self.reports else {}
        return OperatorRef.of(DropOverCap, **arguments, **made)


def compile_limit(name: str, count: int) -> SelectStep:
    """The first records of the corpus."""
    selector = OperatorRef.of(LimitSelector, count=count)
    return SelectStep(name, frozenset({"position"}), selector=selector)


def compile_select(
    step: Selecting, number: int, seed: int, directory: Path, types: Mapping[str, str]
) -> SelectStep | CapStep | MapStep:
    """The best records or, without `by`, random ones: by share, budget or cap, or what reaches a bar.

    `number` tells the columns of the step from those of others; `directory` is where a tokenizer is looked
    for; `types` are those of the columns that earlier steps make, by Arrow's names. Raises AssetError.
    """
    options, name, reports = step.select, step.name, step.select.action == "report"
    if options.min is not None:
        assert options.by is not None
        operator = OperatorRef.of(
            ReportMinimum,
            step=name,
            by=options.by,
            least=options.min,
            column=step.column,
            on_null=step.on_null,
        )
        return MapStep(name, operator, frozenset({options.by}), (step.column,), types={step.column: "bool"})
    prefix = f"select_{number}_"
    draws = options.by is None or options.sample == "replacement"
    draw, gumbel = f"{prefix}draw" if draws else None, f"{prefix}key" if options.sample == "gumbel" else None
    by = gumbel or draw or options.by
    assert by is not None
    weight = options.by if options.sample == "replacement" else None
    unit_column = _unit_column(options, prefix)
    noise = {"key": gumbel, "by": options.by, "temperature": options.temperature} if gumbel else {}
    keys = _keys(name, options, seed, draw, unit_column, directory, noise)
    reads = frozenset(column for column in (by, weight, options.within, unit_column) if column)
    made = {step.column: "bool"} if reports else {}
    if weight is not None:
        made = {step.column: "int32"}
    if options.cap is not None:
        assert options.within is not None
        of_groups = types.get(options.within, "")
        listed = of_groups.startswith(LISTS)
        if listed and not reports:
            made = {step.column: of_groups}
        return CapStep(
            name,
            reads,
            keys,
            types=made,
            by=by,
            within=options.within,
            cap=options.cap,
            unit_column=unit_column,
            on_null=step.on_null,
            kept=f"{prefix}kept",
            listed=listed,
            reports=reports,
        )
    selector = OperatorRef.of(
        TopSelector,
        by=by,
        top=options.top,
        budget=options.budget,
        within=options.within,
        unit=options.unit,
        unit_column=unit_column,
        seed=seed,
        step=name,
        on_null=step.on_null,
        **({"ties": "keep"} if options.ties == "keep" else {}),
        **({} if weight is None else {"weight": weight, "max_copies": options.max_copies}),
    )
    return SelectStep(
        name,
        reads,
        keys,
        types=made,
        copies=step.column if options.writes_copies else "",
        selector=selector,
        reports=reports,
        counts=weight is not None,
    )


def compile_bucket(name: str, column: str, options: schema.Bucket, on_null: OnNull) -> SelectStep:
    """Names of the ranges between percentiles, as the column `column`."""
    selector = OperatorRef.of(
        BucketSelector,
        by=options.by,
        cuts=options.cuts,
        names=options.names,
        within=options.within,
        keep=options.keep,
        step=name,
        on_null=on_null,
    )
    reads = frozenset(column for column in (options.by, options.within) if column)
    return SelectStep(name, reads, types={column: "string"}, selector=selector)


def compile_mix(step: Mixing, number: int, seed: int, directory: Path) -> MixStep:
    """Groups in proportion, evenly, or up to caps; as `compile_select`. Raises AssetError."""
    name, options, prefix = step.name, step.mix, f"mix_{number}_"
    draw = f"{prefix}draw"
    unit_column = _unit_column(options, prefix)
    keys = _keys(name, options, seed, draw, unit_column, directory)
    more: dict[str, Any] = {"epochs": options.epochs} if options.epochs != 1 else {}
    if options.alpha is not None:
        more["alpha"] = options.alpha
    if options.unimax is not None:
        more["unimax_epochs"] = options.unimax.epochs
    selector = OperatorRef.of(
        MixSelector,
        by=draw,
        within=options.within,
        weights=weights_of(options, directory),
        caps=options.caps,
        budget=options.budget,
        unit=options.unit,
        unit_column=unit_column,
        step=name,
        **more,
    )
    reads = frozenset(column for column in (draw, *options.columns, unit_column) if column)
    made = {step.column: "int32"} if options.writes_copies else {}
    return MixStep(
        name,
        reads,
        keys,
        types=made,
        copies=step.column if made else "",
        selector=selector,
        counts=bool(made),
    )


def _unit_column(options: schema.Select | schema.Mix, prefix: str) -> str | None:
    return f"{prefix}tokens" if options.unit == "tokens" else UNIT_COLUMNS[options.unit]


def _keys(
    name: str,
    options: schema.Select | schema.Mix,
    seed: int,
    draw: str | None,
    unit_column: str | None,
    directory: Path,
    noise: Mapping[str, Any] = NO_NOISE,
) -> MapStep | None:
    """What the pass before computes for the step: random numbers, scores with noise, tokens, or nothing."""
    arguments: dict[str, Any] = {"draw": draw, "seed": seed} if draw else {}
    arguments |= {**noise, "seed": seed} if noise else {}
    if options.unit == "tokens":
        assert options.tokenizer is not None
        arguments |= {
            "tokens": unit_column,
            "tokenizer": options.tokenizer,
            "directory": str(directory),
            "checksum": LocalAssets([directory]).describe(options.tokenizer).sha256,
            "version": TokenScorer.version,
        }
    if not arguments:
        return None
    reads = {"id"} | ({"text"} if options.unit == "tokens" else set()) | ({noise["by"]} if noise else set())
    adds = tuple(arguments[key] for key in ("draw", "key", "tokens") if key in arguments)
    return MapStep(name, OperatorRef.of(Measure, step=name, **arguments), frozenset(reads), adds)


def _payload(columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in columns if name != "position")


def _apply(
    driver: Driver, step: CorpusStep, drop: OperatorRef, parts: Parts, columns: tuple[str, ...]
) -> Parts:
    """Runs the pass that drops what was not chosen, and adds the layer of the rest."""
    keep = OperatorRef.of(Keep, stream="alive", columns=list(step.makes))
    commits = driver.run(f"{step.stage_name}-apply", {"records": Input(parts, (drop, keep), columns=columns)})
    return add_layer(parts, [layer_of(committed, "alive") for committed in commits])


def decide(
    driver: Driver,
    name: str,
    selector: OperatorRef,
    parts: Parts,
    maps: tuple[OperatorRef, ...] = (),
    columns: Sequence[str] | None = None,
) -> str:
    """The selector's decision as JSON, after as many passes as it asks for.

    `maps` make what it reads of `columns`; without them it reads what the parts have.
    """
    spec = [selector.name, selector.arguments]
    columns = _payload(build(selector).inputs if columns is None else columns)
    learned: str | None = None
    passed = 0
    while True:
        passed += 1
        commits = driver.run(
            f"{name}-pass-{passed}",
            {
                "states": Input(
                    parts,
                    (*maps, OperatorRef.of(Summarise, selector=spec, learned=learned)),
                    "key",
                    columns,
                )
            },
            partitions=1,
            reduce=OperatorRef.of(Decide, selector=spec, learned=learned),
        )
        (row,) = pq.read_table(commits[0].streams["decision"].path).to_pylist()
        if row["kind"] == "decision":
            return str(row["values"])
        learned = row["values"]
