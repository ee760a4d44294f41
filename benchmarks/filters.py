"""Speed of the text rules on real documents: signals and rules of Gopher, C4 and FineWeb together.

    python benchmarks/filters.py --corpus DIR [--peer-python PATH]

DIR holds docs.parquet with a column `text`. The ratio is of CPU seconds over the same documents in one run:
ours and datatrove's alternate, and medians are compared. Both are timed in processes of their own, after
loading, and without reading files. datatrove stops at the first filter that drops a document; ours computes
all signals of all documents.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from figures import Figure, add_option, save

from jobs import documents

BATCH_BYTES = 4 << 20  # of text in a batch
COMPARED = ("gopher_quality", "gopher_repetition", "c4", "fineweb")  # what datatrove's filters are, too


def texts_of(corpus: Path, sample: int | None) -> list[str]:
    """The texts of the corpus, or `sample` of them, evenly spread."""
    return [text or "" for text in documents(corpus, sample, ["text"])["text"].to_pylist()]


def batches(texts: list[str]) -> list[pa.Array]:
    """Arrays of at most BATCH_BYTES of text, at least one text each."""
    groups: list[list[str]] = [[]]
    size = 0
    for text in texts:
        size += len(text.encode())
        if size > BATCH_BYTES and groups[-1]:
            groups.append([])
            size = len(text.encode())
        groups[-1].append(text)
    return [pa.array(group, pa.string()) for group in groups]


def run_ours(path: Path, repeats: int) -> dict[str, float]:
    """CPU seconds of one pass over the documents of a JSON Lines file, after one for warmth."""
    from thresher.filters.expressions import evaluate_rules, parse
    from thresher.filters.rule_sets import RULE_SETS
    from thresher.filters.signals import compute_signals

    arrays = batches([json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()])
    rules = [
        (f"{rule_set.name}.{rule.reason}", parse(rule.expression, rule_set.parameters))
        for rule_set in map(RULE_SETS.__getitem__, COMPARED)
        for rule in rule_set.rules
    ]
    names = sorted(set().union(*(expression.columns for _, expression in rules)))
    signals_s = rules_s = 0.0
    kept = 0
    for repeat in range(repeats + 1):
        if repeat == 1:
            signals_s = rules_s = 0.0
        kept = 0
        for array in arrays:
            started = time.process_time()
            signals = compute_signals(array, names)
            measured = time.process_time()
            reasons, _ = evaluate_rules(rules, signals, "drop")
            rules_s += time.process_time() - measured
            signals_s += measured - started
            kept += reasons.null_count
    total = (signals_s + rules_s) / repeats
    return {"cpu_s": total, "signals_s": signals_s / repeats, "rules_s": rules_s / repeats, "kept": kept}


def timed(command: list[str]) -> dict[str, float]:
    """What a process prints as its last line."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def write(texts: list[str], path: Path) -> float:
    """Writes JSON Lines; returns the megabytes of text."""
    with path.open("w", encoding="utf-8") as out:
        for text in texts:
            out.write(json.dumps({"text": text}) + "\n")
    return sum(len(text.encode()) for text in texts) / 1e6


def report(tool: str, megabytes: float, cpu: float, what: str) -> None:
    print(f"{tool:10} {megabytes:8.2f} MB  {megabytes / cpu:8.2f} MB/s a core  ({what})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--peer-python", help="a Python that has datatrove; without it only ours is timed")
    parser.add_argument("--sample", type=int, default=300, help="documents that both read")
    parser.add_argument("--documents", type=int, help="documents that ours alone reads; all if left out")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs")
    add_option(parser)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(run_ours(options.ours, options.repeats)))
        return
    this = [sys.executable, str(Path(__file__).resolve()), "--corpus", str(options.corpus)]
    with tempfile.TemporaryDirectory() as folder:
        everything, sample = Path(folder) / "all.jsonl", Path(folder) / "sample.jsonl"
        megabytes = write(texts_of(options.corpus, options.documents), everything)
        runs = [timed([*this, "--ours", str(everything)]) for _ in range(options.runs)]
        cpu = statistics.median(run["cpu_s"] for run in runs)
        rules = statistics.median(run["rules_s"] for run in runs)
        report("thresher", megabytes, cpu, f"all documents; {rules / cpu:.1%} of it in rules")
        found = [Figure("filters, kernels and rules", megabytes / cpu, "MB/s a core", 50)]
        if not options.peer_python:
            save(found, options.figures)
            return
        megabytes = write(texts_of(options.corpus, options.sample), sample)
        peer = [
            options.peer_python,
            str(Path(__file__).parent / "peers" / "datatrove_filters.py"),
            "time",
            str(sample),
        ]
        ours_s, peer_s = [], []
        for _ in range(options.runs):
            ours_s.append(timed([*this, "--ours", str(sample), "--repeats", "20"])["cpu_s"])
            peer_s.append(timed(peer)["cpu_s"])
        ours, theirs = statistics.median(ours_s), statistics.median(peer_s)
        report("thresher", megabytes, ours, f"{options.sample} documents")
        report("datatrove", megabytes, theirs, "the same documents")
        print(f"ratio      {theirs / ours:8.1f}")
    save([*found, Figure("filters: ours / datatrove's", theirs / ours, "x", 100)], options.figures)


if __name__ == "__main__":
    main()
