"""Whole jobs do what a plain interpreter of their steps does, however the input is cut into files."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import corpus
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
import thresher
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inline_engine import inline_tasks
from thresher.pipeline.stage import TaskFailed

BASES = [
    "",
    " \n",
    "one",
    "The river and the mountain have water",
    "the page that data have to be with the model and training",
    "winter stone bridge\nsummer garden paper light",
    "12 numbers begin the page of history",
    "- the item\n- the other item of the list...",
    "我们在山上看见了一条河和一座桥",
    "这是一个关于历史的页面",
    "The engine of the world and the music of the system have water, light and color with the paper.\n" * 2,
]


def varied(base: str, how: int) -> str:
    """A base as it is, more often than not; or with white space, case, a word or an end changed."""
    words = base.split(" ")
    changes = {
        5: lambda: base.replace(" ", "  ") + "\n",
        6: base.upper,
        7: lambda: " ".join(["other", *words[1:]]),
        8: lambda: " ".join([*words, "more"]),
        9: lambda: base[:-1],
        10: lambda: f"{base}\n{base}",
        11: lambda: " ".join([*words[: len(words) // 2], "middle", *words[len(words) // 2 :]]),
    }
    return changes.get(how, lambda: base)()


TEXTS = st.builds(varied, st.sampled_from(BASES), st.integers(0, 11))


@dataclass(frozen=True)
class Cut:
    """How a corpus lies in files: the places where files end, and their format."""

    places: list[int]
    format: str = "jsonl"

    def write(self, folder: Path, documents: list[dict[str, Any]]) -> None:
        folder.mkdir()
        for number, (start, stop) in enumerate(pairwise([0, *self.places, len(documents)])):
            path, some = folder / f"{number}.{self.format}", documents[start:stop]
            if self.format == "jsonl":
                corpus.write(path, [{k: v for k, v in d.items() if v is not None} for d in some])
            else:
                fields = pa.schema([(name, pa.string()) for name in ("id", "text", "url")])
                pq.write_table(pa.Table.from_pylist(some, fields), path, row_group_size=7)


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[dict[str, Any]], Cut]:
    """Documents, some of one id and some without a text, and their files."""
    size = draw(st.sampled_from([15, 30, 45, 2, 30, 0]))  # left to itself, it would nearly always be small
    fields = st.tuples(TEXTS, st.sampled_from(list(reference.PAGES)), st.integers(0, 40), st.integers(0, 30))
    drawn = draw(st.lists(fields, min_size=size, max_size=size))
    documents = [
        {"id": f"d{id_:02d}", "text": None if blank == 30 else text, "url": url}
        for text, url, id_, blank in drawn
    ]
    places = draw(st.lists(st.integers(0, len(documents)), max_size=3).map(sorted))
    return documents, Cut(places, draw(st.sampled_from(["jsonl", "parquet"])))


VERBS = ["dedup", "select", "rule", "score", "dedup", "filter", "sample", "select", "limit", "rule", "dedup"]
COLUMNS = ("word_count", "char_count", "mean_word_length", "line_count", "max_word_length")
ON_NULL = st.sampled_from(["drop", "keep", "keep", "drop", "keep", "drop", "fail"])
CLAUSES = st.one_of(
    st.builds("word_count {} {}".format, st.sampled_from([">=", "!=", ">"]), st.integers(0, 3)),
    st.builds("char_count {} {}".format, st.sampled_from(["<", "<="]), st.integers(20, 200)),
    st.builds("mean_word_length {} {}".format, st.sampled_from(["<", ">="]), st.sampled_from([3.0, 4.5])),
    st.builds("line_count == {}".format, st.integers(1, 2)),
    st.builds("length(url) <= {}".format, st.integers(0, 30)),
)


def keeps(ranks: list[str]) -> st.SearchStrategy[Any]:
    best = st.sampled_from(ranks).map(lambda column: {"best": column})
    return st.one_of(st.just("first"), st.just("longest"), best)


def dedups(ranks: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    normalize = st.sampled_from(["none", "whitespace", "lower"])
    exact = st.fixed_dictionaries({}, optional={"normalize": normalize, "keep": keeps(ranks)})
    url = st.fixed_dictionaries({"on": st.just("url")}, optional={"keep": keeps(ranks)})
    minhash = st.fixed_dictionaries(
        {
            "bands": st.integers(1, 8),
            "rows": st.integers(1, 3),
            "ngram": st.integers(1, 4),
            "hash": st.just("datasketch"),
        },
        optional={
            "unit": st.just("characters"),
            "words": st.sampled_from(["whitespace", "unicode"]),
            "lowercase": st.just(True),
            "keep": keeps(ranks),
        },
    )
    methods = [exact.map(lambda o: {"exact": o}), url.map(lambda o: {"exact": o})]
    return st.one_of(*methods, minhash.map(lambda o: {"minhash": o}))


@st.composite
def selections(draw: st.DrawFn, ranks: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {"by": draw(st.sampled_from(ranks))}
    kind = draw(st.sampled_from(["top", "top", "budget", "min"]))
    if kind == "min":
        return options | {"min": draw(st.sampled_from([0.0, 0.5, 2.0, 5.5]))}
    options["unit"] = draw(st.sampled_from(["records", "characters", "bytes"]))
    if draw(st.booleans()):
        options["within"] = draw(st.sampled_from(["line_count", "url"]))
    if kind == "top":
        return options | {"top": draw(st.sampled_from([0.0, 0.29, 0.5, 0.7, 0.9, 1.0]))}
    return options | {"budget": draw(st.integers(1, 15 if options["unit"] == "records" else 900))}


@st.composite
def jobs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Steps that a job file may have in this order."""
    steps: list[dict[str, Any]] = []
    ranks = list(COLUMNS)
    for number in range(draw(st.sampled_from([5, 3, 4, 6, 2, 1]))):
        verb = draw(st.sampled_from(VERBS))
        step: dict[str, Any] = {"name": f"step-{number}"}
        if verb == "filter":
            options = st.fixed_dictionaries(
                {"min_words": st.integers(0, 4), "min_stop_words": st.integers(0, 1)},
                optional={"words": st.sampled_from(["whitespace", "unicode"])},
            )
            step |= {"filter": {"gopher_quality": draw(options)}}
        elif verb == "rule":
            clauses = draw(st.lists(CLAUSES, min_size=1, max_size=2))
            if "variety" in ranks and draw(st.booleans()):
                clauses.append(f"variety {draw(st.sampled_from(['<', '>=']))} 0.8")
            step |= {"rule": draw(st.sampled_from([" and ", " or "])).join(clauses)}
            step |= {"on_null": draw(ON_NULL)}
        elif verb == "sample":
            step |= {"sample": draw(st.sampled_from([0.5, 0.8, 0.9]))}
        elif verb == "limit":
            step |= {"limit": draw(st.integers(5, 30))}
        elif verb == "dedup":
            step |= {"dedup": draw(dedups(ranks))}
        elif verb == "select":
            step |= {"select": draw(selections(ranks=ranks)), "on_null": draw(ON_NULL)}
        elif "variety" not in ranks:
            ranks += ["variety", "variety"]
            step |= {"score": {"marks:Variety": {}}, "as": "variety", "on_null": draw(ON_NULL)}
        else:
            step |= {"rule": "variety > 0.6", "on_null": draw(ON_NULL)}
        steps.append(step)
    return steps


