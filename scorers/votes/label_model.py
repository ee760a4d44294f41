"""The label model: how often each function is right, learned from where functions agree and differ.

Votes are taken for independent of each other given the true class (the naive model of Dawid and Skene 1979,
and of data programming: Ratner et al. 2016, arXiv:1605.07723). For each function and class the model has the
probability of each vote and of abstaining; with the shares of the classes that gives the probability of each
class given the votes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ...schemas.contracts import AssetError
from .labels import ABSTAIN, Votes, checked_classes, checked_names
from .patterns import Counts

Floats = npt.NDArray[np.float64]
Abstentions = Literal["evidence", "silent"]

FEWEST_FUNCTIONS: Final = 3  # fewer do not tell who is right: Dawid and Skene's model has no one solution
_FORMAT: Final = "thresher label model 1"
_SUM: Final = 1e-6  # by how much probabilities in a file may miss 1


@dataclass(frozen=True)
class LabelModel:
    """What has been learned of some functions."""

    classes: tuple[str, ...]
    functions: tuple[str, ...]
    balance: Floats  # of each class, its share of the records
    tables: Floats  # functions by classes by votes, of which the last is to abstain: P(vote | class)
    facts: Mapping[str, Any] = field(default_factory=dict)  # what else is good to know; JSON values

    def probabilities(self, votes: Votes, abstentions: Abstentions = "evidence") -> Floats:
        """Of each record, the probability of each class given its votes.

        `silent` leaves abstentions out, as Snorkel's label model does; as evidence they count as what they
        are under the model: a function that mostly speaks up for one class tells by its silence, too.
        """
        return _normalised(self._joint(votes, abstentions))

    def accuracy(self) -> Floats:
        """Of each function, the chance that a vote of it is right."""
        right = np.einsum("y,jyy->j", self.balance, self.tables[:, :, :-1])
        return _divided(right, self._cast().sum(axis=1))

    def chance(self) -> Floats:
        """Of each function, the chance that a vote is right that is cast without looking."""
        return _divided((self._cast() * self.balance).sum(axis=1), self._cast().sum(axis=1))

    def write(self, path: Path) -> None:
        """Writes JSON that a person can read."""
        functions = [
            {
                "name": name,
                "votes": {
                    label: dict(zip((*self.classes, "abstain"), row.tolist(), strict=True))
                    for label, row in zip(self.classes, table, strict=True)
                },
            }
            for name, table in zip(self.functions, self.tables, strict=True)
        ]
        balance = dict(zip(self.classes, self.balance.tolist(), strict=True))
        stored = {
            "format": _FORMAT,
            "classes": list(self.classes),
            "balance": balance,
            "functions": functions,
            "facts": dict(self.facts),
        }
        made = path.with_name(f".{path.name}.new")
        made.write_text(json.dumps(stored, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        os.replace(made, path)

    def _cast(self) -> Floats:
        """Functions by classes: the chance that a record has that vote."""
        cast: Floats = np.einsum("y,jyv->jv", self.balance, self.tables[:, :, :-1])
        return cast

    def _joint(self, votes: Votes, abstentions: Abstentions) -> Floats:
        with np.errstate(divide="ignore"):
            logs = np.log(self.tables)
            joint = np.broadcast_to(np.log(self.balance), (len(votes), len(self.classes))).copy()
        if abstentions == "silent":
            logs[:, :, ABSTAIN] = 0.0
        return _add_votes(joint, votes, logs)


def read(path: Path) -> LabelModel:
    """The model in a file. Raises AssetError if it holds none."""
    how = "`thresher train label-model` makes one"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != _FORMAT:
            raise AssetError(f"{path}: of format {stored['format']!r}; this is {_FORMAT!r}. {how}")
        classes = checked_classes(stored["classes"])
        functions = checked_names([one["name"] for one in stored["functions"]], "functions", 1)
        rows = [*classes, "abstain"]
        balance = np.array([stored["balance"][label] for label in classes], np.float64)
        tables = np.array(
            [
                [[one["votes"][label][vote] for vote in rows] for label in classes]
                for one in stored["functions"]
            ],
            np.float64,
        )
        facts = dict(stored.get("facts", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(f"{path}: no label model ({type(error).__name__}: {error}); {how}") from error
    for shares in (balance, tables):
        if not ((shares >= 0).all() and (np.abs(shares.sum(axis=-1) - 1) < _SUM).all()):
            raise AssetError(f"{path}: shares and votes of a class must add up to 1; {how}")
    return LabelModel(classes, functions, balance, tables, facts)


@dataclass(frozen=True)
class Fitted:
    """The outcome of learning."""

    balance: Floats
    tables: Floats
    log_likelihood: float  # of all votes, in nats
    iterations: int
    has_converged: bool


def fit(
    votes: Votes,
    counts: Counts,
    classes: int,
    balance: Sequence[float] | None = None,
    smoothing: float = 1.0,
    iterations: int = 1000,
    tolerance: float = 1e-9,
) -> Fitted:
    """Maximises the likelihood of the votes by expectation maximisation (Dawid and Skene 1979), beginning
    with the majority of each record.

    Each row of `votes` occurs `counts` times. `balance`: the shares of the classes where they are known;
    else they are learned. `smoothing` is added to each count of a vote, and of a class, so that what has not
    been seen is not impossible; what is maximised is then the likelihood times each probability to that
    power. It ends when a round adds less than `tolerance` for each record, or after `iterations`.
    """
    total = float(counts.sum())
    given = None if balance is None else np.asarray(balance, np.float64)
    start = np.full(classes, 1 / classes) if given is None else given
    shares = majority(votes, classes)
    shares[(votes == ABSTAIN).all(axis=1)] = start
    before, now = -np.inf, -np.inf
    rounds = 0
    while rounds < max(iterations, 1):
        rounds += 1
        weights = shares * counts[:, None]
        learned = _shares(weights.sum(axis=0), smoothing) if given is None else given
        tables = _tables(votes, weights, smoothing)
        with np.errstate(divide="ignore"):
            logs, prior = np.log(tables), np.log(learned)
        joint = _add_votes(np.broadcast_to(prior, shares.shape).copy(), votes, logs)
        likelihood = float((_log_sum(joint) * counts).sum())
        shares = _normalised(joint)
        before, now = now, likelihood + _log_prior(logs, prior if given is None else None, smoothing)
        if now - before < tolerance * total:
            break
    return Fitted(learned, tables, likelihood, rounds, now - before < tolerance * total)


def majority(votes: Votes, classes: int) -> Floats:
    """Of each record, the share of each class among those with the most votes; zeros where there is none."""
    cast = np.stack([(votes == label).sum(axis=1) for label in range(classes)], axis=1)
    most = (cast == cast.max(axis=1, keepdims=True)) & (cast > 0)
    shares: Floats = most / np.maximum(most.sum(axis=1, keepdims=True), 1)
    return shares


def _tables(votes: Votes, weights: Floats, smoothing: float) -> Floats:
    classes = weights.shape[1]
    tables = np.empty((votes.shape[1], classes, classes + 1))
    for j in range(votes.shape[1]):
        # To abstain is the last of a function's votes.
        cast = np.where(votes[:, j] == ABSTAIN, classes, votes[:, j])
        for label in range(classes):
            counted = np.bincount(cast, weights=weights[:, label], minlength=classes + 1)
            tables[j, label] = _shares(counted, smoothing)
    return tables


def _shares(counted: npt.NDArray[Any], smoothing: float) -> Floats:
    smoothed = counted + smoothing
    total = smoothed.sum()
    shares: Floats = smoothed / total if total else np.full(len(counted), 1 / len(counted))
    return shares


def _add_votes(joint: Floats, votes: Votes, logs: Floats) -> Floats:
    """`joint`, records by classes, with the logarithm of each vote's probability added."""
    for j in range(votes.shape[1]):
        joint += logs[j].T[votes[:, j]]
    return joint


def _log_sum(joint: Floats) -> Floats:
    most = joint.max(axis=1)
    total: Floats = most + np.log(np.exp(joint - most[:, None]).sum(axis=1))
    return total


def _normalised(joint: Floats) -> Floats:
    most = joint.max(axis=1, keepdims=True)
    # Votes that are impossible under every class tell nothing.
    shares = np.exp(joint - np.where(np.isfinite(most), most, 0.0))
    shares[~np.isfinite(most[:, 0])] = 1.0
    normalised: Floats = shares / shares.sum(axis=1, keepdims=True)
    return normalised


def _log_prior(logs: Floats, prior: Floats | None, smoothing: float) -> float:
    if not smoothing:
        return 0.0
    return smoothing * float(logs.sum() + (0.0 if prior is None else prior.sum()))


def _divided(parts: Floats, wholes: Floats) -> Floats:
    quotient: Floats = np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)
    return quotient
