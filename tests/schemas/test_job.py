"""The job model: short forms, defaults, names, round trips, and the JSON Schema that describes it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from thresher.filters.text.language import MAX_CHARS
from thresher.schemas.job import Job, job_schema
from thresher.schemas.quantities import parse_fraction, parse_size
from thresher.schemas.steps import STEPS, AnyStep

DESIGN: dict[str, Any] = {
    "name": "cc-english",
    "modality": "text",
    "input": [{"path": "crawl/*.warc.gz", "format": "warc"}],
    "steps": [
        {"extract": "resiliparse"},
        {"language": {"keep": ["en"], "min_score": 0.65}},
        {"filter": "gopher_repetition"},
        {"filter": {"gopher_quality": {"min_words": 60}}},
        {"rule": "word_count < 100000", "name": "not_a_book"},
        {"dedup": {"minhash": {"bands": 14, "rows": 8, "ngram": 5, "keep": "longest"}}},
        {
            "score": {"fasttext": {"model": "hq.bin", "label": "hq"}},
            "as": "quality",
            "resources": {"cpus": 1, "actors": [1, 8]},
        },
        {"select": {"top": "10%", "by": "quality", "within": "lang", "unit": "characters"}},
    ],
    "output": {"path": "out/", "format": "parquet", "shard": "256MB", "shuffle": "parts"},
    "run": {"engine": "local", "workers": 2, "seed": 0, "work": "work/"},
}


def step(value: dict[str, Any]) -> Any:
    return TypeAdapter(AnyStep).validate_python(value)


def test_the_schema_tells_how_much_text_a_language_is_identified_from() -> None:
    told = job_schema()["$defs"]["Language"]["properties"]["max_chars"]["description"]
    assert f"{MAX_CHARS:,} where left out" in told


def test_the_job_of_the_design_is_read_as_it_is_written() -> None:
    job = Job.model_validate(DESIGN)
    assert [s.kind for s in job.steps] == [
        "extract", "language", "filter", "filter", "rule", "dedup", "score", "select",
    ]  # fmt: skip
    assert job.steps[0].options.with_ == "resiliparse"
    assert job.steps[3].options.arguments == {"min_words": 60}
    assert job.steps[4].options == "word_count < 100000"
    assert job.steps[5].options.options.keep.order == "longest"
    assert job.steps[6].options.arguments == {"model": "hq.bin", "label": "hq"}
    assert job.steps[7].options.top == 0.1
    assert job.output.shard == 256_000_000
    assert job.run.work == "work/"


def test_a_resolved_job_loads_as_an_equal_job() -> None:
    job = Job.model_validate(DESIGN)
    assert Job.model_validate(job.resolved()) == job
    assert Job.model_validate(job.model_dump()) == job


def test_names_are_made_from_the_verb_and_its_argument_and_are_unique() -> None:
    steps = [
        {"filter": "gopher_quality"},
        {"dedup": "minhash"},
        {"dedup": {"minhash": {"on": "text", "ngram": 3}}},
        {"rule": "word_count < 10 and char_count >= 2"},
        {"rule": "word_count > 10", "name": "dedup:minhash_2"},
        {"dedup": {"exact": {"on": "url"}}},
        {"score": {"my.module:Taste": {"flavour": "sour"}}},
        {"score": {"edu-classifier": {}}},
        {"sample": 0.5},
        {"limit": 10},
    ]
    job = Job.model_validate({**DESIGN, "steps": steps})
    assert [s.name for s in job.steps] == [
        "filter:gopher_quality",
        "dedup:minhash",
        "dedup:minhash_3",
        "rule:word_count_lt_10_and_char_count_ge_2",
        "dedup:minhash_2",
        "dedup:exact",
        "score:Taste",
        "score:edu_classifier",
        "sample",
        "limit",
    ]
    assert job.steps[7].column == "edu_classifier"


def test_work_lies_in_the_output_where_the_job_does_not_say() -> None:
    job = Job.model_validate({"name": "a", "input": "x.jsonl", "output": {"path": "out/"}})
    assert job.run.work == "out/.work"
    assert job.input[0].path == "x.jsonl"
    assert job.output.compression == "zstd"


@pytest.mark.parametrize(
    ("written", "bytes_"),
    [
        ("256MB", 256_000_000),
        ("1KiB", 1024),
        ("1.5 GiB", 3 << 29),
        ("7", 7),
        (12, 12),
        ("2kb", 2000),
        ("9B", 9),
    ],
)
def test_sizes_are_decimal_unless_they_say_binary(written: str | int, bytes_: int) -> None:
    assert parse_size(written) == bytes_


@pytest.mark.parametrize("written", ["", "MB", "-1MB", "1XB", "0", 0, True, 1.5, None, "1e400MB", "٣MB"])
def test_what_is_not_a_size_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(written)


@pytest.mark.parametrize(
    ("written", "share"), [("10%", 0.1), (0.1, 0.1), ("0.5 %", 0.005), (1.0, 1.0), ("100%", 1), (0, 0)]
)
def test_fractions_are_numbers_or_percentages(written: Any, share: float) -> None:
    assert parse_fraction(written) == pytest.approx(share)


@pytest.mark.parametrize("written", [10, 1, -0.1, 1.1, "101%", "ten", "", None, True, "10", float("nan")])
def test_what_may_be_misread_as_a_fraction_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_fraction(written)


@given(st.floats(0, 1))
def test_every_share_survives_a_round_trip(share: float) -> None:
    first = step({"sample": share})
    assert step(first.model_dump(mode="json", exclude_none=True, exclude={"name"})) == first


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"dedup": {"minhash": {"threshold": 0.8, "bands": 14, "rows": 8}}}, "threshold chooses bands"),
        ({"dedup": {"minhash": {"bands": 14}}}, "go together"),
        ({"dedup": {"minhash": {"num_perm": 14}}}, "num_perm goes with threshold"),
        ({"dedup": {"minhash": {}, "exact": {}}}, "both given"),
        ({"select": {"by": "x", "top": 0.1, "budget": 5}}, "both given"),
        ({"dedup": {"minhash": None}}, "how"),
        ({"dedup": {}}, "how"),
        ({"select": {"by": "x"}}, "how much"),
        ({"select": {"by": "x", "min": 0.5, "within": "lang"}}, "within goes with"),
        ({"score": {"fasttext": {"model": "a", "label": "b"}, "other": {}}}, "both scorers"),
        ({"url": {"categories": ["adult"]}}, "give lists"),
        ({"url": {}}, "nothing to block"),
        ({"filter": "c4", "as": "x"}, "makes none"),
        ({"extract": "trafilatura", "on_null": "keep"}, "no meaning"),
        ({"limit": 1, "resources": {"actors": [8, 1]}}, "wrong way round"),
    ],
)
def test_contradictions_are_refused(value: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        step(value)


def test_contradictions_hide_no_other_error() -> None:
    with pytest.raises(ValidationError) as caught:
        step({"dedup": {"minhash": {"threshold": 0.8, "bands": 3, "keep": "x", "num": 3}}})
    assert {error["loc"][-1] for error in caught.value.errors()} == {"threshold", "keep", "num"}


def test_minhash_writes_its_defaults_out() -> None:
    assert (
        step({"dedup": "minhash"}).options.options.bands,
        step({"dedup": "minhash"}).options.options.rows,
    ) == (14, 8)
    banded = step({"dedup": {"minhash": {"threshold": 0.7}}}).options.options
    assert (banded.bands, banded.num_perm) == (None, 112)


def test_the_best_record_of_a_cluster_is_chosen_by_a_column() -> None:
    built = step({"dedup": {"exact": {"keep": {"best": "quality"}}}})
    assert (built.options.options.keep.order, built.options.options.keep.column) == ("best", "quality")
    assert built.model_dump(mode="json")["dedup"]["exact"]["keep"] == {"best": "quality"}


def test_a_number_in_quotes_is_not_a_number() -> None:
    with pytest.raises(ValidationError):
        step({"language": {"keep": ["en"], "max_chars": "60"}})


def test_the_schema_describes_every_field_and_verb() -> None:
    schema = job_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    verbs = [ref["$ref"].rpartition("/")[2] for ref in schema["properties"]["steps"]["items"]["oneOf"]]
    assert verbs == [STEPS[verb].__name__ for verb in STEPS]
    for name, definition in {**schema["$defs"], "Job": schema}.items():
        assert definition.get("description"), name
        for field, described in definition.get("properties", {}).items():
            assert described.get("description") or "$ref" in described, f"{name}.{field}"
    for verb, cls in STEPS.items():
        assert schema["$defs"][cls.__name__]["required"] == [verb]
        assert schema["$defs"][cls.__name__]["additionalProperties"] is False


def test_the_schema_accepts_the_job_of_the_design_and_refuses_what_the_model_refuses() -> None:
    schema = job_schema()
    assert accepts(schema, DESIGN, schema)
    assert not accepts(schema, {**DESIGN, "steps": [{"extract": "resiliparse", "limit": 3}]}, schema)
    assert not accepts(schema, {**DESIGN, "steps": [{"selec": {"top": 0.1}}]}, schema)
    assert not accepts(schema, {**DESIGN, "output": {"path": "out", "shard": "big"}}, schema)
    assert not accepts(schema, {**DESIGN, "stpes": []}, schema)


def accepts(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """JSON Schema validation (draft 2020-12), of the keywords that pydantic writes."""
    if "$ref" in schema:
        return accepts(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    kinds: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
        "number": (int, float),
    }  # fmt: skip
    kind = schema.get("type")
    if kind and (not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    tests = [
        "const" not in schema or value == schema["const"],
        "enum" not in schema or value in schema["enum"],
        "anyOf" not in schema or any(accepts(one, value, root) for one in schema["anyOf"]),
        "oneOf" not in schema or sum(accepts(one, value, root) for one in schema["oneOf"]) == 1,
    ]
    if isinstance(value, str):
        tests.append(re.search(schema.get("pattern", ""), value) is not None)
    if isinstance(value, int | float) and not isinstance(value, bool):
        tests += [value >= schema.get("minimum", value), value <= schema.get("maximum", value)]
    if isinstance(value, list):
        tests += [accepts(schema.get("items", {}), item, root) for item in value]
    if isinstance(value, dict):
        known, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
        tests += [key in value for key in schema.get("required", ())]
        tests += [len(value) >= schema.get("minProperties", 0), len(value) <= schema.get("maxProperties", 99)]
        for key, item in value.items():
            if key in known:
                tests.append(accepts(known[key], item, root))
            else:
                tests.append(accepts(extra, item, root) if isinstance(extra, dict) else bool(extra))
    return all(tests)
