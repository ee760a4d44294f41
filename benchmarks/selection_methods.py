"""The methods that are compared: what each trains, what a job scores for it, and what it would keep first."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from selection_place import FASTTEXT, POOL, TARGET, Place, Scores, Step, scored
from selection_teachers import betr, correlations, preselect
from thresher.scorers.dsir_training import DsirTrainer
from thresher.scorers.kenlm_training import KenLMTrainer
from thresher.scorers.lm.training import LMTrainer
from thresher.scorers.sentencepiece_training import SentencePieceTrainer
from thresher.scorers.training import FastTextTrainer

SCORES = "scores.parquet"  # what the job has found
PIECES = 4000  # of the tokenizer under KenLM; CCNet's 65,536 need more text than this target has
MIDDLE = 0.5  # of the tokens by perplexity, around which the middle is taken


@dataclass(frozen=True)
class Columns:
    """What the job found for each passage of the pool: nan where it has no score."""

    scores: Mapping[str, Scores]
    tokens: npt.NDArray[np.int64]  # of the passage


@dataclass(frozen=True)
class Method:
    """`train` makes the models and says which steps score; `prefer` gives higher numbers to what is kept
    first."""

    name: str
    prefer: Callable[[Columns, np.random.Generator], Scores]
    train: Callable[[Place], Sequence[Step]] = field(default=lambda place: ())
    drawn: bool = False  # whether each seed makes another choice


def fasttext(place: Place) -> Sequence[Step]:
    """DCLM's kind of classifier: words and pairs, the target against as much of the pool."""
    path = place.folder / "fasttext.bin"
    if not path.exists():
        count = place.rows(TARGET)
        data = {"target": place.batches(TARGET), "pool": place.batches(POOL, count)}
        FastTextTrainer(**FASTTEXT, threads=place.model.threads).fit(data, path, 0)
    return [{"score": {"fasttext": {"model": str(path), "label": "target"}}, "as": "fasttext"}]


def dsir(place: Place) -> Sequence[Step]:
    path = place.folder / "dsir.npz"
    if not path.exists():
        DsirTrainer().train({"target": place.batches(TARGET)}, [place.batches(POOL)], path, 0)
    return [{"score": {"dsir": {"statistics": str(path)}}, "as": "dsir"}]


def perplexity(place: Place) -> Sequence[Step]:
    """CCNet's, whose model has learned the target."""
    tokenizer, model = place.folder / "pieces.model", place.folder / "target.bin"
    if not model.exists():
        pieces = SentencePieceTrainer(vocab_size=PIECES, fallback_vocab_size=None, hard_vocab_limit=False)
        pieces.fit({"target": place.batches(TARGET)}, tokenizer, 0)
        KenLMTrainer(str(tokenizer)).fit({"target": place.batches(TARGET)}, model, 0)
    return [{"score": {"kenlm": {"model": str(model), "tokenizer": str(tokenizer)}}, "as": "perplexity"}]


def color(place: Place) -> Sequence[Step]:
    """A prior that has learned the pool, and the same one trained further on the target; both read sequences
    of the length that they were trained with, as CoLoR-Filter's authors do."""
    prior, conditional = place.folder / "prior", place.folder / "conditional"
    model = place.model
    if not conditional.exists():
        LMTrainer(tokens=place.prior_tokens, **place.shape(), **place.settings()).train(
            place.batches(POOL), prior, 0
        )
        continued = {"start": str(prior), "tokens": place.conditional_tokens, "lr": model.lr / 2}
        LMTrainer(**continued, **place.settings()).train(place.batches(TARGET), conditional, 0)
    given = {"sequence": model.context, "device": model.device, "threads": model.threads}
    return [
        {"score": {"causal_lm": {"model": str(folder), **given}}, "as": name}
        for name, folder in (("prior", prior), ("conditional", conditional))
    ]


def _gumbel(columns: Columns, draw: np.random.Generator) -> Scores:
    # Without replacement and in proportion to the weights, as DSIR's code draws.
    return columns.scores["dsir"] + draw.gumbel(size=len(columns.tokens))


def _middle(columns: Columns, draw: np.random.Generator) -> Scores:
    perplexity = columns.scores["perplexity"]
    order = np.argsort(perplexity, kind="stable")
    order = order[np.isfinite(perplexity[order])]
    ends = np.cumsum(columns.tokens[order])
    found = np.full(len(perplexity), np.nan)
    found[order] = -np.abs((ends - columns.tokens[order] / 2) / ends[-1] - MIDDLE)
    return found


RANDOM = Method("random", lambda columns, draw: draw.random(len(columns.tokens)), drawn=True)
METHODS = (
    RANDOM,
    Method("fastText", lambda columns, draw: columns.scores["fasttext"], fasttext),
    Method("DSIR", _gumbel, dsir, drawn=True),
    Method(
        "CoLoR-Filter", lambda columns, draw: columns.scores["prior"] - columns.scores["conditional"], color
    ),
    Method("perplexity, lowest", lambda columns, draw: -columns.scores["perplexity"], perplexity),
    Method("perplexity, middle", _middle, perplexity),
    Method("BETR", lambda columns, draw: columns.scores["betr"], betr),
    Method("PreSelect", lambda columns, draw: columns.scores["preselect"], preselect),
    Method("Perplexity Correlations", lambda columns, draw: columns.scores["include"], correlations),
)


def kept(preference: Scores, tokens: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.int64]:
    """The passages with the highest preference, up to a share of all tokens; those without one come last.

    The first passage that would be too much ends it; ties go by place, which is by id.
    """
    order = np.argsort(-np.nan_to_num(preference, nan=-np.inf), kind="stable")
    return np.sort(order[np.cumsum(tokens[order]) <= share * tokens.sum()])


@dataclass(frozen=True)
class Scored:
    """Columns by name in the order of the pool, CPU seconds of the trainings and the job, and what failed."""

    scores: Mapping[str, Scores]
    cpu_s: Mapping[str, float]
    failed: Mapping[str, str]


def score(methods: Sequence[Method], place: Place) -> Scored:
    """Trains what the methods need and scores the pool in one job, which reads it once."""
    steps: dict[str, Step] = {}
    spent: dict[str, float] = {}
    failed: dict[str, str] = {}
    for method in methods:
        began = _cpu()
        try:
            steps |= {step["as"]: step for step in method.train(place)}
        except (Exception, SystemExit) as error:  # a method that does not work here leaves the others
            failed[method.name] = str(error).partition("\n")[0] or type(error).__name__
        spent[f"{method.name}: training"] = _cpu() - began
    if not steps:
        return Scored({}, spent, failed)
    path = place.folder / SCORES
    if not path.exists() or not set(steps) <= set(pq.read_schema(path).names):
        found, spent["scoring"] = scored(place.folder / POOL, list(steps.values()), list(steps))
        pq.write_table(found, path)
    found = pq.read_table(path)
    scores = {name: found[name].cast(pa.float64()).to_numpy() for name in steps}
    return Scored(scores, spent, failed)


def _cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
