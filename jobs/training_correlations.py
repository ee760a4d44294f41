"""Weighs domains of text by how models' losses on them go with the models' benchmark errors."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ..schemas.contracts import AssetError
from .scored_records import files_of, read
from .training import NotTrainableError

if TYPE_CHECKING:
    import pyarrow as pa

    from ..scorers.perplexity_correlations import Estimator, Projection

Doubles = npt.NDArray[np.float64]

BUDGET_SHARE: Final = 0.1  # of the authors' `desired_filter_ratio`, as DCLM keeps a tenth
DOMAIN: Final = "signal_domain"  # what the step `signals: [domain]` writes
_MODEL: Final = "model"
_BENCHMARK: Final = "benchmark"
_SHOWN: Final = 5


@dataclass(frozen=True)
class Losses:
    """Bits per byte: `values` is models × domains. `sizes`: how much text each domain has."""

    models: tuple[str, ...]
    domains: tuple[str, ...]
    values: Doubles
    sizes: Doubles
    skipped: int  # records that lack a loss or a domain


def train_correlations(
    losses: Sequence[str],
    scores: str,
    out: Path,
    *,
    domain: str = DOMAIN,
    size: str | None = None,
    benchmarks: Sequence[str] = (),
    higher_is_better: bool = False,
    estimator: Estimator = "spearman",
    projection: Projection = "linear",
    share: float = BUDGET_SHARE,
) -> dict[str, Any]:
    """Writes domain -> weight to `out`, a .json file, and all estimates beside it to `out` + `.csv`.

    `losses`: a job's output folder, Parquet, JSON Lines or CSV, in one of two shapes. Records with a column
    `domain` and a column for each model: the losses of a domain are the means over its records. Or a column
    `model` and a column for each domain. `scores`: a CSV or Parquet file with a column `model` and one for
    each benchmark, or a column `benchmark` and one for each model; of the `benchmarks`, all where none is
    named, the mean counts. They are errors in [0, 1], or with `higher_is_better` one minus these. Models that
    are in one of the two only are left out.

    `share`: how much of all text shall be taken at most. A domain may weigh as much as its share of `size`,
    a column that is added up, divided by `share`, so that none is taken twice; without `size` domains have
    as much text as records, and in the second shape alike. Raises NotTrainableError, SourceError where a path
    matches nothing.
    """
    from ..scorers.perplexity_correlations import estimate, project

    if out.suffix != ".json":
        raise NotTrainableError(f"--out {out}: write a name that ends in .json")
    if not 0 < share <= 1:
        raise NotTrainableError(f"share is {share}; it is above 0 and at most 1")
    errors = _errors(scores, benchmarks, higher_is_better)
    found = _losses(files_of(losses), domain, size, list(errors))
    try:
        limits = found.sizes / found.sizes.sum() / share
        estimates = estimate(found.values, np.array([errors[name] for name in found.models]), estimator)
        weights = project(estimates, limits, projection)
    except ValueError as error:
        raise NotTrainableError(str(error)) from error
    order = np.argsort(-estimates, kind="stable")
    _write(out, found, estimates, limits, weights, order)
    return {
        "weights": str(out),
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "estimates": str(_table_of(out)),
        "models": list(found.models),
        "domains": len(found.domains),
        "included": int((weights > 0).sum()),
        "share_of_text": float(found.sizes[weights > 0].sum() / found.sizes.sum()),
        "skipped": found.skipped,
        "estimator": estimator,
        "projection": projection,
        "highest": {found.domains[row]: float(estimates[row]) for row in order[:_SHOWN]},
        "lowest": {found.domains[row]: float(estimates[row]) for row in order[::-1][:_SHOWN]},
    }


def told(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text, with the command that comes next."""
    skipped = f"; {answer['skipped']:,} records lack a loss or a domain" if answer["skipped"] else ""
    ends = [
        f"{name}: " + ", ".join(f"{domain} {value:.3f}" for domain, value in answer[name].items())
        for name in ("highest", "lowest")
    ]
    return "\n".join(
        [
            f"{answer['weights']}: {answer['included']:,} of {answer['domains']:,} domains are included, "
            f"with {answer['share_of_text']:.1%} of the text, by {len(answer['models'])} models{skipped}",
            *ends,
            f"all estimates are in {answer['estimates']}; train a classifier on pages of these domains with",
            f"  thresher train student --teacher … --weights {answer['weights']} --label include --out …",
        ]
    )


