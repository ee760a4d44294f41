"""Trains label models from columns of votes, and says what each function is worth."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...schemas.contracts import AssetRef
from ..assets import checksum
from ..model_card import closing
from .label_model import FEWEST_FUNCTIONS, Fitted, Floats, LabelModel, fit, majority
from .labels import ABSTAIN, checked_classes, checked_names
from .patterns import Counted, VotePatterns

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class FunctionFacts:
    """What is known of a function: shares of all records, and how often a vote of it is right."""

    name: str
    coverage: float  # it votes
    overlap: float  # it and another one vote
    conflict: float  # and they differ
    accuracy: float | None  # of its votes, as the model has learned it; None without a vote
    chance: float | None  # of as many votes for the same classes, cast without looking
    true_accuracy: float | None  # on records whose class is known

    @property
    def is_useful(self) -> bool:
        """Whether its votes are better than votes without looking."""
        return self.accuracy is not None and self.chance is not None and self.accuracy > self.chance


@dataclass(frozen=True)
class Accuracy:
    """How often the most probable class is the true one, on records with a vote whose class is known."""

    records: int
    label_model: float
    majority: float


@dataclass(frozen=True)
class TrainedLabelModel:
    """A label model, its card beside it, and what has been learned of the functions."""

    file: AssetRef
    card: Path
    model: LabelModel
    fitted: Fitted
    records: int
    voted: int  # records with a vote
    combinations: int
    data_sha256: str  # of the combinations and how often each occurs
    functions: tuple[FunctionFacts, ...]
    accuracy: Accuracy | None


@dataclass(frozen=True)
class LabelModelTrainer:
    """Learns how often each of `functions`, which are columns of votes, is right; nobody need know a class.

    `classes`: their names, in the order of their numbers. `balance`: the share of each, where it is known;
    left out, it is learned too. `smoothing`: added to each count; 1, Laplace's rule, is our choice.
    It takes at least 3 functions, and is right where they err independently of each other, and most of them
    more seldom than not.

    Raises ValueError for parameters out of range.
    """

    functions: Sequence[str]
    classes: Sequence[str] = ("0", "1")
    balance: Sequence[float] | None = None
    smoothing: float = 1.0
    iterations: int = 1000
    tolerance: float = 1e-9
    licence: str = "unknown"

    def __post_init__(self) -> None:
        checked_names(self.functions, "votes", 1)
        if len(self.functions) < FEWEST_FUNCTIONS:
            raise ValueError(
                f"votes of {len(self.functions)} functions do not tell which of them is right; "
                f"{FEWEST_FUNCTIONS} are the fewest"
            )
        checked_classes(self.classes)
        if self.balance is not None:
            shares = [float(share) for share in self.balance]
            if len(shares) != len(self.classes):
                raise ValueError(f"balance has {len(shares)} shares for {len(self.classes)} classes")
            if not (all(share > 0 for share in shares) and math.isclose(sum(shares), 1, abs_tol=1e-6)):
                raise ValueError(f"balance is {shares}; shares are above 0 and add up to 1")
        if not 0 <= self.smoothing < math.inf:
            raise ValueError(f"smoothing is {self.smoothing}; it is a count of 0 or more")
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; it is at least 1")

    def fit(self, data: Mapping[str, Batches], out: Path, seed: int) -> AssetRef:
        """Learns from the votes of all batches, whatever they are called, and writes `out`.

        Nothing is drawn, so `seed` changes nothing. Raises as `train` does.
        """
        return self.train((batch for batches in data.values() for batch in batches), out).file

    def train(
        self, batches: Batches, out: Path, gold: str | None = None, sources: Sequence[str] = ()
    ) -> TrainedLabelModel:
        """As `fit`; returns all there is to know. Writes `out`, a JSON file, and its card `out` + `.md`.

        `gold`: a column with the true class of some records, which is only used to say how often model and
        functions are right. `sources`: for the card. The order of the records makes no difference. Raises
        ValueError where a column has something else than votes, or nobody has voted.
        """
        patterns = VotePatterns(self.functions, len(self.classes), gold)
        for batch in batches:
            patterns.add(batch)
        counted = patterns.counted()
        voted = int(counted.counts[counted.voted].sum())
        if not voted:
            raise ValueError(f"none of the {counted.records} records has a vote")
        balance = None if self.balance is None else np.asarray(self.balance, np.float64)
        balance = balance if balance is None else balance / balance.sum()
        fitted = fit(
            counted.votes,
            counted.counts,
            len(self.classes),
            None if balance is None else balance.tolist(),
            self.smoothing,
            self.iterations,
            self.tolerance,
        )
        digest = _digest(counted)
        facts = {"records": counted.records, "voted": voted, "votes_sha256": digest}
        model = LabelModel(tuple(self.classes), tuple(self.functions), fitted.balance, fitted.tables, facts)
        out.parent.mkdir(parents=True, exist_ok=True)
        model.write(out)
        trained = TrainedLabelModel(
            AssetRef(str(out), checksum(out), self.licence),
            out.with_name(out.name + ".md"),
            model,
            fitted,
            counted.records,
            voted,
            len(counted.counts),
            digest,
            tuple(_facts(model, counted)),
            _accuracy(model, counted),
        )
        trained.card.write_text(_card(trained, asdict(self), sources), encoding="utf-8")
        return trained


def _digest(counted: Counted) -> str:
    digest = hashlib.sha256(counted.votes.tobytes())
    digest.update(counted.gold.tobytes())
    digest.update(counted.counts.astype("<i8").tobytes())
    return digest.hexdigest()


def _facts(model: LabelModel, counted: Counted) -> Iterable[FunctionFacts]:
    columns = zip(
        model.functions,
        counted.coverage().tolist(),
        counted.overlap().tolist(),
        counted.conflict().tolist(),
        _known(model.accuracy()),
        _known(model.chance()),
        strict=True,
    )
    for number, (name, coverage, overlap, conflict, accuracy, chance) in enumerate(columns):
        votes = counted.votes[:, number]
        known = (votes != ABSTAIN) & (counted.gold != ABSTAIN)
        total, right = counted.counts[known].sum(), counted.counts[known & (votes == counted.gold)].sum()
        true = float(right / total) if total else None
        has_voted = coverage > 0
        yield FunctionFacts(
            name,
            coverage,
            overlap,
            conflict,
            accuracy if has_voted else None,
            chance if has_voted else None,
            true,
        )


def _known(values: Floats) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _accuracy(model: LabelModel, counted: Counted) -> Accuracy | None:
    known = counted.voted & (counted.gold != ABSTAIN)
    counts, gold, votes = counted.counts[known], counted.gold[known], counted.votes[known]
    if not counts.sum():
        return None
    found = [model.probabilities(votes), majority(votes, len(model.classes))]
    mine, theirs = (float((_hits(shares, gold) * counts).sum() / counts.sum()) for shares in found)
    return Accuracy(int(counts.sum()), mine, theirs)


def _hits(shares: Floats, gold: np.ndarray) -> Floats:
    """Of each record 1 where its most probable class is the true one; of several that tie, its share."""
    most = shares == shares.max(axis=1, keepdims=True)
    hits: Floats = most[np.arange(len(gold)), gold] / most.sum(axis=1)
    return hits


def _card(trained: TrainedLabelModel, parameters: Mapping[str, object], sources: Sequence[str]) -> str:
    """The card in Markdown. It holds no time: the same votes give the same card."""
    model, fitted = trained.model, trained.fitted
    shares = ", ".join(
        f"{label} {share:.4f}" for label, share in zip(model.classes, model.balance, strict=True)
    )
    origin = ", ".join(sources) or "not recorded"
    lines = [
        f"# {Path(trained.file.path).name}",
        "",
        f"A label model of {len(model.functions)} functions that vote for {', '.join(model.classes)}.",
        "",
        "## Data",
        "",
        f"{trained.records} records from {origin}, of which {trained.voted} have a vote, in "
        f"{trained.combinations} combinations. SHA-256 of these: `{trained.data_sha256}`.",
        "",
        f"Shares of the classes: {shares}. Log likelihood {fitted.log_likelihood:.4f} after "
        f"{fitted.iterations} rounds{'' if fitted.has_converged else ', not converged'}.",
        "",
        "## Functions",
        "",
        "Shares of all records; accuracy is of a function's votes, as the model has learned it; chance is "
        "that of votes cast without looking.",
        "",
        "| function | votes on | with another | against another | accuracy | chance | true accuracy |",
        "|---|---|---|---|---|---|---|",
        *(_row(function) for function in trained.functions),
        "",
    ]
    return "\n".join([*lines, *closing(parameters, _quality(trained), trained.file)])


def _row(facts: FunctionFacts) -> str:
    figures = (
        facts.coverage,
        facts.overlap,
        facts.conflict,
        facts.accuracy,
        facts.chance,
        facts.true_accuracy,
    )
    shown = " | ".join("–" if figure is None else f"{figure:.4f}" for figure in figures)
    return f"| {facts.name} | {shown} |"


def _quality(trained: TrainedLabelModel) -> list[str]:
    found = trained.accuracy
    if found is None:
        return ["No true class is known, so nothing is known of it."]
    return [
        f"On {found.records} records with a vote whose class is known, and of which it has seen the votes: "
        f"accuracy {found.label_model:.4f}; by the majority of votes {found.majority:.4f}."
    ]
