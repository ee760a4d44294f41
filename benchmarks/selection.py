"""Whether methods choose well: the loss, on a domain held out, of a small language model that learns from
what they keep.

    python benchmarks/selection.py --corpus DIR [--quick] [--device cuda] [--work DIR] [--json FILE]
    python benchmarks/selection.py --pool 'crawl/*.jsonl.gz' --target books.jsonl

DIR is what corpus.py has built: the pool is its English documents, the target one package's, none of which is
in the pool unless `--in-pool` says so. Passages are the beginnings of documents. Part of the target is the
test: no passage of pool or target shares 13 words in a row with it.

For each method, each share of the pool that is kept and each seed one model of random weights learns the same
number of tokens of what is kept, again and again where that is less; the same of a random choice of the same
size, and of all of the pool. A seed decides the weights, the order, and for random and DSIR the choice; what
the other methods train, they train once. Intervals are 95 % of Student's t over the seeds: they hold the
chance of training and not that of the test, of the pool or of the methods' own training. "less than random"
pairs runs of the same seed. "random needed" is CoLoR-Filter's measure (Brandfonbrener et al. 2024,
arXiv:2406.10670): where the curve of models that learn from all of the pool, for `--multiples` of the tokens,
has the same loss. With `--work` a run that was interrupted goes on where it ended.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import selection_data
import selection_methods
import selection_training
from figures import NOT_RUN, Figure, add_option, save
from selection_data import Data, Sizes
from selection_methods import METHODS, RANDOM, Columns, Method
from selection_place import POOL, TARGET, Place
from selection_statistics import MOST_SEEDS, Interval, difference, interval, needed
from selection_training import Model, Run

ALL = "all data"
# Options that change which runs there are, or where they go, and not what a run finds.
NOT_RESULTS = ("work", "json", "figures", "quick", "methods", "shares", "seeds", "multiples")


@dataclass(frozen=True)
class Trial:
    """One training: what it learns from, and how much."""

    choice: str  # a method's name, or ALL
    share: float  # of the pool that is kept
    multiple: float  # of the tokens
    seed: int


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    choice: str
    share: float
    loss: Interval
    less: Interval | None  # than random's at the same share
    needed: str
    factor: float
    holds: str  # of which sources most of it is


def main() -> None:
    options = _options()
    if options.corpus and not (options.corpus / "docs.parquet").is_file():
        print(f"{options.corpus} holds no docs.parquet; corpus.py builds it")
        raise SystemExit(NOT_RUN)
    with tempfile.TemporaryDirectory() as name:
        folder = options.work or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        measure(options, folder.resolve())


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Everything, from the data to the table."""
    settings = {key: str(value) for key, value in vars(options).items() if key not in NOT_RESULTS}
    _same(folder / "settings.json", settings)
    sizes = Sizes(options.characters, options.pool_bytes, options.test_bytes)
    if options.corpus:
        data = selection_data.of_corpus(options.corpus, options.package, sizes, options.in_pool)
    else:
        data = selection_data.of_files(options.pool, options.target, sizes)
    for name, part in ((POOL, data.pool), (TARGET, data.target)):
        pq.write_table(part, folder / name)
    model = Model(*(getattr(options, name) for name in Model.__dataclass_fields__))
    tokenizer = selection_training.tokenizer_of(
        data.pool["text"].to_pylist(), model.vocabulary, folder / "tokenizer.json"
    )
    pool, test = (
        selection_training.encoded(part["text"].to_pylist(), tokenizer) for part in (data.pool, data.test)
    )
    tokens = np.array([len(passage) for passage in pool])
    most = max(options.multiples)
    print(
        f"pool: {len(pool):,} passages, {tokens.sum():,} tokens; target: {len(data.target):,} passages to "
        f"learn from, {len(test):,} with {sum(map(len, test)):,} tokens to measure on; {data.overlapping:,} "
        "passages overlapped with these and were left out",
        flush=True,
    )
    if tokens.sum() < most * model.tokens:
        print(
            f"the pool has fewer tokens than {most:g} times {model.tokens:,}: the curve of all repeats them"
        )
    place = Place(folder, model, options.prior_tokens, options.conditional_tokens)
    chosen = [method for method in METHODS if method.name in options.methods]
    scored = selection_methods.score(chosen, place)
    for name, why in scored.failed.items():
        print(f"{name} is left out: {why}")
    methods = [method for method in chosen if method.name not in scored.failed]
    columns = Columns(scored.scores, tokens)
    trials = list(_trials(methods, options))
    test_rows = _test_rows(test, model.context)
    runs = _run(trials, methods, columns, pool, test_rows, model, folder / "runs.jsonl")
    rows = table_of(methods, runs, columns, data, options, model)
    told = {**scored.cpu_s, "training all models": sum(run.cpu_s for run in runs.values())}
    print(shown(rows, told))
    if options.json:
        options.json.write_text(json.dumps(_answer(settings, data, tokens, runs, rows, told), indent=1))
    save(list(_figures(rows, methods)), options.figures)


