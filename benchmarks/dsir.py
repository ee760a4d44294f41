"""Speed of DSIR's importance weights, beside the pure-Python counting of its authors' code.

    python benchmarks/dsir.py --corpus DIR [--peer-python PATH]

DIR holds docs.parquet with a column `text`. Target and raw data are documents of its sources. The ratio is of
CPU seconds over the same documents in one run: ours and the authors' operations alternate, in processes of
their own, after loading, and medians are compared; ours begins each run with nothing remembered. The weights
of both must agree. `--peer-python` is a Python with NumPy, and NLTK
3.8.1 if the tokenizer shall be NLTK's own: later ones take other characters for parts of words.
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
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from figures import Figure, add_option, save

from jobs import documents

BATCH = 1024
PEER = Path(__file__).with_name("peers") / "dsir_reference.py"


def run_ours(path: Path, model: Path, repeats: int) -> dict[str, Any]:
    """CPU seconds of one pass over the documents of a JSON Lines file, and their weights."""
    from thresher.scorers.assets import LocalAssets
    from thresher.scorers.dsir import DsirScorer

    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    batches = pa.table({"text": texts}).to_batches(max_chunksize=BATCH)
    seconds, weights = [], []
    for _ in range(repeats):
        scorer = DsirScorer(model.name, min_tokens=0)
        scorer.open(LocalAssets([model.parent]))
        scorer.score(batches[0].slice(0, 1))
        started = time.process_time()
        found = [scorer.score(batch)["log_weight"] for batch in batches]
        seconds.append(time.process_time() - started)
        weights = [weight for array in found for weight in array.to_pylist()]
    return {"cpu_s": min(seconds), "weights": weights}


def train(table: pa.Table, folder: Path) -> Path:
    """Statistics whose target is the manual pages, or half of the corpus where there are none."""
    from thresher.scorers.dsir_training import DsirTrainer

    chosen = pc.equal(table["source"], "man")
    if not pc.any(chosen).as_py():
        chosen = pa.array(np.arange(len(table)) % 2 == 0)
    target = table.filter(chosen).select(["text"])
    trainer = DsirTrainer(ngrams_to_fit=10_000_000)
    started = time.process_time()
    found = trainer.train(
        {"man": target.to_batches(max_chunksize=BATCH)},
        [table.select(["text"]).to_batches(max_chunksize=BATCH)],
        folder / "dsir.npz",
        0,
    )
    check = found.checks["man"]
    print(
        f"counted {sum(found.ngrams.values()):,} n-grams in {time.process_time() - started:.1f} CPU s; "
        f"{check.documents} manual pages held out against {check.raw_documents} texts: AUC {check.auc:.3f}"
    )
    np.save(folder / "ratios.npy", found.statistics.log_ratios("man"))
    return folder / "dsir.npz"


def timed(command: list[str]) -> dict[str, Any]:
    """What a process prints as its last line."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def write(table: pa.Table, path: Path) -> float:
    """Writes JSON Lines; returns the megabytes of text."""
    texts = table["text"].to_pylist()
    path.write_text("".join(json.dumps({"text": text or ""}) + "\n" for text in texts), encoding="utf-8")
    return sum(len((text or "").encode()) for text in texts) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--peer-python", default=sys.executable, help="a Python for the authors' operations")
    parser.add_argument("--sample", type=int, default=4000, help="documents that both read")
    parser.add_argument("--documents", type=int, help="documents that ours alone reads; all if left out")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs")
    add_option(parser)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(run_ours(options.ours, options.model, 1)))
        return
    this = [sys.executable, str(Path(__file__).resolve()), "--corpus", str(options.corpus)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        everything = documents(options.corpus, options.documents, ["text", "source"])
        model = train(everything, folder)
        ours_command = [*this, "--model", str(model), "--ours"]
        of_all = write(everything, folder / "all.jsonl")
        alone = timed([*ours_command, str(folder / "all.jsonl")])["cpu_s"]
        sample = folder / "sample.jsonl"
        megabytes = write(documents(options.corpus, options.sample, ["text", "source"]), sample)
        theirs_command = [options.peer_python, str(PEER), str(sample), str(folder / "ratios.npy")]
        ours, theirs = [], []
        for _ in range(options.runs):
            ours.append(timed([*ours_command, str(sample)]))
            theirs.append(timed(theirs_command))
    np.testing.assert_allclose(ours[0]["weights"], theirs[0]["weights"], rtol=1e-9, atol=1e-6)
    of_ours, of_theirs = (statistics.median(run["cpu_s"] for run in runs) for runs in (ours, theirs))
    with_nltk = f"NLTK {theirs[0]['nltk']}" if theirs[0]["nltk"] else "without NLTK"
    print(f"ours, all documents   {of_all:8.1f} MB  {of_all / alone:8.1f} MB/s a core")
    print(f"ours, the sample      {megabytes:8.1f} MB  {megabytes / of_ours:8.1f} MB/s a core")
    print(
        f"authors' operations   {megabytes:8.1f} MB  {megabytes / of_theirs:8.1f} MB/s a core ({with_nltk})"
    )
    print("the weights agree")
    save(
        [
            Figure("DSIR weights", of_all / alone, "MB/s a core"),
            Figure("DSIR weights / pure Python", of_theirs / of_ours, "x", 20),
        ],
        options.figures,
    )
    print(f"ratio {of_theirs / of_ours:.1f}")


if __name__ == "__main__":
    main()
