"""Evaluation sets: their names, their items, and the texts of their fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from thresher.pipeline.evaluation_sets import (
    EvaluationError,
    check_evaluation_sets,
    evaluation_files,
    read_items,
    set_names,
    text_of,
)
from thresher.pipeline.sources.files import SourceFile


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/e/mmlu.jsonl", "/e/arc.v2.jsonl.gz"], ["mmlu", "arc.v2"]),
        (["/e/mmlu/test.jsonl", "/e/arc/test.jsonl", "/e/gsm8k.csv"], ["mmlu/test", "arc/test", "gsm8k"]),
        (["/e/quiz.jsonl", "/e/quiz.csv"], ["quiz.jsonl", "quiz.csv"]),
        (["/a/x/test.csv", "/b/x/test.csv"], ["a/x/test", "b/x/test"]),
    ],
)
def test_a_set_has_the_name_of_its_file_and_what_tells_it_from_others(
    paths: list[str], names: list[str]
) -> None:
    assert set_names([SourceFile(path, 1, "") for path in paths]) == names


@pytest.mark.parametrize(
    ("item", "fields", "text"),
    [
        ({"q": "one", "a": "two"}, ["q", "a"], "one\ntwo"),
        ({"q": "one", "a": 2, "b": None}, ["q", "a", "b", "c"], "one"),
        ({"choices": {"label": ["A", "B"], "text": ["one", "two"]}}, ["choices.text"], "one\ntwo"),
        ({"choices": [{"text": "one"}, {"text": "two"}]}, ["choices.text"], "one\ntwo"),
        ({"a.b": "one", "a": {"b": "two"}}, ["a.b"], "one"),
        ({"a": {"b": ["one", ["two", 3]]}}, ["a"], "one\ntwo"),
        ({"a": 1}, ["a", "a.b"], None),
    ],
)
def test_the_text_of_an_item_is_every_string_of_its_fields(
    item: dict[str, Any], fields: list[str], text: str | None
) -> None:
    assert text_of(item, fields) == text


def test_items_of_all_formats_are_the_same(tmp_path: Path) -> None:
    items = [{"q": "one, two", "a": "three"}, {"q": 'with "quotes"\nand a line', "a": "é"}]
    (tmp_path / "e.jsonl").write_text("\n".join(json.dumps(item) for item in items), encoding="utf-8-sig")
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "e.parquet")
    (tmp_path / "e.csv").write_text('q,a\n"one, two",three\n"with ""quotes""\nand a line",é\n')
    (tmp_path / "e.tsv").write_text('q\ta\none, two\tthree\n"with ""quotes""\nand a line"\té\n')
    for name in ("e.jsonl", "e.parquet", "e.csv", "e.tsv"):
        assert [dict(item) for _, item in read_items(str(tmp_path / name))] == items, name


def test_items_are_numbered_by_lines(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text('{"q": "one"}\n\n{"q": "two"}\n')
    assert [number for number, _ in read_items(str(tmp_path / "e.jsonl"))] == [1, 3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.jsonl", b'["q"]\n', "e.jsonl:1: not_an_object"),
        ("e.jsonl", b'{"q": "\xff"}\n', "e.jsonl:1: invalid_utf8"),
        ("e.csv", b"q,a\none\n", "line 2: 1 fields; the first row names 2"),
        ("e.csv", b"q\n\xff\n", "line 2: invalid_utf8"),
        ("e.csv", b'q\n"one\n', "line 2: unclosed_quote"),
        ("e.txt", b"one \xff", "e.txt: invalid_utf8"),
        ("e.txt.gz", b"\x1f\x8b\x08\x00cut", "e.txt.gz: "),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EvaluationError, match=message):
        list(read_items(str(tmp_path / name)))


def test_a_file_that_two_globs_name_is_one_set(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text('{"q": "one"}\n')
    files = evaluation_files([str(tmp_path / "*.jsonl"), str(tmp_path / "e.*")])
    assert [file.path for file in files] == [str(tmp_path / "e.jsonl")]


def test_each_set_needs_a_text_and_each_field_a_set(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "one", "choices": ["two"]}\n')
    (tmp_path / "b.jsonl").write_text('{"ctx": "one"}\n')
    against = [str(tmp_path / "*.jsonl")]
    check_evaluation_sets(against, ["question", "ctx"], ["choices"])
    with pytest.raises(EvaluationError, match=r"b\.jsonl: no text in question; the first item has ctx"):
        check_evaluation_sets(against, ["question"], ["ctx"])
    with pytest.raises(EvaluationError, match="no item has a text in answer"):
        check_evaluation_sets(against, ["question", "ctx"], ["answer"])
