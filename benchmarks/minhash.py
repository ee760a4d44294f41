"""MinHash beside its peers in one run: megabytes a second of CPU time, and recall on planted near copies.

    python benchmarks/minhash.py --corpus DIR [--documents 3000] [--peer-python PYTHON] [--runs 3]

DIR holds docs.parquet (id, text) and truth.json (a list of [base id, copy id, kind of edit]). All use 112
permutations in 14 bands of 8 and shingles of 5 words; a planted pair counts as found when both are in one
cluster (for what does not tell its clusters, marked *: when one of the two is removed). Seconds are CPU
seconds, medians of alternating runs:

- kernel: from texts in memory to band keys; in process: on to who is removed, without engine and accounts;
- job, to survivors: the stages of `thresher run` over a Parquet file, timed in one process, with all that
  they read, write and commit, the ledger too, but without writing shards; job, to shards: with that;
  job, whole command: with its start, which one record shows (libraries, compiled kernels, a worker);
- peers are run by the scripts in benchmarks/peers with the interpreter that has them, from texts in memory
  to the ids that are removed; daft to signatures alone; datatrove, on fewer documents, from a Parquet file to
  written survivors, as its stages work on files.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from figures import Figure, add_option, save
from thresher.filters.dedup.clusters import Keep, UnionFind, connected_components, survivors
from thresher.filters.dedup.edges import StarEdges, combine, key_rows
from thresher.filters.dedup.minhash import MinHashScheme, band_keys, shingle_hashes
from thresher.filters.dedup.permutations import minima, permutations
from thresher.filters.text.words import WordKind

from jobs import Job, alternate, cost, documents, megabytes, start, write_parquet

PEERS = ("datasketch", "rensa", "daft", "datatrove")
SLOW = frozenset({"datatrove"})  # run on a smaller sample
BATCH = 2000  # documents
ONE_RECORD = "job of one record"
WORDS: tuple[WordKind, ...] = ("unicode", "whitespace")  # the default, and what the peers split at

Uint64s = npt.NDArray[np.uint64]
Truth = list[tuple[str, str, str]]


@dataclass(frozen=True)
class Result:
    """What a tool did: CPU seconds, the cluster of each id that is in one, the ids that it removes."""

    name: str
    seconds: float
    clusters: dict[str, int] | None = None
    removed: frozenset[str] | None = None


def sample(corpus: pa.Table, truth: Truth, documents: int | None) -> tuple[pa.Table, Truth]:
    """The corpus, or so many of its documents, with an equal share of planted pairs, whole, of every kind."""
    if documents is None or documents >= corpus.num_rows:
        return corpus, truth
    share = documents / corpus.num_rows
    chosen = truth[: int(len(truth) * share)]
    pairs = {id_ for base, copy, _ in chosen for id_ in (base, copy)}
    planted = {id_ for base, copy, _ in truth for id_ in (base, copy)}
    ids = corpus.column("id").to_pylist()
    others = [at for at, id_ in enumerate(ids) if id_ not in planted][: documents - len(pairs)]
    rows = sorted([at for at, id_ in enumerate(ids) if id_ in pairs] + others)
    return corpus.take(pa.array(rows)), chosen


def kernel(table: pa.Table, scheme: MinHashScheme) -> list[pa.FixedSizeListArray]:
    """From text to band keys."""
    return [band_keys(batch.column("text"), scheme) for batch in table.to_batches(BATCH)]


def clusters_of(keys: list[pa.FixedSizeListArray]) -> tuple[Uint64s, Uint64s, Uint64s]:
    """From band keys to clusters, in this process and one partition: members, roots, who is removed."""
    chunks, at = [], 0
    for batch in keys:
        chunks.append(combine(key_rows(batch, pa.array(np.arange(at, at + len(batch), dtype=np.uint64)))))
        at += len(batch)
    rows = pa.Table.from_batches(chunks).combine_chunks()
    order = np.argsort(rows.column("key").to_numpy(), kind="stable")
    star, forest = StarEdges(), UnionFind()
    for part in rows.take(pa.array(order)).to_batches(1 << 16):
        edges = star(part)
        forest.add(edges.column("src").to_numpy(), edges.column("dst").to_numpy())
    members, root = forest.components()
    return members, root, members[~survivors(root, pa.table({"position": members}), Keep())]


def in_process(table: pa.Table, words: WordKind) -> list[Result]:
    """The kernel alone, then with star edges, union-find and the choice of survivors."""
    scheme = MinHashScheme(bands=14, rows=8, words=words)
    kernel(table.slice(0, 10), scheme)  # compiled code is loaded
    start = time.process_time()
    keys = kernel(table, scheme)
    between = time.process_time()
    members, root, removed = clusters_of(keys)
    stop = time.process_time()
    ids = table.column("id").to_pylist()
    clusters = {ids[member]: cluster for member, cluster in zip(members.tolist(), root.tolist(), strict=True)}
    out = frozenset(ids[at] for at in removed.tolist())
    return [
        Result(f"{words} words: kernel", between - start),
        Result(
            f"{words} words: in process",
            stop - start,
            clusters,
            out,
        ),
    ]


def job(source: Path, words: WordKind) -> list[Result]:
    """`thresher run` over a Parquet file: its stages, and the command."""
    settings = {"bands": 14, "rows": 8, "ngram": 5, "words": words, "keep": "first"}
    described = Job([{"dedup": {"minhash": settings}}], {"format": "parquet"})
    found = cost(described, source)
    with tempfile.TemporaryDirectory() as folder:
        beginning = start(described, Path(folder)).cpu
    return [
        Result(f"{words} words: job, to survivors", found.to_survivors, None, found.removed),
        Result(f"{words} words: job, to shards", found.to_shards),
        Result(f"{words} words: job, whole command", found.whole),
        Result(f"{words} words: {ONE_RECORD}", beginning),
    ]


def peer(name: str, python: Path, table: pa.Table) -> list[Result]:
    """Runs benchmarks/peers/minhash_<name>.py on the table. Exits with its last words where it fails."""
    script = Path(__file__).parent / "peers" / f"minhash_{name}.py"
    with tempfile.TemporaryDirectory() as folder:
        source, answer = Path(folder, "docs.parquet"), Path(folder, "answer.json")
        pq.write_table(table.select(["id", "text"]), source)
        done = subprocess.run([python, script, source, answer], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
        said = json.loads(answer.read_text())
    label, ids = f"{name} {said['version']}", table.column("id").to_pylist()
    if "edges" in said:
        src, dst = np.array(said["edges"], np.uint64).reshape(-1, 2).T
        members, root = connected_components(src, dst)
        clusters = {ids[at]: cluster for at, cluster in zip(members.tolist(), root.tolist(), strict=True)}
        removed = frozenset(ids[at] for at in members[members != root].tolist())
        return [Result(label, said["seconds"], clusters, removed)]
    return [Result(label, said["seconds"], None, frozenset(said["removed"]) if "removed" in said else None)]


def recall(result: Result, truth: Truth) -> dict[str, float]:
    """The share of planted pairs that were found, for each kind of edit."""
    found = defaultdict(list)
    for base, copy, kind in truth:
        if result.clusters is not None:
            found[kind].append(base in result.clusters and result.clusters[base] == result.clusters.get(copy))
        elif result.removed is not None:
            found[kind].append(base in result.removed or copy in result.removed)
    return {kind: float(np.mean(hits)) for kind, hits in found.items()}


def meetings(table: pa.Table, truth: Truth, scheme: MinHashScheme, seeds: int) -> dict[str, float]:
    """The share of planted pairs of each kind that meet in a band, over many choices of permutations.

    One choice alone moves the recall of a thousand pairs by a standard deviation of 0.016 where the chance is
    one half, more than any two shingle hashes differ.
    """
    rows = {id_: row for row, id_ in enumerate(table.column("id").to_pylist())}
    chosen = pa.array([rows[id_] for base, copy, _ in truth for id_ in (base, copy)])
    first, hashes = shingle_hashes(table.column("text").take(chosen).combine_chunks(), scheme)
    kinds = np.array([kind for *_, kind in truth])
    met = np.zeros(len(truth))
    made = np.empty((len(chosen), scheme.bands * scheme.rows), np.uint32)
    for seed in range(1, seeds + 1):
        minima(first, hashes, *permutations(scheme.bands * scheme.rows, seed), made)
        bands = made.reshape(len(truth), 2, scheme.bands, scheme.rows)
        met += (bands[:, 0] == bands[:, 1]).all(axis=2).any(axis=1) / seeds
    return {kind: float(met[kinds == kind].mean()) for kind in dict.fromkeys(kinds.tolist())}


def median(rounds: list[list[Result]]) -> list[Result]:
    """What each round found alike, with the median of the seconds."""
    return [
        replace(same[0], seconds=statistics.median(result.seconds for result in same))
        for same in zip(*rounds, strict=True)
    ]


def report(results: list[tuple[Result, pa.Table, Truth]]) -> str:
    kinds = list(dict.fromkeys(kind for _, _, truth in results for *_, kind in truth))
    lines = [
        f"{'':40}{'docs':>8}{'MB':>7}{'CPU s':>8}{'docs/s':>9}{'MB/s':>8}  "
        + "".join(f"{kind:>9}" for kind in kinds)
    ]
    for result, table, truth in results:
        if result.name.endswith(ONE_RECORD):
            lines.append(f"{result.name:40}{1:8}{'':7}{result.seconds:8.2f}")
            continue
        size = megabytes(table)
        line = f"{result.name:40}{table.num_rows:8}{size:7.0f}{result.seconds:8.2f}"
        line += f"{table.num_rows / result.seconds:9.0f}{size / result.seconds:8.1f}  "
        if result.removed is not None:
            shares = recall(result, truth)
            line += "".join(f"{shares[kind]:9.3f}" for kind in kinds) + f"  removed {len(result.removed)}"
            line += "" if result.clusters is not None else " *"
        lines.append(line)
    return "\n".join(lines)


def report_meetings(table: pa.Table, truth: Truth, seeds: int) -> list[Figure]:
    """Prints the share of pairs that meet under our shingle hash and datasketch's; the largest difference."""
    shares = {}
    for hash_ in ("thresher", "datasketch"):
        scheme = MinHashScheme(bands=14, rows=8, words="whitespace", hash=hash_)  # type: ignore[arg-type]
        shares[hash_] = meetings(table, truth, scheme, seeds)
        label = f"pairs that meet, hash {hash_}, mean of {seeds} seeds"
        print(f"{label:82}" + "".join(f"{share:9.3f}" for share in shares[hash_].values()))
    apart = max(abs(share - shares["datasketch"][kind]) for kind, share in shares["thresher"].items())
    return [Figure("MinHash: recall, most apart from datasketch's", apart, "share", 0.01, at_most=True)]


