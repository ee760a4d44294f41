"""What is learned from votes alone, beside the truth they were drawn from and a plain maximisation."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.schemas.contracts import AssetError
from thresher.scorers.votes.label_model import LabelModel, fit, majority, read

from .simulation import BALANCE, TABLES, counted, draw

NAMES = ("a", "b", "c", "d", "e")


def model_of(balance: Any = BALANCE, tables: Any = TABLES) -> LabelModel:
    return LabelModel(("ham", "spam"), NAMES[: len(tables)], np.asarray(balance), np.asarray(tables))


def posterior(balance: Any, tables: Any, votes: Any, silent: bool = False) -> list[float]:
    """Bayes' rule for one record, written out; what no class can have cast tells nothing."""
    joint = []
    for label in range(len(balance)):
        chance = float(balance[label])
        for j, vote in enumerate(votes):
            if vote >= 0 or not silent:
                chance *= float(tables[j][label][vote])
        joint.append(chance)
    return [one / sum(joint) if sum(joint) else 1 / len(joint) for one in joint]


def test_balance_and_tables_of_votes_are_recovered_from_the_votes_alone() -> None:
    votes, _ = draw(40_000, seed=3)
    found = fit(*counted(votes), 2)
    assert found.has_converged
    assert found.balance == pytest.approx(BALANCE, abs=0.02)
    assert found.tables == pytest.approx(TABLES, abs=0.02)
    right = model_of(found.balance, found.tables).accuracy()
    truth = [
        sum(BALANCE[y] * TABLES[j][y][y] for y in range(2))
        / sum(BALANCE[y] * (1 - TABLES[j][y][2]) for y in range(2))
        for j in range(5)
    ]
    assert right == pytest.approx(truth, abs=0.02)


def test_four_classes_are_recovered_too() -> None:
    rng = np.random.default_rng(5)
    balance = np.array([0.4, 0.3, 0.2, 0.1])
    tables = rng.dirichlet(np.ones(5), (7, 4)) * 0.4
    tables[:, np.arange(4), np.arange(4)] += 0.6
    votes, _ = draw(60_000, 6, balance, tables)
    found = fit(*counted(votes), 4)
    assert found.balance == pytest.approx(balance, abs=0.02)
    assert found.tables == pytest.approx(tables, abs=0.03)


def test_it_is_right_more_often_than_the_majority(capsys: pytest.CaptureFixture[str]) -> None:
    votes, truth = draw(20_000, seed=8)
    learned = fit(*counted(votes), 2)
    has_vote = (votes >= 0).any(axis=1)
    mine = model_of(learned.balance, learned.tables).probabilities(votes[has_vote])
    theirs = majority(votes[has_vote], 2)
    accuracy = (mine.argmax(axis=1) == truth[has_vote]).mean()
    voted = theirs[np.arange(len(theirs)), truth[has_vote]].mean()
    best = np.mean(
        [np.argmax(posterior(BALANCE, TABLES, row)) == y for row, y in zip(votes[:4000], truth, strict=False)]
    )
    with capsys.disabled():
        print(f"\nlabel model {accuracy:.4f}, majority {voted:.4f}, the truth's own {best:.4f}")
    assert accuracy > voted + 0.03
    assert accuracy > best - 0.02


def objective(values: Any, votes: Any, counts: Any, smoothing: float, size: tuple[int, int]) -> float:
    """Minus the log-likelihood, with the prior, of a vector of logits; summed over the classes one by one."""
    functions, classes = size
    logits = [values[:classes], *np.split(values[classes:], functions * classes)]
    shares = [np.exp(one - one.max()) / np.exp(one - one.max()).sum() for one in logits]
    total = smoothing * sum(float(np.log(one).sum()) for one in shares)
    for row, count in zip(votes, counts, strict=True):
        chance = 0.0
        for label in range(classes):
            part = shares[0][label]
            for j, vote in enumerate(row):
                part *= shares[1 + j * classes + label][vote]
            chance += part
        total += float(count) * math.log(chance)
    return -total