def outcome(
    folder: Path, documents: list[dict[str, Any]], cut: Cut, steps: list[dict[str, Any]]
) -> tuple[list[tuple[Any, ...]], dict[int, tuple[Any, ...]]]:
    """(id, text, url) of the records that a run keeps, in its order, and the ledger by place in the input."""
    cut.write(folder / "in", documents)
    starts = [0, *cut.places]
    (folder / "marks.py").write_text(reference.MARKS)
    job = {
        "name": "compared",
        "input": str(folder / "in" / "*"),
        "steps": steps,
        "output": {"path": str(folder / "out"), "shard": "2KB"},
        "run": {"workers": 2, "seed": 5, "directory": str(folder)},
    }
    result = thresher.run(thresher.load(job, allow_code=True), allow_code=True)
    rows = [row for s in result.shards for row in pq.read_table(folder / "out" / s.path).to_pylist()]
    ledger = pq.read_table(folder / "out" / "ledger").to_pylist()
    fates = {
        starts[row["position"] >> 32] + (row["position"] & 0xFFFFFFFF): (
            row["step"],
            row["verdict"],
            row["reason"],
            row["value"],
        )
        for row in ledger
    }
    assert len(fates) == len(ledger) == result.totals["in"] - result.totals["kept"]
    return [(row["id"], row["text"], row["url"]) for row in rows], fates