def chosen_by(method: Method, share: float, seed: int, columns: Columns) -> npt.NDArray[np.int64]:
    """The passages that a method keeps; one that draws does so anew for each seed."""
    draw = np.random.default_rng([seed if method.drawn else 0, METHODS.index(method)])
    return selection_methods.kept(method.prefer(columns, draw), columns.tokens, share)


def table_of(
    methods: Sequence[Method],
    runs: Mapping[Trial, Run],
    columns: Columns,
    data: Data,
    options: argparse.Namespace,
    model: Model,
) -> list[Row]:
    """The table, all data first, then share by share."""
    losses: dict[tuple[str, float, float], list[float]] = defaultdict(list)
    for trial, run in sorted(runs.items(), key=lambda item: item[0].seed):
        losses[trial.choice, trial.share, trial.multiple].append(run.loss)
    curve = [
        (multiple * model.tokens, statistics.mean(losses[ALL, 1.0, multiple]))
        for multiple in options.multiples
    ]
    rows = [
        Row(ALL, 1.0, interval(losses[ALL, 1.0, multiple]), None, f"{multiple:g} ×", multiple, "")
        for multiple in options.multiples
    ]
    sources = np.array(data.pool["source"].to_pylist(), object)
    for share in options.shares:
        by_chance = losses[RANDOM.name, share, 1.0]
        for method in methods:
            found = losses[method.name, share, 1.0]
            less = None if method is RANDOM or not by_chance else difference(by_chance, found)
            reached = needed(curve, statistics.mean(found))
            rows.append(
                Row(
                    method.name,
                    share,
                    interval(found),
                    less,
                    reached.times(model.tokens),
                    reached.tokens / model.tokens,
                    _most(sources, columns.tokens, chosen_by(method, share, 0, columns)),
                )
            )
    return rows