def figures(results: list[tuple[Result, pa.Table, Truth]]) -> list[Figure]:
    """The rates that have targets, those of the peers, and ours over theirs with the words that they use."""
    rates = {result.name: megabytes(table) / result.seconds for result, table, _ in results}
    found = [
        Figure("MinHash: kernel", rates["unicode words: kernel"], "MB/s a core", 120),
        Figure("MinHash: job, to survivors", rates["unicode words: job, to survivors"], "MB/s a core", 80),
        Figure("MinHash: job, to shards", rates["unicode words: job, to shards"], "MB/s a core"),
    ]
    ours = rates["whitespace words: job, to survivors"]
    for name, rate in rates.items():
        peer_name = name.partition(" ")[0]
        if peer_name in PEERS:
            target = 15 if peer_name == "datasketch" else None
            found.append(Figure(f"MinHash: job, to survivors / {name}", ours / rate, "x", target))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--documents", type=int, help="size of the sample; all if left out")
    parser.add_argument("--slow-documents", type=int, default=1000, help="size of the sample for datatrove")
    parser.add_argument("--peer-python", type=Path, help="interpreter that has the peers")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--runs", type=int, default=3, help="alternating runs")
    parser.add_argument("--seeds", type=int, default=32, help="permutations over which recall is averaged")
    add_option(parser)
    options = parser.parse_args()

    corpus = documents(options.corpus)
    truth = [tuple(pair) for pair in json.loads((options.corpus / "truth.json").read_text())]
    ample = sample(corpus, truth, options.documents)
    small = sample(corpus, truth, options.slow_documents)
    with tempfile.TemporaryDirectory() as folder:
        source = write_parquet(ample[0], Path(folder) / "docs.parquet")
        contenders: dict[str, Callable[[], list[Result]]] = {}
        for words in WORDS:
            contenders[f"{words} words"] = partial(in_process, ample[0], words)
            contenders[f"{words} words, job"] = partial(job, source, words)
        for name in options.peers if options.peer_python else ():
            some = small if name in SLOW else ample
            contenders[name] = partial(peer, name, options.peer_python, some[0])
        rounds = alternate(contenders, options.runs)
    results = [
        (result, *(small if name in SLOW else ample))
        for name, found in rounds.items()
        for result in median(found)
    ]
    print(report(results))
    found = figures(results)
    if options.seeds:
        found += report_meetings(*ample, options.seeds)
    save(found, options.figures)


if __name__ == "__main__":
    main()
