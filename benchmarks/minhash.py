"""MinHash beside its peers in one run: megabytes a second of CPU time, and recall on planted near copies.

    python benchmarks/minhash.py --corpus DIR [--documents 3000] [--peer-python PYTHON] [--seeds 32]

DIR holds docs.parquet (id, text) and truth.json (a list of [base id, copy id, kind of edit]). Peers are run
by the scripts in benchmarks/peers, each in a process of its own, with the interpreter that has them. All use
112 permutations in 14 bands of 8 and shingles of 5 words; a planted pair counts as found when both are in one
cluster (for datatrove, marked *, which does not tell its clusters: when one of the two is removed). Seconds
are CPU seconds of the process tree, from texts in memory to the ids that are removed; for datatrove from a
Parquet file to written survivors, as its stages work on files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from thresher.filters.dedup.clusters import Keep, UnionFind, connected_components, survivors
from thresher.filters.dedup.edges import StarEdges, combine, key_rows
from thresher.filters.dedup.minhash import MinHashScheme, band_keys, shingle_hashes
from thresher.filters.dedup.permutations import minima, permutations

PEERS = ("datasketch", "rensa", "daft", "datatrove")
SLOW = frozenset({"datatrove"})  # run on a smaller sample
BATCH = 2000  # documents

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


def ours(table: pa.Table, scheme: MinHashScheme, name: str) -> list[Result]:
    """The kernel alone, then with star edges, union-find and the choice of survivors."""
    kernel(table.slice(0, 10), scheme)  # compiled code is loaded
    start = time.process_time()
    keys = kernel(table, scheme)
    between = time.process_time()
    members, root, removed = clusters_of(keys)
    stop = time.process_time()
    ids = table.column("id").to_pylist()
    clusters = {ids[member]: cluster for member, cluster in zip(members.tolist(), root.tolist(), strict=True)}
    return [
        Result(f"{name}: kernel", between - start),
        Result(
            f"{name}: to survivors", stop - start, clusters, frozenset(ids[at] for at in removed.tolist())
        ),
    ]


def peer(name: str, python: Path, table: pa.Table) -> Result:
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
        return Result(label, said["seconds"], clusters, removed)
    return Result(label, said["seconds"], None, frozenset(said["removed"]) if "removed" in said else None)


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


def report(results: list[tuple[Result, pa.Table, Truth]]) -> str:
    kinds = list(dict.fromkeys(kind for _, _, truth in results for *_, kind in truth))
    lines = [
        f"{'':44}{'docs':>8}{'MB':>7}{'CPU s':>8}{'docs/s':>9}{'MB/s':>8}  "
        + "".join(f"{kind:>9}" for kind in kinds)
    ]
    for result, table, truth in results:
        megabytes = pa.compute.sum(pa.compute.binary_length(table.column("text"))).as_py() / 1e6
        line = f"{result.name:44}{table.num_rows:8}{megabytes:7.0f}{result.seconds:8.2f}"
        line += f"{table.num_rows / result.seconds:9.0f}{megabytes / result.seconds:8.1f}  "
        if result.removed is not None:
            shares = recall(result, truth)
            line += "".join(f"{shares[kind]:9.3f}" for kind in kinds) + f"  removed {len(result.removed)}"
            line += "" if result.clusters is not None else " *"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--documents", type=int, help="size of the sample; all if left out")
    parser.add_argument("--slow-documents", type=int, default=1000, help="size of the sample for datatrove")
    parser.add_argument("--peer-python", type=Path, help="interpreter that has the peers")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=PEERS)
    parser.add_argument("--seeds", type=int, default=32, help="permutations over which recall is averaged")
    arguments = parser.parse_args()

    corpus = pq.read_table(arguments.corpus / "docs.parquet", columns=["id", "text"])
    truth = [tuple(pair) for pair in json.loads((arguments.corpus / "truth.json").read_text())]
    table, pairs = sample(corpus, truth, arguments.documents)
    results = []
    for words in ("unicode", "whitespace"):
        scheme = MinHashScheme(bands=14, rows=8, words=words)  # type: ignore[arg-type]
        results += [(result, table, pairs) for result in ours(table, scheme, f"thresher, {words} words")]
    if arguments.peer_python:
        for name in arguments.peers:
            size = arguments.slow_documents if name in SLOW else arguments.documents
            some, some_pairs = sample(corpus, truth, size)
            results.append((peer(name, arguments.peer_python, some), some, some_pairs))
    print(report(results))
    for hash in ("thresher", "datasketch") if arguments.seeds else ():
        scheme = MinHashScheme(bands=14, rows=8, words="whitespace", hash=hash)  # type: ignore[arg-type]
        shares = meetings(table, pairs, scheme, arguments.seeds)
        label = f"pairs that meet, hash {hash}, mean of {arguments.seeds} seeds"
        print(f"{label:86}" + "".join(f"{share:9.3f}" for share in shares.values()))


if __name__ == "__main__":
    main()
