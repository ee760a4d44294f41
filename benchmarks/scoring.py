"""Documents a second of our scorers, beside the command lines of what they are made of.

    python benchmarks/scoring.py --corpus DIR [--documents 5000] [--tools DIR]

DIR holds docs.parquet with a column `text`; half of its documents, by their length, train the fastText model
that all of them are scored with, and all of them the SentencePiece and KenLM models. `--tools` holds the
programs `fasttext` and `query`, as `peers/scoring_tools.py` builds them; without it they are left out.

Figures are CPU seconds, the median of alternating runs, ratios within one run. A command line is charged what
it takes over all documents, less what it takes over one, which is loading the model; ours is charged what
`prepare` and `score` take. KenLM's `query` reads pieces, so it is compared with our language model over the
same pieces; the scorer, which makes the pieces too, is compared with SentencePiece and `query` together.

Last, the same job with one score and with six, of models that are too small to count: bytes that its
processes read, as the kernel counts them.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from figures import Figure, add_option, save
from process_tree import measure
from thresher.schemas.contracts import Scorer
from thresher.scorers import kenlm_model, sentencepiece_model
from thresher.scorers.assets import LocalAssets
from thresher.scorers.fasttext import FastTextScorer
from thresher.scorers.kenlm import KenLMScorer
from thresher.scorers.kenlm_training import KenLMTrainer
from thresher.scorers.sentencepiece_training import SentencePieceTrainer
from thresher.scorers.training import FastTextTrainer

BATCH = 1024
REPEATS = 5
MORE_SCORES = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder with docs.parquet")
    parser.add_argument("--documents", type=int, default=5000, help="how many documents to score")
    parser.add_argument("--tools", type=Path, help="folder with the programs fasttext and query")
    add_option(parser)
    options = parser.parse_args()
    table = pq.read_table(options.corpus / "docs.parquet", columns=["id", "text"])
    table = table.slice(0, options.documents).combine_chunks()
    megabytes = pc.sum(pc.binary_length(table["text"])).as_py() / 1e6
    print(f"{len(table)} documents, {megabytes:.1f} MB, batches of {BATCH}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        figures = of_fasttext(table, folder, options.tools)
        figures += of_kenlm(table, folder, options.tools)
        figures += of_reading(table, folder)
    save(figures, options.figures)


def of_fasttext(table: pa.Table, folder: Path, tools: Path | None) -> list[Figure]:
    """fastText: ours, its library given a text at a time, and its command line."""
    import fasttext

    model = train_fasttext(table, folder)
    native = fasttext.load_model(str(model)).f
    lines = [text.replace("\n", " ") for text in table["text"].to_pylist()]

    def one_by_one() -> None:
        for line in lines:
            native.predict(f"{line}\n", 2, 0.0, "strict")

    ways = {
        "thresher": scoring(FastTextScorer(model.name, "hq"), table, folder),
        "predict": timed(one_by_one),
    }
    if tools is not None:
        command = [str(tools / "fasttext"), "predict-prob", str(model)]
        ways["command"] = command_line(lambda file: [*command, str(file), "1"], lines, folder)
    seconds = alternated(ways)
    told("fastText", seconds, len(table), "documents")
    ours = seconds["thresher"]
    figures = [
        Figure("fastText scoring", len(table) / ours, "documents/s a core"),
        Figure("fastText scoring / one call a document", seconds["predict"] / ours, "x"),
    ]
    if tools is not None:
        ratio = seconds["command"] / ours
        figures.append(Figure("fastText scoring / fasttext predict-prob", ratio, "x", target=0.9))
    return figures


def of_kenlm(table: pa.Table, folder: Path, tools: Path | None) -> list[Figure]:
    """KenLM: over pieces our model and `query`, over texts our scorer and SentencePiece with `query`."""
    tokenizer, model = train_kenlm(table, folder)
    scorer = KenLMScorer(model.name, tokenizer.name)
    loaded = kenlm_model.load(model, tokenizer)
    normal = kenlm_model.prepare(table["text"].combine_chunks(), "ccnet").to_pylist()
    lines = [" ".join(loaded.tokenizer.pieces(line)) for line in normal]
    native = sentencepiece_model.load(tokenizer)
    native_model = kenlm_model.library().Model(str(model))

    ways = {
        "thresher": scoring(scorer, table, folder),
        "pieces": timed(lambda: [(native_model.score(line), len(line.split()) + 1) for line in lines]),
        "sentencepiece": timed(lambda: [" ".join(native.pieces(line)) for line in normal]),
    }
    if tools is not None:
        command = [str(tools / "query"), "-v", "sentence", str(model)]
        ways["query"] = command_line(lambda _: command, lines, folder, standard_input=True)
    seconds = alternated(ways)
    told("KenLM", seconds, len(table), "sentences")
    figures = [Figure("KenLM scoring", len(table) / seconds["thresher"], "documents/s a core")]
    if tools is not None:
        figures.append(Figure("KenLM, pieces / query", seconds["query"] / seconds["pieces"], "x", target=0.9))
        both = seconds["sentencepiece"] + seconds["query"]
        figures.append(Figure("KenLM scoring / SentencePiece and query", both / seconds["thresher"], "x"))
    return figures


def of_reading(table: pa.Table, folder: Path) -> list[Figure]:
    """What a job reads with one score, and with five more."""
    pq.write_table(table, folder / "docs.parquet", compression="none")
    found = {}
    for count in (1, 1 + MORE_SCORES):
        lists = [folder / f"words-{number}.txt" for number in range(count)]
        for number, path in enumerate(lists):
            path.write_text("\n".join(f"{word}{number}" for word in ("alpha", "beta", "gamma")))
        steps = [
            {"score": {"word_list": {"path": path.name}}, "as": path.stem.replace("-", "_")} for path in lists
        ]
        job = {
            "name": f"scores-{count}",
            "input": "docs.parquet",
            "steps": steps,
            "output": {"path": f"out-{count}"},
            "run": {"workers": 1},
        }
        (folder / "job.yaml").write_text(yaml.safe_dump(job))
        before = bytes_read()
        usage = measure([sys.executable, "-m", "thresher", "run", str(folder / "job.yaml"), "--quiet"])
        found[count] = (bytes_read() - before, usage.cpu)
        print(f"{count} scores: {found[count][0] / 1e6:8.1f} MB read, {found[count][1]:6.1f} CPU seconds")
    one, many = found[1], found[1 + MORE_SCORES]
    size = (folder / "docs.parquet").stat().st_size
    print(f"the input has {size / 1e6:.1f} MB")
    name = f"more input read for {MORE_SCORES} more scores"
    return [Figure(name, (many[0] - one[0]) / size, "x the input", target=0.1, at_most=True)]


def train_fasttext(table: pa.Table, folder: Path) -> Path:
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


def train_kenlm(table: pa.Table, folder: Path) -> tuple[Path, Path]:
    """A SentencePiece and a 5-gram model of the table's texts."""
    tokenizer, model = folder / "sp.model", folder / "lm.bin"
    data = {"text": table.to_batches(max_chunksize=BATCH)}
    SentencePieceTrainer(vocab_size=8000, hard_vocab_limit=False, max_bytes=5_000_000).fit(data, tokenizer, 0)
    KenLMTrainer(tokenizer=tokenizer, memory="512M").fit(data, model, 0)
    return tokenizer, model


