"""Whole jobs that select, bucket and mix, against a plain reading of what their steps mean."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import corpus
import hypothesis.strategies as st
import pyarrow.parquet as pq
import pytest
import thresher
import xxhash
from hypothesis import given, settings
from inline_engine import inline_tasks
from test_whole_jobs import shards
from thresher.jobs.problems import JobFileError
from thresher.pipeline import driver, exchange
from thresher.pipeline.selection import SelectionError

tokenizers = pytest.importorskip("tokenizers", reason="needs the package tokenizers")

Record = dict[str, Any]
HOSTS = ["a.example", "b.example", "c.example", "d.example", None]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that has learned the words of the corpus."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=330, show_progress=False)
    bpe.train_from_iterator([corpus.document(seed) for seed in range(5)], trainer)
    bpe.save(str(path))
    return path


def record(number: int, words: int, host: str | None, id_: str | None = None) -> Record:
    text = " ".join(random.Random(number).choice(corpus.WORDS) for _ in range(words))
    url = None if host is None else f"https://{host}/{number}"
    return {"id": id_ or f"r{number:04d}", "text": f"{text} {number}", "url": url, "n": number}


def write(folder: Path, inputs: dict[str, list[Record]], files: int = 1) -> list[dict[str, Any]]:
    """The records of each input in some files, as the `input` of a job."""
    for name, records in inputs.items():
        edges = [len(records) * number // files for number in range(files + 1)]
        for number, (start, stop) in enumerate(pairwise(edges)):
            corpus.write(folder / name / f"{number}.jsonl", records[start:stop])
    return [{"name": name, "path": str(folder / name / "*.jsonl")} for name in inputs]


def run(folder: Path, sources: list[dict[str, Any]], steps: list[Record], **more: Any) -> Any:
    job = {"name": "selecting", "input": sources, "steps": steps, "output": {"path": str(folder / "out")}}
    settings_ = {"workers": 2, "part": "5KB", "work": str(folder / "work"), **more}
    return thresher.run(thresher.load(job | {"run": settings_}))


def kept(folder: Path) -> list[int]:
    return [json.loads(row["meta"])["n"] for row in shards(folder / "out")]


def lost(folder: Path) -> Counter[tuple[str, str, str]]:
    rows = pq.read_table(folder / "out" / "ledger").to_pylist()
    return Counter((row["id"], row["step"], row["reason"]) for row in rows)


# What the steps mean, one record at a time.


def value_of(record: Record, column: str) -> Any:
    if column == "word_count":
        return len(record["text"].split())
    if column == "url_length":
        return None if record["url"] is None else len(record["url"])
    if column == "host":
        return None if record["url"] is None else record["url"].split("/")[2]
    return record.get(column)


def size_of(record: Record, options: Record, encode: Any) -> int:
    unit = options.get("unit", "records")
    if unit == "tokens":
        return len(encode(record["text"], add_special_tokens=False).ids)
    return 1 if unit == "records" else len(record["text"].encode() if unit == "bytes" else record["text"])


def drawn(record: Record, step: str, seed: int) -> int:
    return xxhash.xxh3_64(f"{seed}\0{step}\0{record['id']}".encode()).intdigest()


def groups_of(records: list[Record], column: str | None) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = defaultdict(list)
    for one in records:
        groups[value_of(one, column) if column else None].append(one)
    return groups


def fill(
    members: list[Record], room: float, rank: Callable[[Record], Any], size: Callable[[Record], int]
) -> list[Record]:
    """The members that do not fit, the first in descending rank being taken until the next would exceed."""
    ordered = sorted(members, key=lambda one: (-rank(one), one["id"], one["place"]))
    for place, one in enumerate(ordered):
        room -= size(one)
        if room < 0:
            return ordered[place:]
    return []


def interpret(records: list[Record], step: Record, seed: int, encode: Any) -> Iterator[tuple[Record, str]]:
    """The records that a step drops, and why."""
    verb = next(key for key in step if key in ("select", "bucket", "mix"))
    options, name, on_null = step[verb], step["name"], step.get("on_null", "drop")
    column = options.get("by")

    def rank(one: Record) -> Any:
        return drawn(one, name, seed) if column is None else value_of(one, column)

    def size(one: Record) -> int:
        return size_of(one, options, encode)

    without = [one for one in records if rank(one) is None]
    if on_null == "drop":
        yield from ((one, "null_score") for one in without)
    if verb == "mix":
        groups = groups_of(records, options.get("within", "input"))
        has = {group: sum(map(size, members)) for group, members in groups.items()}
        if "caps" in options:
            for group, members in groups.items():
                yield from (
                    (one, "over_cap")
                    for one in fill(members, options["caps"].get(group, math.inf), rank, size)
                )
            return
        weights = {group: Fraction(str(weight)) for group, weight in options["weights"].items()}
        each = min(has.get(group, 0) / weight for group, weight in weights.items())
        if "budget" in options:
            each = options["budget"] / sum(weights.values())
        for group, members in groups.items():
            if group not in weights:
                yield from ((one, "not_in_mix") for one in members)
            else:
                gone = fill(members, math.floor(each * weights[group]), rank, size)
                yield from ((one, "over_weight") for one in gone)
        return
    for members in groups_of(records, options.get("within")).values():
        ranked = [one for one in members if rank(one) is not None]
        if verb == "bucket":
            values = sorted(map(rank, ranked))
            bounds = [
                values[math.ceil(Fraction(str(c)) * len(values)) - 1] for c in options["cuts"] if values
            ]
            for one in ranked:
                one[step["as"]] = options["names"][sum(rank(one) > bound for bound in bounds)]
                if one[step["as"]] not in options.get("keep", options["names"]):
                    yield one, "other_bucket"
            continue
        if "top" in options:
            room = math.floor(Fraction(str(options["top"])) * sum(map(size, members)))
        else:
            room = options.get("budget") or options["cap"]
        gone = fill(ranked, room, rank, size)
        yield from ((one, "over_cap" if "cap" in options else "below_cut") for one in gone)


@st.composite
def corpora(draw: st.DrawFn) -> dict[str, list[Record]]:
    fields = st.tuples(st.integers(0, 12), st.sampled_from(HOSTS), st.integers(0, 40))
    drawn_ = draw(st.lists(fields, min_size=draw(st.sampled_from([0, 2, 20, 40])), max_size=60))
    made = [record(n, words, host, f"r{id_:02d}") for n, (words, host, id_) in enumerate(drawn_)]
    edge = draw(st.integers(0, len(made)))
    return {"crawl": made[:edge], "wiki": made[edge:]}


@st.composite
def steps(draw: st.DrawFn, tokenizer: str = "tokenizer.json") -> list[Record]:
    made: list[Record] = []
    columns = ["host", "input"]
    for number in range(draw(st.integers(1, 3))):
        verb = draw(st.sampled_from(["select", "select", "bucket", "mix"]))
        options: Record = {}
        step: Record = {verb: options, "name": f"{verb}-{number}"}
        by = draw(st.sampled_from(["word_count", "url_length"]))
        if verb == "bucket":
            options |= {"by": by, "cuts": [0.25, 0.7], "names": ["low", "middle", "high"]}
            if draw(st.booleans()):
                options["keep"] = ["low", "high"]
            step |= {"as": f"range_{number}", "on_null": draw(st.sampled_from(["drop", "keep"]))}
        else:
            options["unit"] = draw(st.sampled_from(["records", "records", "characters", "bytes", "tokens"]))
            if options["unit"] == "tokens":
                options["tokenizer"] = tokenizer
        many = 12 if options.get("unit", "records") == "records" else 400
        if verb == "mix":
            amounts = st.integers(1, 9) if draw(st.booleans()) else st.integers(1, many)
            named = draw(st.dictionaries(st.sampled_from(["crawl", "wiki"]), amounts, min_size=1))
            options |= draw(
                st.sampled_from([{"caps": named}, {"weights": named, "budget": many}, {"weights": named}])
            )
        elif draw(st.booleans()) or verb == "bucket":
            options["within"] = draw(st.sampled_from(columns))
        if verb == "select":
            if draw(st.booleans()):
                options["by"] = by
                step["on_null"] = draw(st.sampled_from(["drop", "keep"]))
            if "within" in options and draw(st.booleans()):
                options["cap"] = draw(st.integers(1, many // 2))
            else:
                options |= draw(st.sampled_from([{"top": 0.6}, {"top": 0.29}, {"budget": many}]))
        elif verb == "bucket":
            columns.append(step["as"])
        made.append(step)
    return made


@given(inputs=corpora(), chosen=steps(), seed=st.integers(0, 3), small=st.booleans())
@settings(max_examples=60, deadline=None)
def test_jobs_keep_and_drop_what_their_steps_say(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer: Path,
    inputs: dict[str, list[Record]],
    chosen: list[Record],
    seed: int,
    small: bool,
) -> None:
    folder = tmp_path_factory.mktemp("job", numbered=True)
    alive = [{**one, "input": name} for name, records in inputs.items() for one in records]
    for place, one in enumerate(alive):
        one["place"] = place
    fates: Counter[tuple[str, str, str]] = Counter()
    encode = tokenizers.Tokenizer.from_file(str(tokenizer)).encode
    refused = False
    for step in chosen:
        if "weights" in step.get("mix", {}) and "budget" not in step["mix"] and alive:
            refused |= not set(step["mix"]["weights"]) <= {one["input"] for one in alive}
        gone = list(interpret(alive, step, seed, encode))
        fates.update((one["id"], step["name"], why) for one, why in gone)
        dropped = {one["place"] for one, _ in gone}
        alive = [one for one in alive if one["place"] not in dropped]
    sources = write(folder, inputs, files=2)
    with inline_tasks(), pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(driver, "PARTITION_BYTES", 500)
            patch.setattr(exchange, "BUFFER_BYTES", 200)
        settings_ = {"seed": seed, "part": "1KB" if small else "1MB", "directory": str(tokenizer.parent)}
        if refused:
            with pytest.raises(SelectionError):
                run(folder, sources, chosen, **settings_)
            return
        result = run(folder, sources, chosen, **settings_)
    assert kept(folder) == [one["n"] for one in alive]
    assert lost(folder) == fates
    named = {step["as"] for step in chosen if "as" in step}
    for row, one in zip(shards(folder / "out"), alive, strict=True):
        assert {name: row[name] for name in named} == {name: one.get(name) for name in named}
    assert result.totals["kept"] == len(alive)


def mixed(folder: Path) -> list[dict[str, Any]]:
    crawl = [record(n, n % 40, HOSTS[n % 5]) for n in range(200)]
    wiki = [record(n, n % 50, "wiki.example") for n in range(200, 260)]
    sources = write(folder, {"crawl": crawl, "wiki": wiki}, files=3)
    sources[0]["steps"] = [{"select": {"cap": 30, "within": "host", "by": "word_count"}}]
    return sources


STEPS: list[Record] = [
    {"bucket": {"by": "char_count", "within": "input", "keep": ["middle", "tail"]}},
    {"select": {"cap": 6000, "within": "bucket", "unit": "characters"}},
    {"mix": {"weights": {"crawl": 0.7, "wiki": 0.3}}},
    {"select": {"top": "90%"}},
]


def test_inputs_with_steps_of_their_own_are_joined_by_weights(tmp_path: Path) -> None:
    with inline_tasks():
        result = run(tmp_path, mixed(tmp_path), STEPS)
    steps_ = {step["step"]: step for step in result.totals["steps"]}
    assert steps_["crawl.select:word_count"]["dropped"] == {"over_cap": 10 * 5}
    assert steps_["crawl.select:word_count"]["figures"] == {"groups": 5, "groups_over_cap": 5}
    assert steps_["bucket:char_count"]["in"] == 150 + 60
    mix = steps_["mix:input"]
    assert set(mix["dropped"]) <= {"over_weight"}
    gone = Counter(id_ for id_, _, _ in lost(tmp_path))
    assert sorted([*gone, *(f"r{n:04d}" for n in kept(tmp_path))]) == [f"r{n:04d}" for n in range(260)]


def test_the_choice_depends_neither_on_workers_nor_on_how_inputs_and_exchanges_are_cut(
    tmp_path: Path,
) -> None:
    chosen = []
    for name, part, workers, partition_bytes in (
        ("a", "2KB", 2, 0),
        ("b", "1MB", 1, 0),
        ("c", "3KB", 1, 900),
    ):
        sources = mixed(tmp_path / name)
        if partition_bytes:
            with inline_tasks(), pytest.MonkeyPatch.context() as patch:
                patch.setattr(driver, "PARTITION_BYTES", partition_bytes)
                run(tmp_path / name, sources, STEPS, part=part)
        else:
            run(tmp_path / name, sources, STEPS, part=part, workers=workers)
        rows = [(row["id"], row["bucket"]) for row in shards(tmp_path / name / "out")]
        chosen.append((rows, lost(tmp_path / name)))
    assert len(chosen[0][0]) > 20
    assert chosen[0] == chosen[1] == chosen[2]


def test_another_seed_draws_other_records(tmp_path: Path) -> None:
    sources = write(tmp_path, {"crawl": [record(n, 5, "a.example") for n in range(100)]})
    drawn_ = []
    for seed in (0, 0, 1):
        with inline_tasks():
            run(tmp_path, sources, [{"select": {"budget": 50}}], seed=seed)
        drawn_.append(set(kept(tmp_path)))
    assert drawn_[0] == drawn_[1] != drawn_[2]
    assert [len(numbers) for numbers in drawn_] == [50] * 3


def test_another_budget_counts_no_token_again(tmp_path: Path, tokenizer: Path) -> None:
    sources = write(tmp_path, {"crawl": [record(n, 20, "a.example") for n in range(50)]})
    encode = tokenizers.Tokenizer.from_file(str(tokenizer)).encode
    for budget in (300, 900):
        step = {
            "select": {"by": "word_count", "budget": budget, "unit": "tokens", "tokenizer": str(tokenizer)}
        }
        with inline_tasks():
            run(tmp_path, sources, [step])
        counts = [len(encode(row["text"]).ids) for row in shards(tmp_path / "out")]
        assert budget - 60 < sum(counts) <= budget
    assert len(list((tmp_path / "work" / "stages").glob("*-read-*"))) == 1
    (tmp_path / "other.json").write_text(tokenizer.read_text() + "\n")
    step["select"]["tokenizer"] = str(tmp_path / "other.json")
    with inline_tasks():
        run(tmp_path, sources, [step])
    assert len(list((tmp_path / "work" / "stages").glob("*-read-*"))) == 2


class Hearing:
    """A listener that writes down the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None: ...

    def task_done(self, name: str, records_in: int, records_out: int, bytes: int) -> None: ...

    def stage_finished(self, name: str) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_a_group_that_is_too_small_for_its_weight_is_told(tmp_path: Path) -> None:
    sources = write(
        tmp_path, {"crawl": [record(n, 5, None) for n in range(60)], "wiki": [record(99, 5, None)]}
    )
    job = {
        "name": "short",
        "input": sources,
        "steps": [{"mix": {"weights": {"crawl": 1, "wiki": 1}, "budget": 50}}],
        "output": {"path": str(tmp_path / "out")},
    }
    hearing = Hearing()
    with inline_tasks():
        thresher.run(thresher.load(job), listener=hearing)
    assert len(kept(tmp_path)) == 26
    assert "mix:input: wiki has 1 records of the 25 that its weight asks for" in hearing.notes


