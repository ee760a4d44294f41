from __future__ import annotations

import gzip
import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.pipeline.sources import ContainerCounts, SourceFile, Split, plan_splits, read
from thresher.pipeline.sources.limits import ReadLimits
from thresher.pipeline.sources.reader import count
from thresher.schemas.records import RAW_TEXT

Records = list[dict[str, Any]]


def read_bytes(
    data: bytes, folder: Path, name: str = "a.jsonl", **split: Any
) -> tuple[Records, ContainerCounts]:
    path = folder / name
    path.write_bytes(data)
    counts = ContainerCounts()
    columns = split.pop("columns", {})
    if "max_line_bytes" in split:
        split["limits"] = ReadLimits(max_line_bytes=split.pop("max_line_bytes"))
    records: Records = []
    for batch in read(Split(str(path), "jsonl", columns=columns, **split), counts):
        assert batch.schema == RAW_TEXT
        batch.validate(full=True)
        assert batch.num_rows <= 1024
        records += batch.to_pylist()
    assert counts.balanced
    return records, counts


def test_five_lines_of_which_three_are_broken_make_five_records(tmp_path: Path) -> None:
    lines = [b'{"text": "one"}', b'{"text": "two', b"", b'{"title": "no text"}', b'{"text": "five", "id": 5}']
    records, counts = read_bytes(b"\n".join(lines) + b"\n", tmp_path)
    assert [(record["text"], record["error"]) for record in records] == [
        ("one", None),
        (None, "invalid_json"),
        (None, "empty_line"),
        (None, "missing_text"),
        ("five", None),
    ]
    assert [record["source"].rpartition(":")[2] for record in records] == ["0", "16", "30", "31", "52"]
    assert counts.outcomes == {("file", "read"): 1}


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b'{"text": "a"', "invalid_json", "column 13"),
        (b'{"text": "a", "n": NaN}', "invalid_json", "NaN is not JSON"),
        (b'{"text": "a", "n": -Infinity}', "invalid_json", "-Infinity is not JSON"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "invalid_json", "digits"),
        (b'{"text": ' + b"[" * 100_000, "invalid_json", "nested too deeply"),
        (b'{"text": "a\x00b"}', "invalid_json", "control character"),
        (b'["text"]', "not_an_object", "an array"),
        (b"null", "not_an_object", "null"),
        (b"3", "not_an_object", "a number"),
        (b'{"text": null}', "missing_text", "no field 'text'"),
        (b'{"text": 3}', "text_not_a_string", "a number"),
        (b'{"text": {"a": 1}}', "text_not_a_string", "an object"),
        (b'{"text": "\xff"}', "invalid_utf8", "byte 10"),
        (b'{"text": "a\\ud800"}', "invalid_unicode", "lone surrogate at character 1"),
        (b'{"text": "a", "url": "\\udfff"}', "invalid_unicode", "'url'"),
        (b" \t\r", "empty_line", None),
    ],
)
def test_a_line_that_cannot_be_used_says_why(
    line: bytes, reason: str, detail: str | None, tmp_path: Path
) -> None:
    (record,), _ = read_bytes(line, tmp_path)
    assert record["error"] == reason
    assert detail is None or detail in record["detail"]
    assert record["text"] is None
    assert record["id"] == xxhash.xxh3_128_hexdigest(b"\0" + line)


def test_a_surrogate_pair_and_an_escaped_null_character_are_text(tmp_path: Path) -> None:
    (record,), _ = read_bytes(b'{"text": "\\ud83d\\ude00\\u0000"}', tmp_path)
    assert record["text"] == "😀\0"


def test_the_other_fields_become_compact_json_in_their_order(tmp_path: Path) -> None:
    line = {
        "z": 1,
        "text": "t",
        "a": [1.5, None],
        "url": "http://a/",
        "ü": "ß",
        "date": "2024-01-01",
        "id": "x",
    }
    (record,), _ = read_bytes(json.dumps(line).encode(), tmp_path)
    assert record["meta"] == '{"z":1,"a":[1.5,null],"ü":"ß"}'
    assert (record["id"], record["url"], record["date"]) == ("x", "http://a/", "2024-01-01")