def read_weights(path: Path) -> dict[str, float]:
    """Domain: weight, 0 for those that are not included. Raises AssetError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AssetError(f"{path}: holds no weights of domains ({error})") from error
    if not isinstance(found, dict) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in found.values()
    ):
        raise AssetError(f"{path}: is not domain: weight; `thresher train perplexity-correlations` makes one")
    return {name: float(value) for name, value in found.items()}


def _errors(path: str, benchmarks: Sequence[str], higher_is_better: bool) -> dict[str, float]:
    """Model: its mean error."""
    table = _table(path)
    names = table.schema.names
    if _MODEL in names:
        columns = list(benchmarks) or [name for name in names if name != _MODEL]
        models = table.column(_MODEL).to_pylist()
        rows = {name: _numbers(table, name, path) for name in columns}
    elif _BENCHMARK in names:
        models = [name for name in names if name != _BENCHMARK]
        values = [_numbers(table, model, path) for model in models]
        by_model = np.stack(values) if values else np.empty((0, len(table)))
        rows = dict(zip(table.column(_BENCHMARK).to_pylist(), by_model.T, strict=True))
    else:
        raise NotTrainableError(f"{path}: has neither a column {_MODEL} nor a column {_BENCHMARK}")
    missing = [name for name in benchmarks if name not in rows]
    if missing or not rows:
        raise NotTrainableError(f"{path}: has no benchmark {missing[0] if missing else ''}".rstrip())
    chosen = np.stack([rows[name] for name in (benchmarks or rows)])
    means = chosen.mean(axis=0)
    return {
        str(model): 1 - float(mean) if higher_is_better else float(mean)
        for model, mean in zip(models, means, strict=True)
        if not np.isnan(mean)
    }


def _losses(files: Sequence[str], domain: str, size: str | None, models: Sequence[str]) -> Losses:
    tables = [_table(path, None) for path in files[:1]]
    names = tables[0].schema.names
    if _MODEL in names and domain not in names:
        if len(files) > 1 or size is not None:
            raise NotTrainableError("losses with a row for each model are one file, without sizes of domains")
        return _of_models(files[0], tables[0], models)
    known = [name for name in models if name in names]
    if domain not in names or len(known) < 2:
        raise NotTrainableError(
            f"{files[0]}: has no column {domain}"
            if domain not in names
            else f"{files[0]}: has a column for {len(known)} of the models; two are needed"
        )
    return _of_records(files, domain, size, known)


def _of_models(path: str, table: pa.Table, models: Sequence[str]) -> Losses:
    rows = [row for row, name in enumerate(table.column(_MODEL).to_pylist()) if name in models]
    domains = sorted(name for name in table.schema.names if name != _MODEL)
    if not domains or len(rows) < 2:
        raise NotTrainableError(f"{path}: has {len(domains)} domains and {len(rows)} models with a score")
    values = np.stack([_numbers(table, name, path)[rows] for name in domains], axis=1)
    there = tuple(str(table.column(_MODEL)[row].as_py()) for row in rows)
    return Losses(there, tuple(domains), values, np.ones(len(domains)), 0)


def _of_records(files: Sequence[str], domain: str, size: str | None, models: Sequence[str]) -> Losses:
    """Means over the records of each domain, which no cut of the files changes beyond rounding."""
    import pyarrow as pa

    wanted = [domain, *models, *([size] if size else [])]
    table = pa.concat_tables([_table(path, wanted) for path in files])
    values = np.stack([_numbers(table, name, files[0]) for name in models])
    sizes = _numbers(table, size, files[0]) if size else np.ones(len(table))
    names = table.column(domain).combine_chunks().cast(pa.string())
    has = ~np.isnan(values).any(axis=0) & ~np.isnan(sizes)
    has &= np.asarray(names.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    rows = np.flatnonzero(has)
    domains, groups = np.unique(np.array(names.take(pa.array(rows)).to_pylist(), object), return_inverse=True)
    if not len(domains):
        raise NotTrainableError(f"{files[0]}: no record has a {domain} and a loss of each model")
    counts = np.bincount(groups)
    means = np.stack([np.bincount(groups, one[rows]) / counts for one in values])
    amounts = np.bincount(groups, sizes[rows]).astype(np.float64)
    return Losses(tuple(models), tuple(map(str, domains)), means, amounts, len(table) - len(rows))


def _table(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_batches(list(read(path, columns)))


def _numbers(table: pa.Table, name: str, path: str) -> Doubles:
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in table.schema.names:
        raise NotTrainableError(f"{path}: has no column {name}; it has {', '.join(table.schema.names)}")
    column = table.column(name)
    if not (
        pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)
    ):
        raise NotTrainableError(f"{path}: column {name} is {column.type}; numbers are wanted")
    return np.asarray(pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy())


def _write(
    out: Path,
    found: Losses,
    estimates: Doubles,
    limits: Doubles,
    weights: Doubles,
    order: npt.NDArray[np.int64],
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    named = {name: float(weight) for name, weight in zip(found.domains, weights, strict=True)}
    made = out.with_name(f".{out.name}.new")
    made.write_text(json.dumps(named, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(made, out)
    with _table_of(out).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["domain", "estimate", "limit", "weight"])
        for row in order:
            writer.writerow(
                [found.domains[row], *(repr(float(one[row])) for one in (estimates, limits, weights))]
            )


def _table_of(out: Path) -> Path:
    return out.with_name(out.name + ".csv")
