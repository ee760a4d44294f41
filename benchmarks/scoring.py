"""Documents a second of `score: fasttext`, beside fastText called once for each document.

    python benchmarks/scoring.py --corpus DIR [--documents 5000]

DIR holds docs.parquet with a column `text`; half of its documents, by their length, train the model that
all of them are scored with. Figures are CPU seconds of this process, the median of alternating runs, ratios
within one run. `list` is fastText given all texts in one call: what it costs without thresher.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from figures import Figure, add_option, save
from thresher.scorers.assets import LocalAssets
from thresher.scorers.fasttext import FastTextScorer
from thresher.scorers.training import FastTextTrainer

BATCH = 1024
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with docs.parquet")
    parser.add_argument("--documents", type=int, default=5000, help="how many documents to score")
    add_option(parser)
    options = parser.parse_args()
    table = pq.read_table(options.corpus / "docs.parquet", columns=["text"]).slice(0, options.documents)
    with tempfile.TemporaryDirectory() as folder:
        model = train(table, Path(folder))
        save(report(table, run(table, model)), options.figures)


def train(table: pa.Table, folder: Path) -> Path:
    lengths = pc.utf8_length(table["text"])
    longer = pc.greater(lengths, pc.approximate_median(lengths))
    labelled = {"hq": table.filter(longer), "lq": table.filter(pc.invert(longer))}
    trainer = FastTextTrainer(dim=16, bucket=100_000, epoch=1, held_out=0.1)
    started = time.perf_counter()
    found = trainer.train(
        {label: rows.to_batches() for label, rows in labelled.items()}, folder / "hq.bin", 0
    )
    seconds = time.perf_counter() - started
    print(f"trained on {sum(found.documents.values())} documents in {seconds:.1f} s of wall time")
    print(f"held-out AUC of telling long documents from short: {found.metrics['hq'].auc:.3f}")
    return folder / "hq.bin"


def run(table: pa.Table, model: Path) -> dict[str, list[float]]:
    """CPU seconds of each way to score the table."""
    import fasttext

    native = fasttext.load_model(str(model)).f
    scorer = FastTextScorer(model.name, "hq")
    scorer.open(LocalAssets([model.parent]))
    batches = table.combine_chunks().to_batches(max_chunksize=BATCH)

    def one_by_one() -> None:
        for text in table["text"].to_pylist():
            native.predict(text.replace("\n", " ") + "\n", 2, 0.0, "strict")

    def in_one_list() -> None:
        lines = [text.replace("\n", " ") + "\n" for text in table["text"].to_pylist()]
        native.multilinePredict(lines, 2, 0.0, "strict")

    def thresher() -> None:
        for batch in batches:
            scorer.score(batch)

    ways: dict[str, Callable[[], None]] = {"predict": one_by_one, "list": in_one_list, "thresher": thresher}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            started = time.process_time()
            way()
            seconds[name].append(time.process_time() - started)
    return seconds


def report(table: pa.Table, seconds: dict[str, list[float]]) -> list[Figure]:
    megabytes = pc.sum(pc.binary_length(table["text"])).as_py() / 1e6
    plain = statistics.median(seconds["predict"])
    print(f"{len(table)} documents, {megabytes:.1f} MB, batches of {BATCH}")
    for name, runs in seconds.items():
        median = statistics.median(runs)
        speed = f"{len(table) / median:10,.0f} documents/s  {megabytes / median:7.1f} MB/s"
        print(f"{name:10}{speed}  {plain / median:5.2f} x predict")
    ours = statistics.median(seconds["thresher"])
    return [
        Figure("fastText scoring", len(table) / ours, "documents/s a core"),
        Figure("fastText scoring / one call a document", plain / ours, "x"),
    ]


if __name__ == "__main__":
    main()