def shown(rows: Sequence[Row], spent: Mapping[str, float]) -> str:
    """The table in Markdown, and the CPU seconds behind it."""
    lines = [
        "| chosen by | kept | loss, nats a token | less than random | random needed | most of it |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        less = "" if row.less is None else row.less.text
        lines.append(
            f"| {row.choice} | {row.share:.0%} | {row.loss.text} | {less} | {row.needed} | {row.holds} |"
        )
    took = ", ".join(f"{name} {seconds:.0f}" for name, seconds in spent.items() if seconds >= 0.5)
    return "\n".join([*lines, f"CPU seconds: {took}"])


def _trials(methods: Sequence[Method], options: argparse.Namespace) -> Iterator[Trial]:
    """Seed by seed, so that a run that is interrupted has whole tables behind it."""
    for seed in range(options.seeds):
        for multiple in options.multiples:
            yield Trial(ALL, 1.0, multiple, seed)
        for share in options.shares:
            for method in methods:
                yield Trial(method.name, share, 1.0, seed)


def _run(
    trials: Sequence[Trial],
    methods: Sequence[Method],
    columns: Columns,
    pool: Sequence[selection_training.Tokens],
    test: selection_training.Tokens,
    model: Model,
    path: Path,
) -> dict[Trial, Run]:
    """Trains a model for each trial; what the file holds already is not done again."""
    done: dict[Trial, Run] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            held = json.loads(line)
            done[Trial(**held["trial"])] = Run(**held["run"])
    by_name = {method.name: method for method in methods}
    began = time.monotonic()
    with path.open("a") as file:
        for number, trial in enumerate(trials, 1):
            if trial in done:
                continue
            if trial.choice == ALL:
                learned = np.arange(len(pool))
            else:
                learned = chosen_by(by_name[trial.choice], trial.share, trial.seed, columns)
            if not len(learned):
                raise SystemExit(f"{trial.share:.1%} of the pool is less than a passage")
            rows = selection_training.rows_of([pool[row] for row in learned], model.context, trial.seed)
            tokens = round(trial.multiple * model.tokens)
            done[trial] = run = selection_training.train(rows, test, model, tokens, trial.seed)
            file.write(json.dumps({"trial": asdict(trial), "run": asdict(run)}) + "\n")
            file.flush()
            print(
                f"{number}/{len(trials)} {trial.choice} {trial.share:.0%} × {trial.multiple:g} seed "
                f"{trial.seed}: {run.loss:.4f}  ({run.cpu_s:.1f} CPU s; {time.monotonic() - began:.0f} s)",
                flush=True,
            )
    return {trial: done[trial] for trial in trials}


def _test_rows(test: Sequence[selection_training.Tokens], context: int) -> selection_training.Tokens:
    """Whole rows only: no token is measured twice."""
    flat = np.concatenate(test)
    return flat[: len(flat) // context * context].reshape(-1, context)


def _most(sources: npt.NDArray[Any], tokens: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]) -> str:
    """The two sources with the most tokens of a choice."""
    counts: Counter[str] = Counter()
    for source, count in zip(sources[chosen], tokens[chosen], strict=True):
        counts[str(source)] += int(count)
    total = counts.total()
    return ", ".join(f"{name} {count / total:.0%}" for name, count in counts.most_common(2))


def _same(path: Path, settings: Mapping[str, str]) -> None:
    """Runs with other settings are not mixed."""
    if path.exists() and json.loads(path.read_text()) != settings:
        raise SystemExit(f"{path.parent} holds runs with other options; name another folder for --work")
    path.write_text(json.dumps(settings, indent=1))


def _answer(
    settings: Mapping[str, str],
    data: Data,
    tokens: npt.NDArray[np.int64],
    runs: Mapping[Trial, Run],
    rows: Sequence[Row],
    spent: Mapping[str, float],
) -> dict[str, Any]:
    return {
        "settings": dict(settings),
        "pool_passages": len(data.pool),
        "pool_tokens": int(tokens.sum()),
        "target_passages": len(data.target),
        "test_passages": len(data.test),
        "overlapping": data.overlapping,
        # JSON has no nan, which an interval of one seed is.
        "rows": [_finite(asdict(row)) for row in rows],
        "runs": [{**asdict(trial), **asdict(run)} for trial, run in runs.items()],
        "cpu_s": dict(spent),
        "load": os.getloadavg(),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _figures(rows: Sequence[Row], methods: Sequence[Method]) -> Iterator[Figure]:
    names = {method.name for method in methods} - {RANDOM.name}
    for row in rows:
        if row.choice in names:
            yield Figure(f"{row.choice}, {row.share:.0%} kept: random needed", row.factor, "x")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="what corpus.py has built")
    parser.add_argument(
        "--package", default="postgresql-doc", help="of the corpus, whose documents are the target"
    )
    parser.add_argument("--in-pool", type=float, default=0.0, help="share of the target that the pool gets")
    parser.add_argument("--pool", nargs="+", help="files instead of the corpus")
    parser.add_argument("--target", nargs="+", help="files of the target, with --pool")
    names = [method.name for method in METHODS]
    parser.add_argument("--methods", nargs="+", choices=names, metavar="METHOD", help=", ".join(names))
    parser.add_argument("--shares", nargs="+", type=float, help="of the pool's tokens that are kept")
    parser.add_argument("--seeds", type=int, help=f"2 to {MOST_SEEDS}")
    parser.add_argument("--multiples", nargs="+", type=float, help="of --tokens, for the curve of all data")
    parser.add_argument("--characters", type=int, default=2000, help="of a document that are read")
    for name, told in (
        ("pool-bytes", "the pool"),
        ("test-bytes", "what is measured on"),
        ("tokens", "tokens that a model learns"),
        ("prior-tokens", "tokens of CoLoR-Filter's prior"),
        ("conditional-tokens", "tokens that it learns of the target"),
        *(("vocabulary", "tokens of the tokenizer"), ("layers", "of the model"), ("width", "of the model")),
        *(("heads", "of a layer"), ("context", "tokens of a row"), ("batch-tokens", "tokens of a step")),
    ):
        parser.add_argument(f"--{name}", type=int, help=told)
    parser.add_argument("--lr", type=float, default=1e-2, help="highest learning rate")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--quick", action="store_true", help="random and fastText at one share, very small")
    parser.add_argument("--work", type=Path, help="a folder to keep everything in, and to go on from")
    parser.add_argument("--json", type=Path, help="a file for all runs and the table")
    add_option(parser)
    options = parser.parse_args()
    if bool(options.corpus) == bool(options.pool) or bool(options.pool) != bool(options.target):
        parser.error("name a --corpus, or a --pool and a --target")
    for name, value in (QUICK if options.quick else WHOLE).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if not 2 <= options.seeds <= MOST_SEEDS:
        parser.error(f"--seeds is {options.seeds}; an interval takes 2 to {MOST_SEEDS}")
    if 1.0 not in options.multiples:
        parser.error("--multiples hold 1, which the choices are compared at")
    return options


# For one core of a shared machine; README.md says what it took.
WHOLE: dict[str, Any] = {
    "methods": [method.name for method in METHODS],
    "shares": [0.05, 0.2],
    "seeds": 3,
    "multiples": [0.5, 1.0, 2.0, 4.0],
    "pool_bytes": 8_000_000,
    "test_bytes": 120_000,
    "tokens": 131_072,
    "prior_tokens": 524_288,
    "conditional_tokens": 262_144,
    "vocabulary": 1024,
    "layers": 2,
    "width": 64,
    "heads": 2,
    "context": 128,
    "batch_tokens": 1024,
}
QUICK = WHOLE | {
    "methods": [RANDOM.name, "fastText"],
    "shares": [0.1],
    "seeds": 2,
    "multiples": [1.0, 2.0],
    "pool_bytes": 500_000,
    "test_bytes": 20_000,
    "tokens": 16_384,
}

if __name__ == "__main__":
    main()