@pytest.mark.parametrize(("seed", "smoothing"), [(0, 0.1), (1, 1.0), (2, 0.5)])
def test_no_other_start_of_a_general_maximisation_finds_a_better_model(seed: int, smoothing: float) -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="needs scipy")
    votes, counts = counted(draw(60, seed, tables=TABLES[[0, 2, 3]])[0])
    found = fit(votes, counts, 2, smoothing=smoothing, tolerance=1e-13, iterations=20_000)
    logits = np.log(np.concatenate([found.balance, found.tables.ravel()]))
    mine = objective(logits, votes, counts, smoothing, (3, 2))
    rng = np.random.default_rng(seed)
    best = min(
        optimize.minimize(
            objective, rng.normal(size=len(logits)), (votes, counts, smoothing, (3, 2)), method="L-BFGS-B"
        ).fun
        for _ in range(4)
    )
    assert mine <= best + 1e-4


@given(st.integers(0, 2**32 - 1), st.floats(0, 3), st.booleans())
@settings(max_examples=40)
def test_each_round_makes_the_votes_likelier(seed: int, smoothing: float, is_known: bool) -> None:
    votes, counts = counted(draw(30, seed)[0])
    balance = [0.6, 0.4] if is_known else None

    def value(rounds: int) -> float:
        made = fit(votes, counts, 2, balance, smoothing, iterations=rounds, tolerance=-1.0)
        # An impossible vote has no logarithm, and no weight in the prior without smoothing.
        prior = 0.0
        if smoothing:
            prior = float(np.log(made.tables).sum()) + (0 if is_known else float(np.log(made.balance).sum()))
        return made.log_likelihood + smoothing * prior

    values = [value(rounds) for rounds in (1, 2, 3, 8)]
    assert all(b >= a - 1e-9 * abs(a) for a, b in itertools.pairwise(values))


@given(st.lists(st.tuples(*[st.sampled_from([-1, 0, 1])] * 5), min_size=1, max_size=20), st.booleans())
def test_probabilities_are_bayes_rule_with_abstentions_as_evidence_or_left_out(
    rows: list[tuple[int, ...]], silent: bool
) -> None:
    found = model_of().probabilities(np.array(rows, np.int8), "silent" if silent else "evidence")
    for row, shares in zip(rows, found, strict=True):
        assert shares == pytest.approx(posterior(BALANCE, TABLES, row, silent))


@given(st.lists(st.tuples(*[st.sampled_from([-1, 0, 1, 2])] * 4), min_size=1, max_size=20))
def test_the_majority_is_shared_by_those_that_tie(rows: list[tuple[int, ...]]) -> None:
    found = majority(np.array(rows, np.int8), 3)
    for row, shares in zip(rows, found.tolist(), strict=True):
        cast = [row.count(label) for label in range(3)]
        tied = [label for label in range(3) if cast[label] == max(cast) > 0]
        assert shares == [1 / len(tied) if label in tied else 0 for label in range(3)]


def test_a_balance_that_is_known_is_kept() -> None:
    votes, _ = draw(3_000, seed=1)
    found = fit(*counted(votes), 2, balance=[0.7, 0.3])
    assert found.balance.tolist() == [0.7, 0.3]


def test_functions_that_vote_for_one_class_alone_tell_by_their_silence() -> None:
    """Three functions that can only call out spam."""
    tables = np.array([[[0.0, 0.05, 0.95], [0.0, share, 1 - share]] for share in (0.5, 0.7, 0.6)])
    votes, truth = draw(20_000, 2, BALANCE, tables)
    found = fit(*counted(votes), 2)
    model = model_of(found.balance, found.tables)
    assert (model.probabilities(votes).argmax(axis=1) == truth).mean() > 0.85
    alone = np.array([[1, -1, -1]], np.int8)
    assert model.probabilities(alone)[0, 1] < model.probabilities(alone, "silent")[0, 1]


def test_a_model_is_written_as_json_and_read_as_it_was(tmp_path: Path) -> None:
    model = model_of()
    model.write(tmp_path / "m.json")
    found = read(tmp_path / "m.json")
    assert (found.classes, found.functions) == (model.classes, model.functions)
    assert found.tables.tolist() == model.tables.tolist()
    assert found.balance.tolist() == model.balance.tolist()
    stored = json.loads((tmp_path / "m.json").read_text())
    assert stored["functions"][1]["votes"]["spam"] == {"ham": 0.0, "spam": 0.5, "abstain": 0.5}


def test_what_is_no_label_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    model_of().write(path)
    stored = json.loads(path.read_text())
    for broken in ({**stored, "format": "other 1"}, {**stored, "balance": {"ham": 0.5, "spam": 0.9}}, [], 3):
        path.write_text(json.dumps(broken))
        with pytest.raises(AssetError, match="label-model"):
            read(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(AssetError, match="no label model"):
        read(path)