def test_meta_is_valid_json_whatever_the_fields_hold(tmp_path: Path) -> None:
    (record,), _ = read_bytes(
        b'{"text": "t", "big": 1e999, "bad": "\\ud800", "url": 7, "date": null}', tmp_path
    )
    assert json.loads(record["meta"]) == {"big": "inf", "bad": "\ufffd", "url": 7, "date": None}
    assert record["url"] is None


def test_columns_map_the_input_s_names(tmp_path: Path) -> None:
    columns = {"text": "raw_content", "url": "source_url", "id": "digest"}
    (record,), _ = read_bytes(
        b'{"raw_content": "t", "source_url": "u", "digest": "d", "url": "other"}', tmp_path, columns=columns
    )
    assert (record["text"], record["url"], record["id"], record["meta"]) == ("t", "u", "d", '{"url":"other"}')


def test_a_page_in_a_field_becomes_a_payload(tmp_path: Path) -> None:
    records, _ = read_bytes(
        '{"page": "<p>ü</p>", "text": "old"}\n{"text": "x"}'.encode(), tmp_path, columns={"html": "page"}
    )
    assert records[0]["payload"] == "<p>ü</p>".encode()
    assert (records[0]["text"], records[0]["content_type"]) == (None, "text/html; charset=utf-8")
    assert records[1]["error"] == "missing_html"


@pytest.mark.parametrize(
    ("given_id", "expected"), [('"abc"', "abc"), ("17", "17"), ("true", None), ('""', None)]
)
def test_an_id_is_a_string_or_an_integer_and_otherwise_a_hash(
    given_id: str, expected: str | None, tmp_path: Path
) -> None:
    (record,), _ = read_bytes(f'{{"text": "t", "url": "u", "id": {given_id}}}'.encode(), tmp_path)
    assert record["id"] == (expected or xxhash.xxh3_128_hexdigest(b"u\0t"))


def test_ids_do_not_depend_on_the_file_or_the_place_in_it(tmp_path: Path) -> None:
    line = b'{"text": "same", "url": "u"}\n'
    records, _ = read_bytes(line, tmp_path, "one.jsonl")
    others, _ = read_bytes(b'{"text": "before"}\n' + line.replace(b", ", b",  "), tmp_path, "two.jsonl")
    assert records[0]["id"] == others[1]["id"] != others[0]["id"]


def test_a_byte_order_mark_at_the_beginning_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    records, _ = read_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}\r\n', tmp_path)
    assert [record["text"] for record in records] == ["a", "b"]


def test_a_line_above_the_cap_is_an_error_and_the_next_is_read(tmp_path: Path) -> None:
    long = b'{"text": "' + b"a" * 3_000_000 + b'"}'
    records, _ = read_bytes(long + b'\n{"text": "b"}', tmp_path, max_line_bytes=2_000_000)
    assert [record["error"] for record in records] == ["line_too_long", None]
    assert records[1]["source"].endswith(f":{len(long) + 1}")
    exact, _ = read_bytes(long, tmp_path, max_line_bytes=len(long))
    assert exact[0]["error"] is None


def test_batches_hold_1024_rows_or_about_eight_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "x"}\n' * 2500)
    sizes = [batch.num_rows for batch in read(Split(str(path), "jsonl"), ContainerCounts())]
    assert sizes == [1024, 1024, 452]
    path.write_bytes(json.dumps({"text": "x" * (3 << 20)}).encode() + b"\n")
    path.write_bytes(path.read_bytes() * 7)
    sizes = [batch.num_rows for batch in read(Split(str(path), "jsonl"), ContainerCounts())]
    assert sizes == [3, 3, 1]


