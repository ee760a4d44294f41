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
from thresher.scorers.word_list import WordListScorer

# Scorers live in a module of their own, as a user's do: another process must be able to import them.
SOURCE = '''
import itertools
import os
import random
import struct
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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

class OddOutput(Good):
    outputs = {"share of !": pa.float32()}

class ListedAlone(Good):
    listed = ("pool",)

class KernelsAsString(Good):
    kernels = "own_kit_kernels"

class NoParquet(Good):
    outputs = {"score": pa.month_day_nano_interval()}
    def score(self, batch):
        return {"score": pa.nulls(len(batch), pa.month_day_nano_interval())}

class NamedByItsModel(Good):
    def open(self, assets):
        super().open(assets)
        self.inputs = ("text", "lang")

class BesideTheShell(Good):
    def open(self, assets):
        self.factor = float(Path("factor.txt").read_text())
        super().open(assets)

class Chatty(Good):
    def open(self, assets):
        print("loading")
        super().open(assets)


class Prepares(Good):
    def prepare(self, batch):
        values = self.values(batch.column("text").to_pylist())
        return pa.record_batch({"values": pa.array(values, pa.float32())})

    def score(self, batch):
        return {"score": batch.column("values")}

class PreparesAMapping(Prepares):
    def prepare(self, batch):
        return super().prepare(batch).to_pydict()

class PreparesWhatIsThere(Prepares):
    def prepare(self, batch):
        return super().prepare(batch.filter(pc.is_valid(batch.column("text"))))

class PreparesNoNull(Prepares):
    def values(self, texts):
        return [float(len(text)) for text in texts]

class KeepsWhatItPrepared(Prepares):
    def prepare(self, batch):
        self.whole = super().prepare(batch)
        return batch
    def score(self, batch):
        return super().score(self.whole)

class OverwritesWhatItPrepared(Prepares):
    def prepare(self, batch):
        texts = batch.column("text").to_pylist()
        self.known = dict(zip(texts, self.values(texts), strict=True))
        return batch
    def score(self, batch):
        found = [self.known.get(text) for text in batch.column("text").to_pylist()]
        return {"score": pa.array(found, pa.float32())}

class ReadsFromTheStart(Prepares):
    def values(self, texts):
        return [float(len(text or "")) for text in texts]
    def score(self, batch):
        numbers = np.frombuffer(batch.column("values").buffers()[1], np.float32)
        return {"score": pa.array(numbers[:len(batch)])}

class InOneThread(Prepares):
    def open(self, assets):
        self.local = threading.local()
        self.local.factor = 2.0
    def __getstate__(self):
        return {"factor": self.factor}
    def prepare(self, batch):
        self.factor = self.local.factor
        return super().prepare(batch)


class Embeds(Good):
    tolerance = 0.01
    outputs = {"embedding": pa.list_(pa.float16())}

    def rows(self, texts):
        return [None if not text else [len(text) % 7, 1.0, 0.5] for text in texts]

    def score(self, batch):
        rows = pa.array(self.rows(batch.column("text").to_pylist()), pa.list_(pa.float32()))
        return {"embedding": rows.cast(self.outputs["embedding"])}

class NearlyEmbeds(Embeds):
    def rows(self, texts):
        return [row and [x + 0.0001 * len(texts) for x in row] for row in super().rows(texts)]

class EmbedsByBatch(Embeds):
    def rows(self, texts):
        return [row and [*row[:2], row[2] + 0.02 * len(texts)] for row in super().rows(texts)]

class EmbedsInOtherLengths(Embeds):
    def rows(self, texts):
        return [row and row * min(2, len(texts)) for row in super().rows(texts)]

class EmbedsNaN(Embeds):
    def rows(self, texts):
        return [[1.0, 0.0, float("nan")] if not text else [1.0] * 3 for text in texts]


class Width(Good):
    """Pixels of a PNG from left to right; null for anything else."""
    inputs = ("image",)

    def score(self, batch):
        return {"score": pa.array(map(self.width, batch.column("image").to_pylist()), pa.float32())}

    def width(self, image):
        if image is None or image[:4] != b"\\x89PNG":
            return None
        return struct.unpack(">I", image[16:20])[0]

class WidthOfAnything(Width):
    def width(self, image):
        return None if image is None else struct.unpack(">I", image[16:20])[0]


class Nearness(Good):
    """Product of two embeddings and a number."""
    inputs = ("clip_image", "clip_text", "weight")
    tolerance = 1e-6

    def score(self, batch):
        rows = zip(*(batch.column(name).to_pylist() for name in self.inputs), strict=True)
        found = [
            None if a is None or b is None or w is None else w * sum(map(float.__mul__, a, b))
            for a, b, w in rows
        ]
        return {"score": pa.array(found, pa.float32())}
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


def test_a_scorer_that_prepares_passes(own: ModuleType) -> None:
    check_scorer(functools.partial(own.Prepares, factor=0.5))


def test_embeddings_may_differ_within_the_tolerance_number_by_number(own: ModuleType) -> None:
    check_scorer(own.Embeds)
    check_scorer(own.NearlyEmbeds)


def test_a_scorer_of_images_is_shown_images_and_what_is_none(own: ModuleType) -> None:
    check_scorer(own.Width)
    with pytest.raises(AssertionError, match="raises error on the examples: unpack requires a buffer"):
        check_scorer(own.WidthOfAnything)


def test_columns_that_no_record_has_are_made_by_their_types(own: ModuleType) -> None:
    embedding = pa.list_(pa.float16(), 4)
    columns = {"clip_image": embedding, "clip_text": embedding, "weight": pa.int16()}
    check_scorer(own.Nearness, columns=columns)
    with pytest.raises(AssertionError, match="no column clip_image, clip_text, weight; name its type in"):
        check_scorer(own.Nearness)
    with pytest.raises(ValueError, match=r"no examples of timestamp\[s\]; pass `examples`"):
        check_scorer(own.Nearness, columns={**columns, "weight": pa.timestamp("s")})


def test_what_a_library_prints_in_another_process_does_not_matter(own: ModuleType) -> None:
    check_scorer(own.Chatty)


def test_a_file_that_is_found_only_from_here_is_told(
    own: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "factor.txt").write_text("2")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        AssertionError, match=r"another process: FileNotFoundError.*found with assets\.locate"
    ):
        check_scorer(own.BesideTheShell)


def test_assets_named_from_the_working_directory_are_found_by_another_process(
    own: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "hq.txt").write_text("fine words")
    monkeypatch.chdir(tmp_path)
    check_scorer(functools.partial(WordListScorer, path="hq.txt"), assets=LocalAssets(["models"]))


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
        ("OddOutput", r"outputs names a column 'share of !'; write letters, digits and _"),
        ("ListedAlone", "listed has pool, which assets lacks"),
        ("KernelsAsString", "kernels is 'own_kit_kernels'; write a tuple of module names"),
        ("NoParquet", "month_day_nano_interval, which Parquet cannot hold"),
        ("NamedByItsModel", r"inputs is \('text',\), and \('text', 'lang'\) after open; a job is planned"),
        ("PreparesAMapping", r"prepare returns dict; return a pa\.RecordBatch"),
        ("PreparesWhatIsThere", "prepare makes 11 rows of 12 on the examples"),
        ("PreparesNoNull", "prepare raises TypeError on the examples.*leave to score"),
        ("KeepsWhatItPrepared", "12 values for 6 records on a portion of what was prepared"),
        ("OverwritesWhatItPrepared", "after later records were prepared; prepare runs ahead of score"),
        ("ReadsFromTheStart", "when scored in portions of what was prepared; score must find all it needs"),
        ("InOneThread", "prepare raises AttributeError on half a batch, in another thread"),
        ("EmbedsByBatch", r"embedding of row 0 is \[.*\], and \[.*\] when scored row by row"),
        ("EmbedsInOtherLengths", "embedding of row 0 .* when scored row by row"),
        ("EmbedsNaN", "embedding is NaN on the examples; null means"),
        ("ManyColumns", "no column width; name its type in `columns`, or pass `examples`"),
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
