"""The testing kit: a good scorer passes, and each broken promise is named."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from thresher.schemas.contracts import Scorer
from thresher.scorers.assets import LocalAssets
from thresher.scorers.fasttext import FastTextScorer
from thresher.scorers.testing import check_scorer
from thresher.scorers.training import FastTextTrainer

# Scorers live in a module of their own, as a user's do: another process must be able to import them.
SOURCE = '''
import itertools
import os
import random

import pyarrow as pa

from thresher.scorers import Scorer


class Good(Scorer):
    """Characters of a text times a factor; null where there is none."""

    version = 1
    inputs = ("text",)

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    @property
    def outputs(self):
        return {"score": pa.float32()}

    def open(self, assets):
        self.loaded = True

    def values(self, texts):
        return [None if not text else len(text) * self.factor for text in texts]

    def score(self, batch):
        assert self.loaded
        return {"score": pa.array(self.values(batch.column("text").to_pylist()), pa.float32())}


class NoVersion(Good):
    version = "1"

class InputsAsString(Good):
    inputs = "text"

class OutputsAsList(Good):
    outputs = ["score"]

class TypeByName(Good):
    outputs = {"score": "float32"}

class WrongType(Good):
    def score(self, batch):
        return {"score": pa.array(self.values(batch.column("text").to_pylist()), pa.float64())}

class AList(Good):
    def score(self, batch):
        return {"score": self.values(batch.column("text").to_pylist())}

class OtherName(Good):
    def score(self, batch):
        return {"quality": super().score(batch)["score"]}

class Shorter(Good):
    def score(self, batch):
        return {"score": super().score(batch)["score"].drop_null()}

class RaisesOnNull(Good):
    def values(self, texts):
        return [float(len(text)) for text in texts]

class RaisesOnNoRows(Good):
    def values(self, texts):
        return [super(RaisesOnNoRows, self).values(texts)[0], *super().values(texts)[1:]]

class NotANumber(Good):
    def values(self, texts):
        return [float("nan") if not text else 1.0 for text in texts]

class RelativeToBatch(Good):
    def values(self, texts):
        most = max((len(text or "") for text in texts), default=0) or 1
        return [len(text or "") / most for text in texts]

class ByPlace(Good):
    def values(self, texts):
        return [float(row % 2) if len(texts) > 1 else 0.0 for row, _ in enumerate(texts)]

class Counting(Good):
    calls = 0
    def values(self, texts):
        self.calls += 1
        return [float(self.calls)] * len(texts)

class Random(Good):
    def open(self, assets):
        super().open(assets)
        self.noise = random.random()
    def values(self, texts):
        return [self.noise] * len(texts)

class Hashing(Good):
    def values(self, texts):
        return [float(hash(text or "") % 1000) for text in texts]

class OpensAgain(Good):
    def score(self, batch):
        self.open(None)
        return super().score(batch)

class HiddenModel(Good):
    def open(self, assets):
        assets.locate("model.bin")
        super().open(assets)

class HiddenColumn(Good):
    def score(self, batch):
        batch.column("id")
        return super().score(batch)

class StringsOnly(Good):
    def score(self, batch):
        lengths = []
        if batch.column("text").type != pa.string():
            return {"score": pa.nulls(len(batch), pa.float32())}
        return super().score(batch)

class LoadsInInit(Good):
    def __init__(self) -> None:
        self.loaded = (item for item in ())

class ManyColumns(Good):
    inputs = ("width", "text")

class Noisy(Good):
    tolerance = 0.01
    def values(self, texts):
        return [len(texts) * 0.0001 for _ in texts]
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "own_kit_scorers.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_kit_scorers", raising=False)
    import own_kit_scorers  # type: ignore[import-not-found]

    return own_kit_scorers  # type: ignore[no-any-return]


def test_a_good_scorer_passes_as_class_as_partial_and_as_instance(own: ModuleType) -> None:
    check_scorer(own.Good)
    check_scorer(functools.partial(own.Good, factor=2.0))
    check_scorer(own.Good(3.0), pa.record_batch({"text": ["a", "bb"], "more": [1, 2]}))


def test_a_scorer_may_differ_within_the_tolerance_it_declares(own: ModuleType) -> None:
    check_scorer(own.Noisy)


def test_fasttext_passes(tmp_path: Path) -> None:
    if not hasattr(pytest.importorskip("fasttext"), "train_supervised"):
        pytest.skip("needs a fastText that trains")
    data = {
        label: [pa.record_batch({"text": [text] * 5})] for label, text in (("hq", "proof"), ("lq", "buy"))
    }
    FastTextTrainer(dim=4, bucket=100, held_out=0.0).fit(data, tmp_path / "hq.bin", 0)
    check_scorer(
        functools.partial(FastTextScorer, model="hq.bin", label="hq"), assets=LocalAssets([tmp_path])
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoVersion", r"version is '1'; write `version = 1`"),
        ("InputsAsString", "inputs is 'text'; write a tuple"),
        ("OutputsAsList", "return a dict of column name to Arrow type"),
        ("TypeByName", r"write a type such as pa\.float32"),
        ("WrongType", "score is double, outputs promises float"),
        ("AList", "score is list; make it a pa.Array"),
        ("OtherName", r"score returns \['quality'\], outputs promises \['score'\]"),
        ("Shorter", "values for 12 records"),
        ("RaisesOnNull", "raises TypeError on the examples.*a record without a score is null"),
        ("RaisesOnNoRows", "raises IndexError on a batch without rows"),
        ("NotANumber", "NaN on the examples; null means"),
        ("RelativeToBatch", "when scored row by row; a score may depend on its own record only"),
        ("ByPlace", "when scored row by row"),
        ("Counting", "when scored row by row"),
        ("Random", "when scored by a second instance; fix every random seed"),
        ("Hashing", r"when scored in another process; use no hash\(\)"),
        ("OpensAgain", "score called open"),
        ("HiddenModel", "open reads model.bin, which assets does not name"),
        ("HiddenColumn", "raises KeyError on the examples"),
        ("StringsOnly", r"when scored as large_string; take pa\.large_string\(\) as well"),
        ("ManyColumns", "no column width; pass `examples`"),
    ],
)
def test_a_broken_scorer_is_told_which_promise_it_breaks(
    own: ModuleType, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "model.bin").write_bytes(b"model")
    with pytest.raises(AssertionError, match=message):
        check_scorer(getattr(own, name), assets=LocalAssets([tmp_path]))


def test_an_instance_that_has_loaded_its_model_is_refused(own: ModuleType) -> None:
    with pytest.raises(AssertionError, match=r"cannot be pickled .* load nothing before open"):
        check_scorer(own.LoadsInInit())


def test_arguments_that_a_job_file_cannot_hold_are_refused(own: ModuleType) -> None:
    with pytest.raises(AssertionError, match=r"argument factor is .* from plain values"):
        check_scorer(functools.partial(own.Good, factor=complex(1)))


def test_a_class_that_another_process_cannot_import_is_refused(own: ModuleType) -> None:
    class Local(own.Good):  # type: ignore[misc,name-defined]
        pass

    with pytest.raises(
        AssertionError, match=r"cannot be sent to another process.*in a module that can be imported"
    ):
        check_scorer(Local)


def test_something_else_than_a_scorer_is_refused() -> None:
    anything: Any = lambda: object()  # noqa: E731
    with pytest.raises(AssertionError, match="object does not derive from"):
        check_scorer(anything)


def test_one_row_is_not_enough_to_check_with(own: ModuleType) -> None:
    with pytest.raises(AssertionError, match="at least two rows"):
        check_scorer(own.Good, pa.record_batch({"text": ["one"]}))
    assert issubclass(own.Good, Scorer)