def scoring(scorer: Scorer, table: pa.Table, folder: Path) -> Callable[[], float]:
    """CPU seconds of a scorer over the table, its model loaded."""
    scorer.open(LocalAssets([folder]))
    batches = [batch.select(scorer.inputs) for batch in table.to_batches(max_chunksize=BATCH)]

    def score() -> None:
        for batch in batches:
            scorer.score(scorer.prepare(batch))

    return timed(score)


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """CPU seconds that something takes in this process."""

    def seconds() -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    return seconds


def command_line(
    command: Callable[[Path], list[str]], lines: list[str], folder: Path, standard_input: bool = False
) -> Callable[[], float]:
    """CPU seconds of a command over a file of the lines, less those over a file of the first."""

    def once(file: Path) -> float:
        before = children_seconds()
        with file.open("rb") as source, open(os.devnull, "wb") as nothing:
            given = source if standard_input else subprocess.DEVNULL
            subprocess.run(command(file), stdin=given, stdout=nothing, stderr=nothing, check=True)
        return children_seconds() - before

    def seconds() -> float:
        (folder / "lines.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (folder / "line.txt").write_text(f"{lines[0]}\n", encoding="utf-8")
        return once(folder / "lines.txt") - once(folder / "line.txt")

    return seconds


def alternated(ways: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median seconds of each way, after runs in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            seconds[name].append(way())
    return {name: statistics.median(runs) for name, runs in seconds.items()}


def told(what: str, seconds: dict[str, float], count: int, unit: str) -> None:
    for name, median in seconds.items():
        ratio = median / seconds["thresher"]
        print(f"{what:9}{name:14}{count / median:10,.0f} {unit}/s   takes {ratio:5.2f} x thresher's time")


def children_seconds() -> float:
    """CPU seconds of all processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def bytes_read() -> int:
    """Bytes that this process, and those that it has waited for, asked for in reads (proc(5), `rchar`)."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


if __name__ == "__main__":
    main()
