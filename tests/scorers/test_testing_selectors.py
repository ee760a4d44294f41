"""The testing kit for selectors: good ones pass, and each broken promise is named."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from thresher.pipeline.selectors import BucketSelector, LimitSelector, MixSelector, TopSelector
from thresher.scorers.testing_selectors import check_selector

# Selectors live in a module of their own, as a user's do: another process must be able to import them.
SOURCE = '''
import random

import pyarrow as pa
import pyarrow.compute as pc

from thresher.scorers import Again, Decision, Selector


class Good(Selector):
    """Keeps the records of languages that have at least so many, and whose score is not below the mean."""

    version = 1
    inputs = ("lang", "lang_score", "id")
    sum_type = pa.int64()

    def __init__(self, least=2):
        self.least = least

    def start(self, learned):
        return pa.table({"lang": pa.array([], pa.string()), "sum": pa.array([], self.sum_type)})

    def update(self, state, batch, learned):
        return self.merge(state, pa.table({"lang": batch["lang"], "sum": self.measured(batch)}), learned)

    def measured(self, batch):
        return pa.array([1] * len(batch), self.sum_type)

    def merge(self, a, b, learned):
        sums = pa.concat_tables([a, b]).group_by("lang", use_threads=False).aggregate([("sum", "sum")])
        return sums.rename_columns(["lang", "sum"]).cast(a.schema)

    def finish(self, state, learned):
        return Decision({"langs": sorted(self.frequent(state))})

    def frequent(self, state):
        rows = state.to_pylist()
        return [row["lang"] for row in rows if row["lang"] is not None and row["sum"] >= self.least]

    def keep(self, batch, decision):
        return pc.is_in(batch["lang"], pa.array(decision.values["langs"], pa.string()))

    def decide(self, batch, decision):
        return self.said(batch, self.keep(batch, decision))

    def said(self, batch, keep):
        reason = pc.if_else(keep, pa.scalar(None, pa.string()), "rare")
        columns = [keep, keep.cast(pa.int32()), reason, batch["lang"]]
        return pa.RecordBatch.from_arrays(columns, names=["keep", "copies", "reason", "value"])


class TwoPasses(Good):
    """As Good, asking once more."""
    def finish(self, state, learned):
        return Again({"frequent": 0}) if learned is None else super().finish(state, learned)

class NoVersion(Good):
    version = "1"

class InputsAsString(Good):
    inputs = "lang"

class NoCopies(Good):
    max_copies = 0

class FloatSums(Good):
    sum_type = pa.float64()
    def measured(self, batch):
        return pc.fill_null(batch["lang_score"], 0.1)
    def finish(self, state, learned):
        total = 0.0
        for value in state["sum"].to_pylist():
            total += value
        return Decision({"langs": sorted(self.frequent(state)), "sum": total})

class LastBatchOnly(Good):
    def update(self, state, batch, learned):
        return super().update(self.start(learned), batch, learned)

class LargestOfTwo(Good):
    """Merges by the larger count, not the sum."""
    def update(self, state, batch, learned):
        rows = pa.table({"lang": batch["lang"], "sum": self.measured(batch)})
        return Good.merge(self, state, rows, learned)
    def merge(self, a, b, learned):
        sums = pa.concat_tables([a, b]).group_by("lang", use_threads=False).aggregate([("sum", "max")])
        return sums.rename_columns(["lang", "sum"]).cast(a.schema)

class WrongFromTheRight(Good):
    """One record before many is not counted."""
    def merge(self, a, b, learned):
        rows = [pa.compute.sum(state["sum"]).as_py() or 0 for state in (a, b)]
        return super().merge(a.slice(0, 0) if rows[0] == 1 < rows[1] else a, b, learned)

class NoticesEmptyParts(Good):
    def start(self, learned):
        return pa.table({"lang": ["none"], "sum": pa.array([self.least])})
    def update(self, state, batch, learned):
        return super().update(state.filter(pc.not_equal(state["lang"], "none")), batch, learned)

class FirstComes(Good):
    """The first languages that come, in their order."""
    def finish(self, state, learned):
        return Decision({"langs": self.frequent(state)})

class Remembers(Good):
    """Keeps in itself what finish has learned."""
    least_seen = None
    def finish(self, state, learned):
        self.langs = self.frequent(state)
        return Decision({"n": len(self.langs)})
    def keep(self, batch, decision):
        langs = getattr(self, "langs", [])
        return pc.is_in(batch["lang"], pa.array(langs, pa.string()))

class LooksAtOthers(Good):
    def keep(self, batch, decision):
        return pa.array([row == 0 for row in range(len(batch))])

class FailsOnNothing(Good):
    def finish(self, state, learned):
        return Decision({"langs": [state["lang"].to_pylist()[0]][:0]})

class FailsOnNull(Good):
    def keep(self, batch, decision):
        langs = decision.values["langs"]
        return pa.array([lang.lower() in langs for lang in batch["lang"].to_pylist()])

class Tuples(Good):
    def finish(self, state, learned):
        return (Decision({}), 1)

class NumberKeys(Good):
    def finish(self, state, learned):
        return Decision({"langs": [], "counts": {1: 2}})

class Endless(Good):
    def finish(self, state, learned):
        return Again({"passes": 1 + (learned.values["passes"] if learned else 0)})

class ListState(Good):
    def update(self, state, batch, learned):
        return state.to_pylist()

class LongCopies(Good):
    def decide(self, batch, decision):
        found = super().decide(batch, decision)
        return found.set_column(1, "copies", found["copies"].cast(pa.int64()))

class ReasonForAll(Good):
    def said(self, batch, keep):
        found = super().said(batch, keep)
        return found.set_column(2, "reason", pa.array(["because"] * len(batch), pa.string()))

class ByHash(Good):
    def finish(self, state, learned):
        return Decision({"langs": sorted(self.frequent(state)), "seed": hash("a")})

class AtRandom(Good):
    def finish(self, state, learned):
        return Decision({"langs": [], "drawn": random.random()})

class NotPlain(Good):
    def __init__(self, least=None):
        super().__init__(2)
'''
EXAMPLES = pa.record_batch(
    {
        "id": [f"r{row}" for row in range(8)],
        "lang": ["en", "de", "en", None, "fr", "fr", "de", "it"],
        "lang_score": pa.array([0.1, 0.2, 0.3, None, 0.7, 0.1, 0.2, 0.6], pa.float64()),
    }
)


@pytest.fixture(scope="module")
def selectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("selectors")
    (folder / "selectors_of_a_user.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    import selectors_of_a_user

    yield selectors_of_a_user
    sys.path.remove(str(folder))
    del sys.modules["selectors_of_a_user"]


@pytest.mark.parametrize("name", ["Good", "TwoPasses"])
def test_a_good_selector_passes_as_a_class_with_arguments_and_as_an_instance(
    selectors: ModuleType, name: str
) -> None:
    selector = getattr(selectors, name)
    check_selector(selector)
    check_selector(functools.partial(selector, least=1), EXAMPLES)
    check_selector(selector(), EXAMPLES)


@pytest.mark.parametrize(
    "selector",
    [
        functools.partial(TopSelector, by="lang_score", top=0.5),
        functools.partial(TopSelector, by="lang_score", budget=1, within="lang", ties="random"),
        functools.partial(BucketSelector, by="lang_score", cuts=[0.5], names=["low", "high"]),
        functools.partial(LimitSelector, count=3),
        functools.partial(MixSelector, by="lang_score", within="lang", caps={"en": 1}),
    ],
    ids=lambda selector: selector.func.__name__,
)
def test_the_selectors_of_thresher_keep_the_promises_too(selector: Any) -> None:
    check_selector(selector, EXAMPLES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoVersion", "version is '1'; write `version = 1`"),
        ("InputsAsString", "inputs is 'lang'; write a tuple"),
        ("NoCopies", "max_copies is 0; write a whole number from 1"),
        ("FloatSums", "the decision differs .*in whole numbers"),
        ("LastBatchOnly", "comes in two batches: .*leave nothing of an earlier batch out"),
        ("LargestOfTwo", "over two parts: .*merge must give the state of the rows of both"),
        ("WrongFromTheRight", "merged from the right: .*merge must be associative"),
        ("NoticesEmptyParts", "with parts without rows: .*must change nothing"),
        ("FirstComes", "in another order: .*sort what the decision lists"),
        ("Remembers", "by one instance; .*hand on what they need"),
        ("LooksAtOthers", "of single records; decide may look at a record"),
        ("FailsOnNothing", "on no record at all, which a corpus may be, finish raises IndexError"),
        ("FailsOnNull", "decide raises AttributeError"),
        ("Tuples", "finish returns tuple; return a Decision"),
        ("NumberKeys", "the key 1, and the keys of JSON are texts"),
        ("Endless", "still asks for another pass after 100"),
        ("ListState", "update returns list; return a pa.Table"),
        ("LongCopies", "decide returns copies as int64; make it int32"),
        ("ReasonForAll", "gives a reason, 'because', for a record that it keeps"),
        ("ByHash", "the decision differs in another process"),
        ("AtRandom", "the decision differs"),
    ],
)
def test_a_selector_that_breaks_a_promise_is_told_which(
    selectors: ModuleType, name: str, message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        check_selector(getattr(selectors, name), EXAMPLES)


def test_arguments_that_no_job_could_give_are_refused(selectors: ModuleType) -> None:
    with pytest.raises(AssertionError, match="selector from plain values"):
        check_selector(functools.partial(selectors.NotPlain, least=object()), EXAMPLES)


def test_examples_without_a_column_that_is_read_are_refused(selectors: ModuleType) -> None:
    with pytest.raises(AssertionError, match="no column lang_score; name its type in `columns`"):
        check_selector(selectors.Good, EXAMPLES.select(["id", "lang"]))
