"""What is well-formed and still wrong: names, parameters, columns and files that do not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from thresher.jobs.checking import check
from thresher.jobs.loading import load
from thresher.jobs.problems import JobFileError

SCORER = """\
import pyarrow as pa
from thresher.schemas.contracts import Scorer

class Taste(Scorer):
    version = 1
    inputs = ("text",)
    def __init__(self, names=("taste",)):
        self._names = names
    @property
    def outputs(self):
        return {name: pa.float32() for name in self._names}
    def score(self, batch):
        return {name: pa.array([0.5] * len(batch), pa.float32()) for name in self._names}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "page.warc.gz").write_bytes(b"")
    (tmp_path / "tasting.py").write_text(SCORER)
    (tmp_path / "hq.bin").write_bytes((793712314).to_bytes(4, "little"))
    (tmp_path / "lists" / "adult").mkdir(parents=True)
    (tmp_path / "lists" / "adult" / "domains").write_text("example.com\n")
    return tmp_path


def problems(folder: Path, steps: list[Any], allow_code: bool = False, **more: Any) -> list[str]:
    """The problems of a job with these steps, each as `place: message`."""
    value = {
        "name": "a",
        "input": str(folder / "docs.jsonl"),
        "steps": steps,
        "output": {"path": str(folder / "out")},
    }
    value = {**value, "run": {"directory": str(folder)}, **more}
    try:
        load(value, allow_code=allow_code)
    except JobFileError as error:
        return [problem.told("job").removeprefix("job: ") for problem in error.problems]
    return []


def test_a_job_that_uses_everything_rightly_has_no_problem(folder: Path) -> None:
    steps = [
        {"url": {"lists": str(folder / "lists"), "categories": ["adult"]}},
        {"extract": "trafilatura"},
        {"language": {"keep": ["en"]}},
        {"filter": {"gopher_quality": {"min_words": 60, "words": "unicode"}}},
        {"rule": "word_count < 100000 and lang_score > 0.5"},
        {"score": {"fasttext": {"model": "hq.bin", "label": "hq"}}, "as": "quality"},
        {"score": {"tasting:Taste": {"names": ["sweet", "sour"]}}, "as": "taste"},
        {"dedup": {"minhash": {"keep": {"best": "taste_sour"}}}},
        {"dedup": {"exact": {"on": "url"}}},
        {"select": {"top": 0.5, "by": "quality", "within": "lang"}},
    ]
    inputs = [{"path": str(folder / "page.warc.gz")}, {"path": str(folder / "docs.jsonl")}]
    assert problems(folder, steps, allow_code=True, input=inputs) == []


MISTAKES: list[tuple[Any, str]] = [
    (
        {"filter": "gopher_qualty"},
        'steps[0].filter: unknown rule set "gopher_qualty"; did you mean "gopher_quality"?',
    ),
    (
        {"filter": {"gopher_quality": {"min_wrods": 1}}},
        'steps[0].filter.gopher_quality.min_wrods: unknown parameter "min_wrods"; did you mean "min_words"?',
    ),
    (
        {"filter": {"gopher_quality": {"min_words": "60"}}},
        'steps[0].filter.gopher_quality.min_words: "60" is not a whole number',
    ),
    (
        {"filter": {"gopher_quality": {"words": "spacy"}}},
        'steps[0].filter.gopher_quality.words: "spacy" is not one of whitespace, unicode',
    ),
    ({"rule": "word_cuont < 5"}, 'steps[0].rule: unknown column "word_cuont"; did you mean "word_count"?'),
    ({"rule": "word_count <"}, "steps[0].rule:"),
    ({"rule": "word_count"}, "steps[0].rule: `word_count` does not fit the columns (word_count: int64)"),
    ({"rule": "url > 3"}, "steps[0].rule: `url > 3` does not fit the columns (url: string)"),
    ({"rule": "length(word_count) > 3"}, "steps[0].rule: `length(word_count) > 3` does not fit the columns"),
    ({"rule": "1 < 2"}, "steps[0].rule: reads no column"),
    ({"rule": "__import__('os').system('ls')"}, "steps[0].rule:"),
    (
        {"rule": "lang == 'en'"},
        'steps[0].rule: unknown column "lang"; a language step before this one makes it',
    ),
    ({"select": {"top": 0.1, "by": "quality"}}, 'steps[0].select.by: unknown column "quality"'),
    ({"select": {"top": 0.1, "by": "url"}}, 'steps[0].select.by: "url" is text; records are ranked by'),
    ({"dedup": {"minhash": {"on": "body"}}}, 'steps[0].dedup.minhash.on: unknown column "body"'),
    ({"dedup": {"exact": {"keep": {"best": "x"}}}}, 'steps[0].dedup.exact.keep: unknown column "x"'),
    ({"score": {"fasttext": {"model": "nope.bin", "label": "hq"}}}, "steps[0].score.fasttext.model:"),
    (
        {"score": {"tasting:Taste": {}}},
        "steps[0].score.tasting:Taste: tasting:Taste is code of your own; allow it",
    ),
    ({"score": {"fastext": {}}}, "steps[0].score.fastext: unknown scorer"),
    ({"language": {"keep": ["en"], "model": "nope.bin"}}, "steps[0].language.model:"),
    ({"url": {"lists": "nowhere"}}, "steps[0].url.lists: no such folder:"),
    (
        {"extract": "resiliparse"},
        "steps[0]: nothing to extract: no input is WARC, ARC or HTML, or maps a column html",
    ),
]


