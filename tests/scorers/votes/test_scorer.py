"""Probabilities of classes as columns of a batch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers import registry
from thresher.scorers.assets import LocalAssets
from thresher.scorers.testing import check_scorer
from thresher.scorers.votes.label_model import LabelModel
from thresher.scorers.votes.scorer import LabelModelScorer, MajorityVoteScorer

from .simulation import BALANCE, TABLES

NAMES = ["a", "b", "c", "d", "e"]
ROWS = [(0, None, 0, None, None), (1, 1, 1, None, 1), (None,) * 5, (1, None, 0, 0, 0)]
BATCH = pa.record_batch(
    {name: pa.array([row[at] for row in ROWS], pa.int8()) for at, name in enumerate(NAMES)}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    LabelModel(("ham", "spam"), tuple(NAMES), BALANCE, TABLES).write(tmp_path / "m.json")
    return tmp_path


def opened(folder: Path, **arguments: Any) -> LabelModelScorer:
    scorer = LabelModelScorer("m.json", **{"votes": NAMES, **arguments})
    scorer.open(LocalAssets([folder]))
    return scorer


def test_a_label_has_a_column_several_have_one_each_and_none_a_list_of_all(folder: Path) -> None:
    (spam,) = opened(folder, label="spam").score(BATCH).values()
    each = opened(folder, label=["spam", "ham"]).score(BATCH)
    (listed,) = opened(folder).score(BATCH).values()
    assert list(each) == ["spam", "ham"]
    assert each["spam"].equals(spam)
    for row in range(len(ROWS)):
        shares = [each["ham"][row].as_py(), each["spam"][row].as_py()]
        assert listed[row].as_py() == (None if row == 2 else shares)
        if row != 2:
            assert sum(shares) == pytest.approx(1)
    assert spam[1].as_py() > 0.95 > 0.2 > spam[0].as_py()


def test_where_all_abstain_there_is_no_score(folder: Path) -> None:
    for scorer in (opened(folder, label="ham"), opened(folder), MajorityVoteScorer(NAMES, ["ham", "spam"])):
        (column,) = scorer.score(BATCH).values()
        assert column.is_null().to_pylist() == [False, False, True, False]


def test_the_order_of_the_columns_is_the_models_own(folder: Path) -> None:
    straight = opened(folder, label="spam").score(BATCH)
    assert opened(folder, label="spam", votes=NAMES[::-1]).score(BATCH) == straight


def test_silence_can_be_left_out(folder: Path) -> None:
    found = [
        opened(folder, label="spam", abstentions=how).score(BATCH)["probability"][0].as_py()
        for how in ("evidence", "silent")
    ]
    assert found[0] < found[1]  # that the second function, which finds half of all spam, says nothing


def test_the_majority_is_one_a_tie_is_shared(folder: Path) -> None:
    found = MajorityVoteScorer(NAMES[:4], ["ham", "spam"], "spam").score(BATCH)["probability"]
    assert found.to_pylist() == [0.0, 1.0, None, 0.0]
    found = MajorityVoteScorer(NAMES[:3], ["ham", "spam"], ["spam"]).score(BATCH)["spam"]
    assert found.to_pylist() == [0.0, 1.0, None, 0.5]


def test_a_model_of_other_votes_or_classes_is_refused_with_what_it_has(folder: Path) -> None:
    with pytest.raises(AssetError, match="learned from the votes a, b, c, d, e, not from a, b"):
        opened(folder, votes=["a", "b"])
    with pytest.raises(AssetError, match="no class 'egg'; it has ham, spam"):
        opened(folder, label="egg")


@pytest.mark.parametrize(
    ("scorer", "arguments", "message"),
    [
        ("label_model", {"model": "m", "votes": []}, "at least 1"),
        ("label_model", {"model": "m", "votes": ["a"], "label": []}, "empty list"),
        ("label_model", {"model": "m", "votes": ["a"], "abstentions": "no"}, "evidence or silent"),
        ("majority_vote", {"votes": ["a"], "classes": ["x", "y"], "label": "z"}, "none of x, y"),
    ],
)
def test_arguments_that_cannot_be_are_told(scorer: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(registry.PluginError, match=message):
        registry.build(registry.SCORER, scorer, arguments)


@pytest.mark.parametrize("label", [None, "spam"])
def test_the_scorers_keep_their_contract(folder: Path, label: str | None) -> None:
    assets = LocalAssets([folder])
    check_scorer(partial(LabelModelScorer, model="m.json", votes=NAMES, label=label), BATCH, assets=assets)
    check_scorer(partial(MajorityVoteScorer, votes=NAMES, classes=["ham", "spam"], label=label), BATCH)