def same_value(found: str | None, expected: Any) -> bool:
    if expected is ...:
        return True
    if isinstance(expected, int | float):
        return found is not None and (float(found) == expected or (found == "nan" and math.isnan(expected)))
    return found == (expected[:200] if isinstance(expected, str) else expected)


def compare(folder: Path, documents: list[dict[str, Any]], cut: Cut, steps: list[dict[str, Any]]) -> None:
    try:
        expected, fates = reference.interpret(documents, steps, seed=5)
    except reference.NoValue:
        with pytest.raises(TaskFailed):
            outcome(folder, documents, cut, steps)
        return
    kept, ledger = outcome(folder, documents, cut, steps)
    assert kept == [(record["id"], record["text"], record["url"]) for record in expected]
    assert {place: fate[:3] for place, fate in ledger.items()} == {p: fate[:3] for p, fate in fates.items()}
    for place, fate in fates.items():
        assert same_value(ledger[place][3], fate[3]), (place, fate, ledger[place])


@pytest.fixture(scope="module")
def _inline() -> Iterator[None]:
    with inline_tasks():
        yield


def generated(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.mark.usefixtures("_inline")
@generated(100)
@given(corpora(), jobs())
def test_any_job_does_what_its_steps_say_one_after_the_other(
    tmp_path_factory: pytest.TempPathFactory,
    cut_corpus: tuple[list[dict[str, Any]], Cut],
    steps: list[dict[str, Any]],
) -> None:
    compare(tmp_path_factory.mktemp("compared"), *cut_corpus, steps)


@pytest.mark.slow
@pytest.mark.usefixtures("_inline")
@generated(800)
@given(corpora(), jobs())
def test_many_more_jobs_do_what_their_steps_say(
    tmp_path_factory: pytest.TempPathFactory,
    cut_corpus: tuple[list[dict[str, Any]], Cut],
    steps: list[dict[str, Any]],
) -> None:
    compare(tmp_path_factory.mktemp("compared"), *cut_corpus, steps)


NEAR = {"minhash": {"bands": 8, "rows": 3, "ngram": 2, "hash": "datasketch", "keep": "longest"}}
LONGER_JOBS: dict[str, list[dict[str, Any]]] = {
    "two dedups of different columns, with rules before, between and behind": [
        {"rule": "word_count > 2"},
        {"dedup": NEAR},
        {"rule": "mean_word_length >= 3.0 and length(url) > 11", "on_null": "keep"},
        {"dedup": {"exact": {"on": "url", "keep": {"best": "variety"}}}},
        {"rule": "word_count < 140 and variety < 0.99", "on_null": "keep"},
    ],
    "a select after a select, in groups, with a limit and a sample between": [
        {"select": {"top": 0.7, "by": "char_count", "within": "line_count", "unit": "characters"}},
        {"limit": 1500},
        {"sample": 0.8},
        {"select": {"top": 0.29, "by": "variety", "unit": "bytes"}, "on_null": "keep"},
    ],
    "three dedups in a row": [
        {"dedup": {"exact": {"normalize": "lower", "keep": "first"}}},
        {"dedup": NEAR},
        {"dedup": {"exact": {"on": "url", "keep": {"best": "word_count"}}}},
    ],
    "a budget behind a limit": [
        {"limit": 2000},
        {"dedup": {"exact": {"keep": {"best": "variety"}}}},
        {"select": {"budget": 50_000, "by": "variety", "unit": "characters"}},
    ],
}


@pytest.mark.parametrize("name", LONGER_JOBS)
def test_a_job_over_many_batches_and_files_does_what_its_steps_say(tmp_path: Path, name: str) -> None:
    format = "parquet" if "select" in name else "jsonl"
    random_ = random.Random(3)
    pages = list(reference.PAGES)
    documents = [
        {
            "id": row["id"],
            "text": row["text"],
            "url": random_.choice([*pages, *[f"https://e.org/own/{n}"] * 9]),
        }
        for n, row in enumerate(corpus.rows(1800))
    ]
    documents += [{"id": "odd", "text": text, "url": None} for text in BASES]
    random_.shuffle(documents)
    # The first file is of two batches, and the second is shorter than one.
    score = {"score": {"marks:Variety": {}}, "as": "variety", "on_null": "keep"}
    steps = [{"name": f"step-{n}", **step} for n, step in enumerate([score, *LONGER_JOBS[name]])]
    compare(tmp_path, documents, Cut([1300, 1500], format), steps)