@pytest.mark.parametrize(("step", "told"), MISTAKES)
def test_each_thing_that_is_not_there_is_told(folder: Path, step: Any, told: str) -> None:
    found = problems(folder, [step])
    assert any(line.startswith(told) for line in found), found


def test_structural_and_semantic_errors_come_together(folder: Path) -> None:
    found = problems(folder, [{"limit": 0}, {"filter": "gopher_qualty"}], input=str(folder / "docs.jsnl"))
    assert len(found) == 3
    assert any("no file matches" in line and "docs.jsonl" in line for line in found)


def test_columns_are_not_judged_after_a_step_that_could_not_be_read(folder: Path) -> None:
    assert problems(folder, [{"scoer": {}}, {"select": {"top": 0.1, "by": "quality"}}]) == [
        'steps[0].scoer: unknown verb "scoer"; did you mean "score"?'
    ]


def test_a_score_column_exists_from_its_step_on(folder: Path) -> None:
    score = {"score": {"fasttext": {"model": "hq.bin", "label": "hq"}}, "as": "quality"}
    rule = {"rule": "quality > 0.5"}
    assert problems(folder, [score, rule]) == []
    (found,) = problems(folder, [rule, score])
    assert found.startswith('steps[0].rule: unknown column "quality"')


def test_a_rule_must_fit_the_types_that_earlier_steps_give_their_columns(folder: Path) -> None:
    language = {"language": {"keep": ["en"]}}
    score = {"score": {"tasting:Taste": {"names": ["sweet", "sour"]}}, "as": "taste"}
    steps = [language, score, {"rule": "lang == 'en' and lang_score > 0.5 and taste_sour < 0.9"}]
    assert problems(folder, steps, allow_code=True) == []
    steps = [language, score, {"rule": "taste_sour == 'lemon'"}, {"rule": "lang_score == lang"}]
    found = problems(folder, steps, allow_code=True)
    assert len(found) == 2
    assert found[0].startswith("steps[2].rule: `taste_sour == 'lemon'` does not fit")
    assert "taste_sour: float" in found[0]
    assert found[1].startswith("steps[3].rule: `lang_score == lang` does not fit")


@pytest.mark.parametrize("column", ["position", "bytes", "key", "payload", "dedup_0_signature"])
def test_a_score_cannot_take_the_name_of_a_column_of_our_own(folder: Path, column: str) -> None:
    score = {"score": {"fasttext": {"model": "hq.bin", "label": "hq"}}, "as": column}
    assert problems(folder, [score]) == [f'steps[0].as: "{column}" is a column of our own; name another']
    assert problems(folder, [score | {"as": f"my_{column}"}]) == []


def test_two_scores_cannot_share_a_column(folder: Path) -> None:
    score = {"score": {"fasttext": {"model": "hq.bin", "label": "hq"}}, "as": "quality"}
    assert problems(folder, [score, score]) == [
        'steps[1].as: there is a column "quality" already; name another'
    ]
    assert problems(folder, [score | {"as": "text"}]) == [
        'steps[0].as: there is a column "text" already; name another'
    ]


def test_pages_need_a_step_that_extracts_before_any_that_reads_text(folder: Path) -> None:
    warc = {"path": str(folder / "page.warc.gz")}
    assert "add extract: resiliparse" in problems(folder, [], input=[warc])[0]
    assert problems(folder, [{"filter": "c4"}, {"extract": "resiliparse"}], input=[warc]) == [
        "steps[0]: filter reads text, which only exists after extract"
    ]
    assert problems(folder, [{"extract": "resiliparse"}, {"extract": "resiliparse"}], input=[warc]) == [
        "steps[1]: text is extracted already; a record passes one extract step"
    ]
    html = {"path": str(folder / "docs.jsonl"), "columns": {"html": "body"}}
    assert problems(folder, [{"extract": "resiliparse"}], input=[html]) == []


