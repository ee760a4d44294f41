"""Documents made to cost or to confuse, among good ones: each has its outcome, no good one changes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import corpus
import pytest

from . import pages, whole

MILLION = 1_000_000
# What is no document, each some megabytes, and what becomes of it.
ODD: dict[str, tuple[str, str]] = {
    "one character": ("a" * 5 * MILLION, "dropped: too_few_words"),
    "one word": ("word " * MILLION, "dropped: top_2gram"),
    "digits": ("7" * 5 * MILLION, "dropped: too_few_words"),
    "numbers": ("12345 " * MILLION, "dropped: top_2gram"),
    "joined emoji": ("\U0001f468\u200d\U0001f469\u200d\U0001f467" * 300_000, "dropped: too_few_words"),
    "right-to-left marks": ("\u200f\u202e" * MILLION, "dropped: too_few_words"),
    "null characters": ("\0" * 3 * MILLION, "dropped: too_few_words"),
    "spaces": (" " * 5 * MILLION, "dropped: too_few_words"),
    "newlines": ("\n" * 3 * MILLION, "dropped: too_few_words"),
    "accents": ("e" + "\u0301" * 2 * MILLION, "dropped: too_few_words"),
    "a million equal lines": ("the same line\n" * MILLION, "dropped: duplicate_lines"),
    "a million lines": ("".join(f"line {n}\n" for n in range(MILLION)), "dropped: too_many_words"),
    "signs": ("<{[(" * MILLION, "dropped: too_few_words"),
    "dots": (". " * MILLION, "dropped: top_2gram"),
}
STEPS: list[Any] = [
    {"url": {"words": ["forbidden"]}},
    {"edit": "pii"},
    {"filter": "gopher_repetition"},
    {"filter": "gopher_quality"},
    {"rule": 'not matches(text, "(a+)+$|(x|xx)+y") or word_count > 50', "name": "pattern"},
    {"language": {"keep": ["en"], "min_score": 0.1}},
    {"dedup": {"minhash": {"bands": 14, "rows": 8, "ngram": 5}}},
    {"select": {"top": "100%", "by": "word_count", "unit": "characters"}},
]


def good(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"id": f"good-{n}", "text": corpus.document(n), "url": f"https://example.org/{n}"}
        for n in range(count)
    ]


def job(source: str | list[str], output: Path, steps: list[Any] = STEPS) -> dict[str, Any]:
    return {
        "name": "hostile",
        "input": source,
        "steps": steps,
        "output": {"path": str(output), "shard": "100KB"},
    }


def check_accounts(done: whole.Finished, records: int) -> None:
    totals = done.totals
    gone = sum(sum(reasons.values()) for reasons in totals["dropped"].values())
    gone += sum(totals["duplicates"].values()) + sum(totals["errors"].values())
    assert totals["in"] == records == totals["kept"] + gone
    assert totals["kept"] == totals["written"]


def without_source(kept: dict[str, dict[str, Any]], prefix: str = "good-") -> dict[str, dict[str, Any]]:
    return {id_: {**row, "source": None, "meta": None} for id_, row in kept.items() if id_.startswith(prefix)}


def test_what_is_no_document_is_dropped_with_its_reason_and_no_good_one_changes(tmp_path: Path) -> None:
    calm = corpus.write(tmp_path / "calm.jsonl", good())
    expected = without_source(whole.run(job(str(calm), tmp_path / "calm"), tmp_path).kept)
    assert len(expected) > 5
    odd = [{"id": name, "text": text, "url": "https://h.example/"} for name, (text, _) in ODD.items()]
    records = [record for pair in zip(good(), odd, strict=False) for record in pair] + good()[len(odd) :]
    done = whole.run(
        job(str(corpus.write(tmp_path / "in.jsonl", records)), tmp_path / "out"), tmp_path, timeout=240
    )
    assert done.status == 0, done.told
    check_accounts(done, len(records))
    assert {name: done.lost.get(name) for name in ODD} == {name: told for name, (_, told) in ODD.items()}
    assert without_source(done.kept) == expected
    assert done.megabytes < 1500


def test_lines_that_cannot_be_records_are_errors_and_no_good_one_changes(tmp_path: Path) -> None:
    lines = [json.dumps(record).encode() for record in good(6)]
    broken = {
        b'{"id": "surrogate", "text": "a\\ud800b"}': "error: invalid_unicode",
        b'{"id": "number", "text": 5}': "error: text_not_a_string",
        b'{"id": "other"}': "error: missing_text",
        b'{"id": "cut", "text": "': "error: invalid_json",
        b'{"id": "deep", "text": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}": "error: invalid_json",
        b'{"id": "latin", "text": "caf\xe9"}': "error: invalid_utf8",
        b"[1]": "error: not_an_object",
        b"\0" * 100: "error: invalid_json",
        b"": "error: empty_line",
    }
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\n".join([*lines[:3], *broken, *lines[3:]]) + b"\n")
    done = whole.run(job(str(source), tmp_path / "out", [{"dedup": "exact"}]), tmp_path)
    assert done.status == 0, done.told
    check_accounts(done, 6 + len(broken))
    assert sorted(done.lost.values()) == sorted(broken.values())
    assert {id_: row["text"] for id_, row in done.kept.items()} == {r["id"]: r["text"] for r in good(6)}


@pytest.mark.slow
def test_pages_that_are_made_to_cost_are_errors_of_their_own(tmp_path: Path) -> None:
    hostile = {
        "deep": (pages.html("<div>" * 100_000 + "x"), "error: too_deep"),
        "tags": (pages.html("<p>x" * 400_000), "error: too_large"),
        "attributes": (
            pages.html("<p " + "".join(f"a{n}=1 " for n in range(100_000)) + ">x"),
            "error: too_large",
        ),
        "reopened": (
            pages.html("".join(f"<font size={n}>" for n in range(10_000)) + "<p>x" * 10_000),
            "error: too_deep",
        ),
        "bomb": (pages.html_gzip(bytes(200_000_000)), "error: decompression_bomb"),
        "large": (pages.html("some words " * 6 * MILLION), "error: payload_too_large"),
        "nulls": (pages.html("\0" * MILLION), "dropped: too_few_words"),
        "empty": (pages.html(""), "dropped: empty_extraction"),
        "comment": (pages.html("<!--" * MILLION), "error: too_large"),
        "entities": (pages.html("&#x110000;&#xd800;" * 10), "dropped: too_few_words"),
    }
    articles = {record["id"]: record["text"] for record in good(8)}
    found = {name: pages.html(pages.paragraphs(text)) for name, text in articles.items()}
    steps = [{"extract": "resiliparse"}, {"filter": "gopher_quality"}]
    calm = whole.run(
        job(str(pages.write(tmp_path / "calm.warc.gz", found)), tmp_path / "calm", steps), tmp_path
    )
    expected = without_source(calm.kept, "urn:good-")
    assert len(expected) == 8
    mixed = dict(list(found.items())[:4]) | {name: page for name, (page, _) in hostile.items()} | found
    done = whole.run(job(str(pages.write(tmp_path / "in.warc.gz", mixed)), tmp_path / "out", steps), tmp_path)
    assert done.status == 0, done.told
    check_accounts(done, len(mixed))
    found_out = {name: done.lost[f"urn:{name}"] for name in hostile}
    assert found_out == {name: told for name, (_, told) in hostile.items()}
    assert without_source(done.kept, "urn:good-") == expected
    assert done.megabytes < 1500


def test_ids_and_fields_of_any_kind_are_carried_or_replaced_and_counted(tmp_path: Path) -> None:
    long = "i" * MILLION
    records: list[dict[str, Any]] = [
        {"id": "same", "text": corpus.document(1)},
        {"id": "same", "text": corpus.document(2)},
        {"id": "", "text": corpus.document(3)},
        {"id": None, "text": corpus.document(4)},
        {"id": ["list"], "text": corpus.document(5)},
        {"id": 7, "text": corpus.document(6)},
        {"id": long, "text": corpus.document(7)},
        {"id": "null\0character", "text": corpus.document(8)},
        {"id": "address", "text": corpus.document(9), "url": "https://example.org/" + "u" * MILLION},
        {
            "id": "ours",
            "text": corpus.document(10),
            "position": 5,
            "source": "me",
            "error": "boom",
            "lang": "xx",
            "meta": {"a": [{"b": None}]},
            "word_count": "many",
            "date": 1_700_000_000,
            "bytes": -1,
        },
    ]
    steps = [
        {"url": {"words": ["forbidden"]}},
        {"rule": "word_count > 10", "name": "words"},
        {"dedup": "exact"},
        {"select": {"top": "100%", "by": "word_count", "unit": "records"}},
    ]
    output = tmp_path / "out"
    plan = job(str(corpus.write(tmp_path / "in.jsonl", records)), output, steps)
    plan["output"]["shuffle"] = "global"
    done = whole.run(plan, tmp_path)
    assert done.status == 0, done.told
    check_accounts(done, len(records))
    assert (done.totals["kept"], done.totals["repeated_ids"]) == (10, 1)
    assert {"same", "7", long, "null\0character", "address", "ours"} < set(done.kept)
    assert done.kept["address"]["url"] == records[8]["url"]
    ours = done.kept["ours"]
    assert ours["source"] == f"{tmp_path / 'in.jsonl'}:{ours['source'].rpartition(':')[2]}"
    theirs = {name: value for name, value in records[9].items() if name not in ("id", "text")}
    assert json.loads(ours["meta"]) == theirs
    assert ours["date"] is None


def test_columns_of_parquet_that_have_our_names_go_to_meta(tmp_path: Path) -> None:
    import datetime

    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 5
    when = datetime.datetime(2024, 1, 2, 3, 4, 5)
    table = pa.table(
        {
            "id": [f"row-{n}" for n in range(count)],
            "text": [corpus.document(n) for n in range(count)],
            "date": pa.array([when] * count, pa.timestamp("us")),
            "position": pa.array([7] * count, pa.uint64()),
            "source": ["mine"] * count,
            "lang": ["xx"] * count,
            "input": ["elsewhere"] * count,
            "payload": [b"\xff"] * count,
            "error": ["boom"] * count,
            "nested": pa.array([{"a": [[1], None]}] * count),
            "word_count": ["many"] * count,
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    steps = [{"rule": "word_count > 10", "name": "words"}, {"dedup": "exact"}]
    done = whole.run(job(str(tmp_path / "in.parquet"), tmp_path / "out", steps), tmp_path)
    assert done.status == 0, done.told
    assert list(done.kept) == [f"row-{n}" for n in range(count)]
    row = done.kept["row-3"]
    assert row["text"] == corpus.document(3)
    assert datetime.datetime.fromisoformat(row["date"]) == when
    meta = json.loads(row["meta"])
    assert (meta["position"], meta["source"], meta["error"], meta["lang"]) == (7, "mine", "boom", "xx")
    assert meta["nested"] == {"a": [[1], None]}


@pytest.mark.parametrize("place", ["first", pytest.param("last", marks=pytest.mark.slow)])
def test_a_gzip_bomb_beside_good_files_is_a_named_container(place: str, tmp_path: Path) -> None:
    corpus.write(tmp_path / "in" / "m.jsonl", good(10))
    bomb = tmp_path / "in" / f"{'a' if place == 'first' else 'z'}.jsonl.gz"
    with gzip.open(bomb, "wb", 9) as file:
        for _ in range(1000):
            file.write(bytes(1 << 20))
    assert bomb.stat().st_size < 1_100_000
    plan = job(str(tmp_path / "in" / "*"), tmp_path / "out", [{"dedup": "exact"}])
    plan["input"] = [{"path": plan["input"], "limits": {"max_line_bytes": "8MB"}}]
    done = whole.run(plan, tmp_path)
    assert done.status == 0, done.told
    assert done.containers == ["decompression_bomb"]
    assert sorted(done.kept) == sorted(record["id"] for record in good(10))
    assert sorted(done.lost.values()) == ["error: line_too_long"]
    assert done.megabytes < 600


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_document_of_200_megabytes_and_a_line_of_50_pass_a_whole_job(tmp_path: Path) -> None:
    sentence = "The river and the mountain have {} stones that people of the world count with care.\n"
    large = "".join(sentence.format(n) for n in range(2_400_000))
    assert len(large) > 200_000_000
    source = tmp_path / "in.jsonl"
    corpus.write(source, good(10))
    with source.open("a") as file:
        file.write(json.dumps({"id": "large", "text": large}) + "\n")
        file.write('{"id": "line", "text": "' + "x" * 50_000_000 + '"}\n')
    quality = {"filter": {"gopher_quality": {"max_words": 10**9}}}
    steps = [quality, *(step for step in STEPS if "filter" not in step)]
    done = whole.run(job(str(source), tmp_path / "out", steps), tmp_path, 800)
    assert done.status == 0, done.told
    check_accounts(done, 12)
    assert done.kept["large"]["text"] == large
    assert done.lost["line"] == "dropped: too_few_words"
    assert {name for name in done.kept if name.startswith("good")} == {r["id"] for r in good(10)}
    assert done.megabytes < 25 * len(large) / 1e6