LINES = st.lists(
    st.one_of(
        st.just(b""), st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"x")), st.just(b'{"text": "a"}')
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(lines=LINES, final=st.booleans(), data=st.data())
def test_every_line_belongs_to_exactly_one_split(
    lines: list[bytes], final: bool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("splits")
    content = b"\n".join(lines) + (b"\n" if final and lines else b"")
    whole, _ = read_bytes(content, folder)
    assert len(whole) == content.count(b"\n") + (content != b"" and not content.endswith(b"\n"))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(content))), max_size=6)))
    edges = [0, *cuts, None]
    pieces: Records = []
    files = 0
    for start, stop in pairwise(edges):
        records, counts = read_bytes(content, folder, start=start, stop=stop)
        pieces += records
        files += counts.met.get("file", 0)
    assert pieces == whole
    assert files == 1


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_compressed_files_of_many_members_give_the_same_records(pack: Any, tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"document {number}"}).encode() + b"\n" for number in range(50)]
    plain, _ = read_bytes(b"".join(lines), tmp_path)
    joined = b"".join(lines)
    members = b"".join(pack(joined[at : at + 333]) for at in range(0, len(joined), 333))
    packed, counts = read_bytes(members, tmp_path)
    assert packed == plain
    assert counts.outcomes == {("file", "read"): 1}


def test_a_truncated_file_keeps_its_beginning_and_is_a_container_with_an_error(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b'{"text": "%d"}\n' % number for number in range(5000)))
    records, counts = read_bytes(whole[: len(whole) // 2], tmp_path, "a.jsonl.gz")
    assert 100 < len(records) < 5000
    assert [record["text"] for record in records[:-1]] == [str(number) for number in range(len(records) - 1)]
    assert records[-1]["error"] in (None, "truncated_line")
    assert counts.outcomes == {("file", "error:truncated"): 1}
    assert counts.errors().to_pylist()[0]["reason"] == "truncated"


def test_an_empty_file_has_no_records_and_an_empty_compressed_one_is_truncated(tmp_path: Path) -> None:
    assert read_bytes(b"", tmp_path)[1].outcomes == {("file", "read"): 1}
    assert read_bytes(b"", tmp_path, "a.jsonl.gz")[1].outcomes == {("file", "error:truncated"): 1}


def test_a_limit_stops_reading_and_count_says_how_many_there_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "x"}\nbroken\n\n{"text": "y"}\n')
    split = Split(str(path), "jsonl", limit=2)
    assert [batch.num_rows for batch in read(split, ContainerCounts())] == [2]
    assert (count(split), count(split, 1), count(replace(split, limit=None), 99)) == (2, 1, 4)


def test_plain_files_are_cut_by_bytes_and_compressed_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "0123456789"}\n' * 100)
    file = SourceFile(str(path), path.stat().st_size, "")
    splits = plan_splits(file, "jsonl", {"text": "text"}, target_bytes=500)
    assert [(split.start, split.stop) for split in splits] == [
        (0, 460), (460, 920), (920, 1380), (1380, 1840), (1840, None)
    ]  # fmt: skip
    assert sum(split.size for split in splits) == file.size
    assert [Split(**json.loads(json.dumps(asdict(split)))) for split in splits] == splits
    path.write_bytes(gzip.compress(path.read_bytes(), 0))
    assert len(plan_splits(replace(file, size=path.stat().st_size), "jsonl", {}, target_bytes=500)) == 1


def test_a_file_that_is_not_there_raises_and_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read(Split(str(tmp_path / "none.jsonl"), "jsonl"), ContainerCounts()))
    with pytest.raises(ValueError, match="no reader for the format 'docx'"):
        list(read(Split(str(tmp_path / "none.jsonl"), "docx"), ContainerCounts()))


@pytest.mark.parametrize("name", ["cc_en_head-0091.jsonl.gz", "cc_en_head-0174.jsonl.gz"])
def test_real_lines_are_read_as_json_reads_them(name: str, shared_data: Path) -> None:
    path = shared_data / "text" / name
    with gzip.open(path) as file:
        expected = [json.loads(line) for line in file]
    field = "text" if "text" in expected[0] else "raw_content"
    records: Records = []
    for batch in read(Split(str(path), "jsonl", columns={"text": field}), ContainerCounts()):
        records += batch.to_pylist()
    assert [record["text"] for record in records] == [line[field] for line in expected]
    assert json.loads(records[0]["meta"] or "{}").keys() <= expected[0].keys()