def test_an_output_inside_the_input_is_refused(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "docs.jsonl").write_text("")
    assert "which a run replaces" in problems(folder, [], input=str(folder / "out" / "docs.jsonl"))[0]
    (folder / "a.parquet").write_bytes(b"")
    found = problems(folder, [], input=str(folder / "**" / "*.parquet"))
    assert "a second run reads the first" in found[0]


def test_a_name_without_a_known_format_is_told(folder: Path) -> None:
    (folder / "docs.data").write_text("")
    assert "format" in problems(folder, [], input=str(folder / "docs.data"))[0]
    assert problems(folder, [], input={"path": str(folder / "docs.data"), "format": "jsonl"}) == []


def test_a_category_that_is_not_among_the_lists_is_told(folder: Path) -> None:
    step = {"url": {"lists": str(folder / "lists"), "categories": ["adlut"]}}
    assert problems(folder, [step]) == [
        'steps[0].url.categories[0]: unknown category "adlut"; did you mean "adult"?'
    ]


def test_a_scorer_with_wrong_arguments_is_told(folder: Path) -> None:
    found = problems(folder, [{"score": {"tasting:Taste": {"nams": ["a"]}}}], allow_code=True)
    assert "nams" in found[0]


def test_check_gives_problems_without_lines(folder: Path) -> None:
    value = {"name": "a", "input": "nowhere.jsonl", "output": {"path": str(folder / "out")}}
    (problem,) = check(load(value, check=False))
    assert (problem.path, problem.line) == (("input", 0, "path"), None)


def test_lines_are_attached_to_what_check_finds(folder: Path) -> None:
    steps = "steps:\n  - filter:\n      gopher_quality:\n        min_wrods: 3\n"
    job = folder / "job.yaml"
    job.write_text(f"name: a\ninput: docs.jsonl\n{steps}output: {{path: out}}\n")
    with pytest.raises(JobFileError, match=r"job\.yaml:6: steps\[0\]\.filter\.gopher_quality\.min_wrods"):
        load(job)


@pytest.mark.parametrize("work", ["s3://bucket/x", "/somewhere/x", "file:///somewhere/x"])
def test_a_run_works_in_a_folder_or_in_a_store(folder: Path, work: str) -> None:
    assert problems(folder, [], run={"work": work}) == []


def test_a_local_url_of_a_work_directory_is_a_path(folder: Path) -> None:
    value = {"name": "a", "input": "x.jsonl", "output": {"path": "out"}, "run": {"work": "file:///a/b"}}
    assert load(value, check=False).run.work == "/a/b"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://example.org/work", "cannot be written to"),
        ("hf://datasets/someone/something", "cannot be written to"),
        ("nosuch://bucket/work", "Protocol not known: nosuch"),
        ("memory://work", "which no worker sees"),
    ],
)
def test_a_work_directory_that_no_run_can_use_is_told_at_its_line(folder: Path, url: str, told: str) -> None:
    job = folder / "job.yaml"
    job.write_text(f"name: a\ninput: docs.jsonl\noutput: {{path: out}}\nrun:\n  workers: 1\n  work: {url}\n")
    with pytest.raises(JobFileError) as caught:
        load(job)
    (problem,) = caught.value.problems
    assert (problem.line, problem.place, url in problem.message) == (6, "run.work", True)
    assert told in problem.message


def test_an_output_may_lie_in_a_store(folder: Path) -> None:
    assert problems(folder, [], output={"path": "s3://bucket/x"}) == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://example.org/out", "cannot be written to"),
        ("hf://datasets/someone/something", "cannot be written to"),
        ("nosuch://bucket/out", "Protocol not known: nosuch"),
    ],
)
def test_an_output_that_cannot_be_written_is_told_before_the_run(folder: Path, url: str, told: str) -> None:
    (problem,) = problems(folder, [], output={"path": url})
    assert f"output.path: {url}" in problem
    assert told in problem


def test_a_job_does_not_read_what_it_writes_to_a_store(folder: Path) -> None:
    value = {"name": "a", "input": "memory://b/*/*.parquet", "output": {"path": "memory://b/out/"}}
    told = [problem.message for problem in check(load(value, check=False))]
    assert any("names files of the output" in message for message in told)


