"""Log importance weights beside the arithmetic of DSIR's authors, written out in plain Python."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import pickle
import re
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers import registry
from thresher.scorers.assets import LocalAssets
from thresher.scorers.dsir import Bag, DsirScorer, Statistics, read
from thresher.scorers.testing import check_scorer

BUCKETS = 97
RAW = "buy cheap shoes now! the shop sells shoes; buy, buy and buy the cheap shoes of the shop"
CODE = "def add(a, b): return a + b  # the sum of a and b"
PROSE = "The river ran past the old mill, and the miller watched the river for hours on end."


def counts(text: str) -> list[int]:
    words = re.findall(r"\w+|[^\w\s]+", text.lower())
    found = [0] * BUCKETS
    for one in [*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))]:
        found[int(hashlib.sha256(one.encode()).hexdigest(), 16) % BUCKETS] += 1
    return found


def weight(text: str, target: list[int], raw: list[int], smoothing: float = 0.0) -> float:
    smoothed = [count + smoothing for count in target]
    return sum(
        count * (math.log(smoothed[i] / sum(smoothed) + 1e-8) - math.log(raw[i] / sum(raw) + 1e-8))
        for i, count in enumerate(counts(text))
    )


def bag(text: str) -> Bag:
    return Bag(np.array(counts(text)), 1, "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    targets = {"code": bag(CODE), "prose": bag(PROSE)}
    Statistics(bag(RAW), targets, min_tokens=3).write(tmp_path / "two.npz")
    Statistics(bag(RAW), targets, min_tokens=3, smoothing=0.5).write(tmp_path / "smooth.npz")
    return tmp_path


TEXTS = ["The mill and the river.", "return a + b", "buy shoes now!", "two words", "", None]


def scored(scorer: DsirScorer, folder: Path) -> dict[str, list[float | None]]:
    scorer.open(LocalAssets([folder]))
    found = scorer.score(pa.record_batch({"text": pa.array(TEXTS, pa.string())}))
    assert {name: array.type for name, array in found.items()} == scorer.outputs
    return {name: array.to_pylist() for name, array in found.items()}


def test_the_weight_is_the_sum_of_log_ratios_with_a_small_number_added(folder: Path) -> None:
    for target, text in (("code", CODE), ("prose", PROSE)):
        found = scored(DsirScorer("two.npz", target=target), folder)["log_weight"]
        expected = [weight(one or "", counts(text), counts(RAW)) for one in TEXTS[:3]]
        assert found[:3] == pytest.approx(expected, rel=1e-12)
        assert found[3:] == [None, None, None]


def test_without_a_target_all_are_one_and_a_list_has_a_column_for_each(folder: Path) -> None:
    both = [a + b for a, b in zip(counts(CODE), counts(PROSE), strict=True)]
    together = scored(DsirScorer("two.npz"), folder)["log_weight"]
    assert together[:3] == pytest.approx([weight(one or "", both, counts(RAW)) for one in TEXTS[:3]])
    apart = scored(DsirScorer("two.npz", target=["prose", "code"]), folder)
    assert list(apart) == ["prose", "code"]
    assert apart["code"] == scored(DsirScorer("two.npz", target="code"), folder)["log_weight"]
    assert apart["prose"][0] > apart["code"][0]
    assert apart["code"][1] > apart["prose"][1]


def test_smoothing_adds_to_the_counts_of_the_target_alone(folder: Path) -> None:
    found = scored(DsirScorer("smooth.npz", target="code"), folder)["log_weight"]
    assert found[0] == pytest.approx(weight(TEXTS[0] or "", counts(CODE), counts(RAW), 0.5), rel=1e-12)


def test_short_texts_have_no_weight_and_the_job_may_say_what_short_is(folder: Path) -> None:
    found = scored(DsirScorer("two.npz", min_tokens=0, tokens=True), folder)
    assert found["tokens"] == [6, 4, 4, 2, 0, None]
    assert [value is None for value in found["log_weight"]] == [False] * 5 + [True]
    assert found["log_weight"][4] == 0.0
    longer = scored(DsirScorer("two.npz", min_tokens=5), folder)["log_weight"]
    assert [value is None for value in longer] == [False, True, True, True, True, True]


def test_the_scorer_keeps_its_contract(folder: Path) -> None:
    scorer = partial(DsirScorer, statistics="two.npz", target=["code", "prose"], min_tokens=0, tokens=True)
    check_scorer(scorer, assets=LocalAssets([folder]))


def test_a_file_gives_back_what_was_written_and_is_the_same_each_time(folder: Path) -> None:
    first = (folder / "two.npz").read_bytes()
    found = read(folder / "two.npz")
    assert found.raw.counts.tolist() == counts(RAW)
    assert {name: one.counts.tolist() for name, one in found.targets.items()} == {
        "code": counts(CODE),
        "prose": counts(PROSE),
    }
    assert (found.ngram, found.smoothing, found.min_tokens) == (2, 0.0, 3)
    found.write(folder / "again.npz")
    assert (folder / "again.npz").read_bytes() == first


def test_other_files_are_refused_with_what_makes_a_good_one(folder: Path) -> None:
    settings = {"format": "thresher dsir 1", "hash": "wyhash", "bags": {}}
    other = np.frombuffer(json.dumps(settings).encode(), np.uint8)
    np.savez(folder / "hash.npz", settings=other)
    np.savez(folder / "empty.npz", other=other)
    np.savez(folder / "objects.npz", settings=np.array([{}], dtype=object), allow_pickle=True)
    (folder / "text.npz").write_text("not a zip")
    Statistics(bag(RAW), {"code": bag(CODE)}, ngram=99).write(folder / "long.npz")
    Statistics(Bag(np.zeros(BUCKETS, int), 0, ""), {"code": bag(CODE)}).write(folder / "none.npz")
    Statistics(bag(RAW), {"code": Bag(np.ones(5, int), 1, "")}).write(folder / "shapes.npz")
    (folder / "pickle.npz").write_bytes(pickle.dumps([1]))
    (folder / "torn.npz").write_bytes((folder / "two.npz").read_bytes()[:900])
    for name in ("empty", "objects", "text", "torn", "long", "none", "shapes"):
        with pytest.raises(AssetError, match="thresher train dsir"):
            scored(DsirScorer(f"{name}.npz"), folder)
    with pytest.raises(AssetError, match="with hash 'wyhash'; here are"):
        scored(DsirScorer("hash.npz"), folder)
    with pytest.raises(AssetError, match="pickle"):
        scored(DsirScorer("pickle.npz"), folder)
    with pytest.raises(AssetError, match="no target 'wiki'; there are code, prose"):
        scored(DsirScorer("two.npz", target="wiki"), folder)


@pytest.mark.parametrize(
    "arguments", [{"min_tokens": -1}, {"target": []}, {"target": ["a", "a"]}, {"target": "tokens"}]
)
def test_wrong_arguments_are_refused_before_a_record_is_read(arguments: dict[str, object]) -> None:
    with pytest.raises(registry.PluginError, match="cannot be built"):
        registry.build(registry.SCORER, "dsir", {"statistics": "two.npz", **arguments})
