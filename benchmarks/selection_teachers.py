"""Methods whose teacher scores a sample and whose student, a fastText classifier, scores the pool.

BETR's teacher is the nearness to the target in a latent semantic analysis, in place of an encoder. Those of
PreSelect and Perplexity Correlations are small language models with known errors; here each of them has
learned other sources of the pool, and its error is its loss on the target, not on benchmarks.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from selection_data import BATCH
from selection_place import FASTTEXT, POOL, TARGET, Place, Step, scored
from thresher.jobs.training_correlations import train_correlations
from thresher.jobs.training_student import train_student
from thresher.scorers.benchmark_targets import rank_documents
from thresher.scorers.lm.training import LMTrainer
from thresher.scorers.preselect import RankAgreementScorer

MODELS = 6  # as many as PreSelect's teacher has
PAGES = 25  # of a source, as Perplexity Correlations takes of a domain
EXAMPLES = 200  # of the target, by which models are ranked
WORDS, FACTORS = 8192, 128  # of the latent semantic analysis
TOP = 0.1  # of the sample that is a positive example
_WORD = re.compile(r"\w+")


def betr(place: Place) -> Sequence[Step]:
    path, ranked = place.folder / "betr.bin", place.folder / "ranked.parquet"
    if not path.exists():
        pool, target = (pq.read_table(place.folder / name) for name in (POOL, TARGET))
        embedded = latent([*pool["text"].to_pylist(), *target["text"].to_pylist()])
        found = rank_documents(
            embedded[: len(pool)], pool["id"].combine_chunks(), embedded[len(pool) :], threads=1
        )
        pq.write_table(pool.append_column("score", pa.array(found.scores)), ranked)
        _student(place, ranked, path, by="score", top=TOP, others="drawn")
    return _step(path, "betr")


def preselect(place: Place) -> Sequence[Step]:
    path, graded = place.folder / "preselect.bin", place.folder / "graded.parquet"
    if not path.exists():
        table, errors = _losses(place)
        best_first = sorted(errors, key=lambda name: errors[name])
        grader = RankAgreementScorer(best_first)
        batch = table.select(best_first).combine_chunks().to_batches()[0]
        pq.write_table(table.append_column("agreement", grader.score(batch)["agreement"]), graded)
        _student(place, graded, path, by="agreement", top=TOP, others="lowest")
    return _step(path, "preselect")


def correlations(place: Place) -> Sequence[Step]:
    path, weights, scores = (place.folder / name for name in ("include.bin", "weights.json", "errors.csv"))
    if not path.exists():
        _, errors = _losses(place)
        with scores.open("w", newline="") as file:
            csv.writer(file).writerows([("model", "error"), *errors.items()])
        losses = place.folder / "losses.parquet"
        train_correlations([str(losses)], str(scores), weights, domain="source", size="bytes")
        _student(place, losses, path, weights=weights, domain="source")
    return _step(path, "include")


def latent(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Factors of a latent semantic analysis: counts of words, weighed by log counts and how rare they are."""
    counts = [Counter(_WORD.findall(text.lower())) for text in texts]
    documents = Counter(itertools.chain.from_iterable(counts))
    words = {word: column for column, (word, _) in enumerate(documents.most_common(WORDS))}
    rare = np.array([np.log(len(texts) / documents[word]) for word in words], np.float32)
    matrix = np.zeros((len(texts), len(words)), np.float32)
    for row, found in enumerate(counts):
        known = [(words[word], count) for word, count in found.items() if word in words]
        matrix[row, [column for column, _ in known]] = [1 + np.log(count) for _, count in known]
    matrix *= rare
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    # The range of a random projection after two power iterations (Halko et al. 2011, arXiv:0909.4061).
    basis = matrix @ np.random.default_rng(0).standard_normal((len(words), 2 * FACTORS), np.float32)
    for _ in range(2):
        basis = matrix @ (matrix.T @ np.linalg.qr(basis)[0])
    _, _, right = np.linalg.svd(np.linalg.qr(basis)[0].T @ matrix, full_matrices=False)
    return np.asarray(matrix @ right[:FACTORS].T, np.float32)


def _losses(place: Place) -> tuple[pa.Table, dict[str, float]]:
    """Bits per byte of a sample of the pool under models of other data each, and their mean on the target."""
    path, target = place.folder / "losses.parquet", place.folder / "target-losses.parquet"
    names = [f"model_{number}" for number in range(MODELS)]
    if not target.exists():
        pool = pq.read_table(place.folder / POOL)
        steps = [
            _scoring(place, _model(place, pool, name, number), name) for number, name in enumerate(names)
        ]
        seen: Counter[str] = Counter()
        rows = []
        for row, source in enumerate(pool["source"].to_pylist()):
            seen[source] += 1
            if seen[source] <= PAGES:
                rows.append(row)
        size = Counter[str]()
        for source, text in zip(pool["source"].to_pylist(), pool["text"].to_pylist(), strict=True):
            size[source] += len(text.encode())
        examples = pq.read_table(place.folder / TARGET).slice(0, EXAMPLES)
        sample = pa.concat_tables([pool.take(rows), examples])
        source_path = place.folder / "sample.parquet"
        pq.write_table(sample, source_path)
        found, _ = scored(source_path, steps, names)
        for name in names:
            sample = sample.append_column(name, found[name])
        # Of a source's bytes each of its pages stands for an equal part.
        share = [size[name] / min(seen[name], PAGES) for name in sample["source"].to_pylist()[: len(rows)]]
        pq.write_table(sample.slice(0, len(rows)).append_column("bytes", pa.array(share)), path)
        pq.write_table(sample.slice(len(rows)), target)
    table = pq.read_table(target)
    return pq.read_table(path), {
        name: float(np.nanmean(table[name].cast(pa.float64()).to_numpy())) for name in names
    }


def _model(place: Place, pool: pa.Table, name: str, number: int) -> Path:
    """A model that has learned half of the sources."""
    folder = place.folder / name
    if not folder.exists():
        sources = sorted(set(pool["source"].to_pylist()))
        draw = np.random.default_rng([number, MODELS])
        half = set(draw.choice(sources, max(1, len(sources) // 2), replace=False).tolist())
        mask = pa.array([source in half for source in pool["source"].to_pylist()])
        batches = pool.filter(mask).select(["text"]).to_batches(max_chunksize=BATCH)
        trainer = LMTrainer(tokens=place.prior_tokens // 4, **place.shape(), **place.settings())
        trainer.train(batches, folder, number)
    return folder


def _scoring(place: Place, folder: Path, name: str) -> Step:
    model = place.model
    given: dict[str, Any] = {
        "model": str(folder),
        "outputs": ["bits_per_byte"],
        "max_tokens": model.context - 1,
    }
    return {"score": {"causal_lm": {**given, "device": model.device, "threads": model.threads}}, "as": name}


def _student(place: Place, teacher: Path, out: Path, **options: Any) -> None:
    train_student(
        [str(teacher)],
        out,
        label="good",
        parameters={**FASTTEXT, "threads": place.model.threads},
        **options,
    )


def _step(path: Path, name: str) -> list[Step]:
    return [{"score": {"fasttext": {"model": str(path), "label": "good"}}, "as": name}]