def test_weights_without_a_budget_refuse_a_group_that_no_record_is_of(tmp_path: Path) -> None:
    sources = write(tmp_path, {"crawl": [record(n, 5, None) for n in range(5)], "wiki": []})
    with inline_tasks(), pytest.raises(SelectionError, match="mix:input: no record of wiki is left"):
        run(tmp_path, sources, [{"mix": {"weights": {"crawl": 1, "wiki": 1}}}])


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"select": {"cap": 5}}, "name the column of the groups with within"),
        ({"select": {"top": 0.5, "unit": "tokens"}}, "tokens of which tokenizer"),
        ({"select": {"top": 0.5, "unit": "tokens", "tokenizer": "gone.json"}}, "no model file 'gone.json'"),
        ({"bucket": {"by": "word_count", "cuts": ["60%", "30%"]}}, "cuts ascend"),
        ({"bucket": {"by": "word_count", "cuts": [0.5]}}, "1 cuts make 2 buckets; 3 names are given"),
        ({"bucket": {"by": "word_count", "keep": []}}, "no bucket would stay"),
        ({"bucket": {"by": "word_count", "keep": ["best"]}}, '"best" is none of the buckets'),
        ({"mix": {"weights": {"a": 1}, "caps": {"a": 1}}}, "give one of weights, caps, alpha and unimax"),
        ({"mix": {"caps": {}}}, "name at least one group"),
        ({"mix": {"caps": {"a": 1}, "budget": 5}}, "budget goes with weights"),
        ({"mix": {"weights": {"a": 0}}}, "the weight of a is a number above 0"),
    ],
)
def test_a_job_that_contradicts_itself_is_refused(tmp_path: Path, step: Record, message: str) -> None:
    sources = write(tmp_path, {"crawl": [record(1, 5, None)]})
    with pytest.raises(JobFileError, match=message):
        run(tmp_path, sources, [step])