def test_a_missing_tokenizer_of_the_output_is_told_before_the_run(folder: Path) -> None:
    output = {"path": str(folder / "out"), "tokenizer": "nowhere.json"}
    (told,) = problems(folder, [], output=output)
    assert "output.tokenizer" in told
    assert "nowhere.json" in told


def test_a_mix_of_inputs_names_inputs_of_the_job(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "x"}\n')
    described = {
        "name": "mixed",
        "input": [{"name": "crawl", "path": str(source)}, {"name": "wiki", "path": str(source)}],
        "steps": [{"mix": {"weights": {"crawl": 7, "wikis": 3}}}],
        "output": {"path": str(tmp_path / "out")},
    }
    with pytest.raises(JobFileError, match=r'unknown input "wikis"'):
        load(described)


def test_a_signal_written_out_is_a_column_that_rules_read_and_no_step_replaces(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "x"}\n')
    described: dict[str, Any] = {
        "name": "columns",
        "input": str(source),
        "steps": [{"signals": ["char_count"]}, {"rule": "char_count <= signal_char_count"}],
        "output": {"path": str(tmp_path / "out")},
    }
    load(described)
    described["steps"].append({"bucket": {"by": "char_count"}, "as": "signal_char_count"})
    with pytest.raises(JobFileError, match='there is a column "signal_char_count" already'):
        load(described)


SELECTOR = """\
import pyarrow as pa
from thresher.scorers import Decision, Selector

class All(Selector):
    version = 1
    inputs = ("lang", "word_count", "position")
    def __init__(self, max_copies=1):
        self.max_copies = max_copies
    def start(self, learned):
        return pa.table({"n": pa.array([], pa.int64())})
    def update(self, state, batch, learned):
        return state
    def merge(self, a, b, learned):
        return a
    def finish(self, state, learned):
        return Decision({})
    def decide(self, batch, decision):
        raise NotImplementedError

class NoVersion(All):
    version = None

class TooMany(All):
    max_copies = property(lambda self: 101, lambda self, value: None)
"""


def own(folder: Path, *, step: Any = None, name: str = "choosing:All", **select: Any) -> list[str]:
    """The problems of a job whose second step is a selector of one's own, less the name of its place."""
    (folder / "choosing.py").write_text(SELECTOR)
    steps = [{"language": {"keep": ["en"]}}, {"select": {"with": name, **select}, **(step or {})}]
    later = [{"rule": "copies > 1"}] if select.get("arguments") else []
    found = problems(folder, [*steps, *later], allow_code=True)
    return [told.removeprefix("steps[1].") for told in found]


def test_a_selector_of_ones_own_is_checked_for_what_it_reads_and_makes(folder: Path) -> None:
    assert own(folder) == []
    assert own(folder, action="report", step={"as": "chosen"}) == []
    assert own(folder, arguments={"max_copies": 2}) == []  # a later step reads its copies
    (folder / "choosing.py").write_text(SELECTOR)
    without = problems(folder, [{"select": {"with": "choosing:All"}}], allow_code=True)
    assert without == [
        'steps[0].select.with: unknown column "lang"; a language step before this one makes it'
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0.1}, "select.top: top does not go with a selector of your own; give what it takes as argu"),
        ({"unit": "bytes"}, "select.unit: unit does not go with a selector of your own"),
        (
            {"step": {"on_null": "keep"}},
            '"on_null" has no meaning here: choosing:All decides on what is null',
        ),
        ({"step": {"as": "chosen"}}, "as: this select makes no column; write action: report, or remove as"),
        ({"name": "choosing:Al"}, "select.with: choosing .*has no class 'Al' .did you mean All"),
        ({"name": "all"}, "select.with: unknown selector 'all'; none is installed; write module:Class"),
        (
            {"name": "tasting:Taste"},
            "select.with: tasting:Taste is not a selector: write a class derived from",
        ),
        ({"name": "choosing:NoVersion"}, "select.with: selector choosing:NoVersion: version is None"),
        (
            {"name": "choosing:TooMany"},
            "select.with: selector choosing:TooMany: max_copies is 101; .* 1 to 100",
        ),
        ({"arguments": {"copies": 2}}, "select.with: .* has no argument 'copies'"),
    ],
)
def test_mistakes_with_a_selector_of_ones_own_are_told(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    (first, *_) = own(folder, **options)
    assert re.search(message, first), first


def test_arguments_without_a_selector_of_ones_own_are_refused(folder: Path) -> None:
    (told,) = problems(folder, [{"select": {"top": 0.1, "arguments": {"a": 1}}}])
    assert told.startswith("steps[0].select.arguments: arguments are those of a selector of your own")
