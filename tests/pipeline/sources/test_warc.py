from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import brotli
import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.pipeline.sources import ContainerCounts, SourceFile, Split, plan_splits, read
from thresher.pipeline.sources.limits import ReadLimits
from thresher.pipeline.sources.warc_boundaries import next_member, next_plain_record
from thresher.schemas.records import RAW_TEXT
from warcio.archiveiterator import ArchiveIterator as WarcioIterator

from .crawl import http, members, page, record

Records = list[dict[str, Any]]


def read_bytes(
    data: bytes, folder: Path, name: str = "a.warc.gz", **split: Any
) -> tuple[Records, ContainerCounts]:
    path = folder / name
    path.write_bytes(data)
    return read_path(path, **split)


def read_path(path: Path, limits: ReadLimits | None = None, **split: Any) -> tuple[Records, ContainerCounts]:
    counts = ContainerCounts()
    records: Records = []
    for batch in read(Split(str(path), "warc", limits=limits or ReadLimits(), **split), counts):
        assert batch.schema == RAW_TEXT
        batch.validate(full=True)
        records += batch.to_pylist()
    assert counts.balanced
    return records, counts


def numbers(records: Records) -> list[int]:
    return [int(one["id"].rpartition(":")[2]) for one in records]


def places(records: Records) -> list[str]:
    return [one["source"].rpartition(":")[2] for one in records]


def faults(counts: ContainerCounts) -> list[tuple[str, str]]:
    return [(row["kind"], row["reason"]) for row in counts.errors().to_pylist()]


def test_a_page_becomes_a_record_with_its_address_and_date(tmp_path: Path) -> None:
    block = http(b"<p>hello</p>", "Content-Language: en", content_type="text/html; charset=latin1")
    (one,), counts = read_bytes(members([record("response", block, 7)])[0], tmp_path)
    assert one == {
        "id": "urn:uuid:7",
        "url": "https://example.org/7",
        "source": f"{tmp_path}/a.warc.gz:0",
        "date": "2024-01-02T03:04:05Z",
        "meta": '{"status":200,"content_language":"en"}',
        "text": None,
        "payload": b"<p>hello</p>",
        "content_type": "text/html; charset=latin1",
        "error": None,
        "detail": None,
    }
    assert counts.outcomes == {("file", "read"): 1, ("warc_record", "read"): 1}


def test_angle_brackets_around_an_address_are_taken_off(tmp_path: Path) -> None:
    one = record("response", http(b"<p>")).replace(
        b"URI: https://example.org/0", b"URI: <https://example.org/0>"
    )
    (found,), _ = read_bytes(gzip.compress(one), tmp_path)
    assert found["url"] == "https://example.org/0"


def test_a_record_without_an_id_gets_one_of_its_address_and_payload(tmp_path: Path) -> None:
    one = record("response", http(b"<p>")).replace(b"WARC-Record-ID: <urn:uuid:0>\r\n", b"")
    (found,), _ = read_bytes(gzip.compress(one), tmp_path)
    assert found["id"] == xxhash.xxh3_128_hexdigest(b"https://example.org/0\0<p>")


@pytest.mark.parametrize(
    ("block", "outcome"),
    [
        (record("request", b"GET / HTTP/1.1\r\n\r\n"), "skipped:request"),
        (record("warcinfo", b"software: x\r\n", content_type="application/warc-fields"), "skipped:warcinfo"),
        (record("metadata", b"a: b\r\n", content_type="application/warc-fields"), "skipped:metadata"),
        (record("revisit", http(b"")), "skipped:revisit"),
        (record("response", http(b"", status="404 Not Found")), "skipped:http_status"),
        (record("response", http(b"{}", content_type="application/json")), "skipped:not_html"),
        (record("response", http(b"\x89PNG", content_type=None)), "skipped:not_html"),
        (record("response", b"20240101", content_type="text/dns"), "skipped:not_http"),
        (record("conversion", b"%PDF", content_type="application/pdf"), "skipped:not_text"),
        (record("response", b"this is no HTTP at all"), "error:bad_http_header"),
        (record("response", http(b"<html>", content_type=None)), "read"),
        (record("response", http(b"x", content_type="application/xhtml+xml")), "read"),
        (record("response", http(b"x", content_type="Text/Plain;charset=utf-8")), "read"),
        (record("resource", b"<p>", content_type="text/html"), "read"),
        (record("resource", b"\x89PNG", content_type="image/png"), "skipped:not_html"),
        (record("resource", b"wget's log", content_type="text/plain"), "skipped:not_html"),
    ],
)
def test_each_record_is_read_or_skipped_with_a_reason(block: bytes, outcome: str, tmp_path: Path) -> None:
    records, counts = read_bytes(members([block, page(1)])[0] + members([page(1)])[0], tmp_path)
    expected = Counter({("warc_record", "read"): 1, ("file", "read"): 1})
    expected[("warc_record", outcome)] += 1
    assert counts.outcomes == dict(expected)
    assert len(records) == counts.outcomes["warc_record", "read"]


def test_the_text_of_a_wet_file_is_text(tmp_path: Path) -> None:
    good = record(
        "conversion", "größe\n".encode(), 1, "text/plain", ["WARC-Identified-Content-Language: deu"]
    )
    bad = record("conversion", b"gr\xf6\xdfe", 2, "text/plain")
    records, _ = read_bytes(b"".join(members([good, bad])), tmp_path, "a.warc.wet.gz")
    assert (records[0]["text"], records[0]["meta"]) == ("größe\n", '{"content_language":"deu"}')
    assert (records[1]["text"], records[1]["error"]) == (None, "invalid_utf8")


def test_the_codings_of_a_body_are_undone(tmp_path: Path) -> None:
    body = b"<p>hello</p>" * 30
    coded = brotli.compress(body)
    chunks = b"%x\r\n" % len(coded) + coded + b"\r\n0\r\n\r\n"
    one = record("response", http(chunks, "Transfer-Encoding: chunked", "Content-Encoding: br"))
    (found,), _ = read_bytes(gzip.compress(one), tmp_path)
    assert found["payload"] == body


@pytest.mark.parametrize(
    ("block", "limits", "error"),
    [
        (http(b"\x00nope", "Content-Encoding: br"), ReadLimits(), "bad_content_encoding"),
        (http(gzip.compress(bytes(5 << 20)), "Content-Encoding: gzip"), ReadLimits(), "decompression_bomb"),
        (http(b"<p>" * 100), ReadLimits(max_payload_bytes=100), "payload_too_large"),
    ],
)
def test_a_body_that_cannot_be_had_is_a_record_with_an_error(
    block: bytes, limits: ReadLimits, error: str, tmp_path: Path
) -> None:
    data = b"".join(members([record("response", block, 1), page(2, 8)]))
    records, counts = read_bytes(data, tmp_path, limits=limits)
    assert [one["error"] for one in records] == [error, None]
    assert records[0]["payload"] is None
    assert counts.outcomes["warc_record", "read"] == 2


def test_a_body_that_the_crawler_cut_keeps_what_there_is_of_it(tmp_path: Path) -> None:
    coded = gzip.compress(bytes(range(256)) * 500)
    one = record(
        "response", http(coded[:700], "Content-Encoding: gzip"), 1, headers=["WARC-Truncated: length"]
    )
    (found,), _ = read_bytes(gzip.compress(one), tmp_path)
    assert found["error"] is None
    assert bytes(range(256)).startswith(found["payload"][:256])
    assert json.loads(found["meta"])["truncated"] == "length"


PAGES = [page(number, 40 * number) for number in range(12)]
MEMBERS = members(PAGES)
STARTS = [sum(map(len, MEMBERS[:number])) for number in range(13)]


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (b"".join(MEMBERS), "a.warc.gz", [str(start) for start in STARTS[:12]]),
        (b"".join(PAGES), "a.warc", [str(sum(map(len, PAGES[:number]))) for number in range(12)]),
        (gzip.compress(b"".join(PAGES)), "a.warc.gz", None),
        (zstandard.compress(b"".join(PAGES)), "a.warc.zst", None),
        (b"".join(map(zstandard.compress, PAGES)), "a.warc.zst", None),
    ],
)
def test_every_packing_of_the_records_gives_the_same(
    data: bytes, name: str, expected: list[str] | None, tmp_path: Path
) -> None:
    records, counts = read_bytes(data, tmp_path, name)
    assert numbers(records) == list(range(12))
    assert counts.outcomes == {("file", "read"): 1, ("warc_record", "read"): 12}
    assert len(set(places(records))) == 12
    assert expected is None or places(records) == expected


@settings(max_examples=40, deadline=None)
@given(cuts=st.sets(st.integers(1, STARTS[-1]), max_size=5))
def test_every_record_belongs_to_exactly_one_split(
    cuts: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    data = b"".join(MEMBERS)
    whole, _ = read_bytes(data, folder)
    edges = [0, *sorted(cuts), None]
    pieces: Records = []
    for start, stop in pairwise(edges):
        records, counts = read_bytes(data, folder, start=start, stop=stop)
        assert not faults(counts)
        pieces += records
    assert pieces == whole


def test_every_single_cut_gives_each_record_once(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(MEMBERS[:4]))
    for cut in range(1, STARTS[4] + 1):
        before, after = read_path(path, stop=cut)[0], read_path(path, start=cut)[0]
        assert numbers(before) == [number for number in range(4) if STARTS[number] < cut]
        assert numbers(before) + numbers(after) == [0, 1, 2, 3]


def test_members_that_hold_several_records_are_not_torn_apart(tmp_path: Path) -> None:
    # The first member holds one record, so that the file looks as if each did.
    packed = [gzip.compress(PAGES[0])] + [
        gzip.compress(b"".join(PAGES[at : at + 3])) for at in range(1, 12, 3)
    ]
    data = b"".join(packed)
    for cut in (1, len(packed[0]), len(packed[0]) + 5, len(data) // 2, len(data) - 5):
        before, after = read_bytes(data, tmp_path, stop=cut)[0], read_bytes(data, tmp_path, start=cut)[0]
        assert numbers(before) + numbers(after) == list(range(12))


def test_a_split_that_begins_inside_a_stored_archive_is_noticed(tmp_path: Path) -> None:
    nested = b"".join(members([page(100), page(101)]))
    outer = gzip.compress(record("response", http(nested), 1), compresslevel=0)
    data = MEMBERS[0] + outer + MEMBERS[2]
    inside = data.index(nested)
    _, counts = read_bytes(data, tmp_path, stop=inside)
    assert faults(counts) == [("file", "split_boundary")]


def test_large_files_of_one_member_per_record_are_cut_and_others_are_not(tmp_path: Path) -> None:
    for data, count in ((b"".join(MEMBERS), 5), (gzip.compress(b"".join(PAGES), 0), 1), (b"".join(PAGES), 1)):
        path = tmp_path / "a.warc.gz"
        path.write_bytes(data)
        file = SourceFile(str(path), len(data), "")
        splits = plan_splits(file, "warc", {}, target_bytes=-(-len(data) // 5))
        assert len(splits) == count
        records = [one for split in splits for one in read_path(path, start=split.start, stop=split.stop)[0]]
        assert numbers(records) == list(range(12))


def test_a_limit_stops_reading(tmp_path: Path) -> None:
    records, counts = read_bytes(b"".join(MEMBERS), tmp_path, limit=5)
    assert numbers(records) == [0, 1, 2, 3, 4]
    assert counts.outcomes == {("file", "read"): 1, ("warc_record", "read"): 5}


@pytest.mark.parametrize("keep", range(0, STARTS[4] - STARTS[3], 7))
def test_a_truncated_file_keeps_the_records_before_and_says_where(keep: int, tmp_path: Path) -> None:
    records, counts = read_bytes(b"".join(MEMBERS)[: STARTS[3] + keep], tmp_path)
    assert numbers(records)[:3] == [0, 1, 2]
    if not keep:
        assert not faults(counts)
    elif len(records) == 4:  # only the member's checksum is missing
        assert STARTS[4] - STARTS[3] - keep <= 8
        assert faults(counts) == [("file", "truncated")]
    else:
        reasons = dict(faults(counts))
        assert reasons["file"] == "truncated"
        assert reasons["warc_record"] in ("truncated", "bad_http_header")
        assert counts.errors().to_pylist()[0]["source"].endswith(f":{STARTS[3]}")
        assert counts.met["warc_record"] == 4


def test_garbage_between_members_is_passed_over(tmp_path: Path) -> None:
    data = b"".join(MEMBERS[:3]) + b"\x1f\x8b\x08garbage" * 9 + b"".join(MEMBERS[3:])
    records, counts = read_bytes(data, tmp_path)
    assert numbers(records) == list(range(12))
    assert faults(counts) == [("warc_record", "corrupt"), ("file", "corrupt")]


@pytest.mark.parametrize("place", [12, 60, -6])
def test_a_corrupt_member_costs_one_record(place: int, tmp_path: Path) -> None:
    bad = bytearray(MEMBERS[5])
    bad[place] ^= 0x55
    records, counts = read_bytes(b"".join(MEMBERS[:5]) + bytes(bad) + b"".join(MEMBERS[6:]), tmp_path)
    assert set(range(12)) - set(numbers(records)) <= {5}
    assert ("file", "corrupt") in faults(counts)
    assert numbers(records) == sorted(numbers(records))


@pytest.mark.parametrize("packed", [True, False])
def test_a_record_without_a_length_costs_one_record(packed: bool, tmp_path: Path) -> None:
    bad = PAGES[2].replace(b"Content-Length", b"Content-Width")
    blocks = [*PAGES[:2], bad, *PAGES[3:]]
    data = b"".join(members(blocks) if packed else blocks)
    records, counts = read_bytes(data, tmp_path)
    assert numbers(records) == [0, 1, *range(3, 12)]
    assert faults(counts) == [("warc_record", "bad_header"), ("file", "bad_header")]


def test_garbage_in_an_uncompressed_file_is_passed_over(tmp_path: Path) -> None:
    data = b"".join(PAGES[:3]) + b"garbage\r\n\r\nmore\n" + b"".join(PAGES[3:])
    records, counts = read_bytes(data, tmp_path, "a.warc")
    assert numbers(records) == list(range(12))
    assert faults(counts) == [("warc_record", "bad_header"), ("file", "bad_header")]


def test_an_uncompressed_file_that_ends_inside_a_record_says_so(tmp_path: Path) -> None:
    records, counts = read_bytes(b"".join(PAGES[:3])[:-50], tmp_path, "a.warc")
    assert numbers(records) == [0, 1]
    assert faults(counts) == [("warc_record", "truncated"), ("file", "truncated")]


def test_a_length_beyond_any_file_is_a_record_that_breaks_off(tmp_path: Path) -> None:
    endless = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % 10**19, PAGES[2], count=1)
    records, counts = read_bytes(b"".join(PAGES[:2]) + endless, tmp_path, "a.warc")
    assert numbers(records)[:2] == [0, 1]
    assert ("file", "truncated") in faults(counts)


@pytest.mark.parametrize("content", [b"hello\n" * 50, b"\x00" * 100, b"WARC/1.0\r\n", b"\xff" * 2_500_000])
@pytest.mark.parametrize("packed", [True, False])
def test_what_is_no_warc_file_is_a_container_with_an_error(
    content: bytes, packed: bool, tmp_path: Path
) -> None:
    records, counts = read_bytes(gzip.compress(content) if packed else content, tmp_path)
    assert records == []
    assert ("file", "not_warc") in faults(counts)


def test_an_empty_compressed_file_is_truncated_and_an_empty_plain_one_holds_nothing(tmp_path: Path) -> None:
    assert faults(read_bytes(b"", tmp_path)[1]) == [("file", "truncated")]
    assert faults(read_bytes(b"", tmp_path, "a.warc")[1]) == []


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_damage_raises_and_no_record_is_given_twice(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = bytearray(b"".join(MEMBERS if data.draw(st.booleans()) else PAGES))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        match data.draw(st.sampled_from(["change", "delete", "insert"])):
            case "change":
                whole[place] = data.draw(st.integers(0, 255))
            case "delete":
                del whole[place : place + data.draw(st.integers(1, 300))]
            case "insert":
                whole[place:place] = data.draw(st.binary(min_size=1, max_size=50))
    records, counts = read_bytes(bytes(whole), tmp_path_factory.mktemp("damaged"))
    assert len(set(places(records))) == len(records)
    assert sum(n for (kind, _), n in counts.outcomes.items() if kind == "file") == 1


def test_boundaries_are_found_across_the_blocks_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for before in range((1 << 20) - 6, (1 << 20) + 3):
        path.write_bytes(b"\n" * before + MEMBERS[0])
        with path.open("rb") as file:
            assert next_member(file, 1) == before
        path.write_bytes(b"\n" * before + PAGES[0])
        with path.open("rb") as file:
            assert next_plain_record(file, 1) == before
            assert next_plain_record(file, before) == before
            assert next_plain_record(file, before + 1) is None


@pytest.mark.parametrize("name", ["sample-0000.warc.gz", "sample-0001.warc.gz", "whirlwind.warc.gz"])
def test_real_crawls_are_read_as_warcio_reads_them(name: str, shared_data: Path) -> None:
    path = shared_data / "web" / "warc" / name
    expected, kinds = {}, Counter[str]()
    with path.open("rb") as file:
        for one in WarcioIterator(file):
            kinds[one.rec_type] += 1
            if one.rec_type != "response" or one.http_headers.get_statuscode() != "200":
                continue
            mime = (one.http_headers.get_header("Content-Type") or "").partition(";")[0].strip().lower()
            if mime in ("text/html", "application/xhtml+xml", "text/plain"):
                expected[one.rec_headers.get_header("WARC-Record-ID").strip("<>")] = (
                    one.content_stream().read()
                )
    records, counts = read_path(path)
    assert {one["id"]: one["payload"] for one in records} == expected
    assert not faults(counts)
    assert counts.met["warc_record"] == sum(kinds.values())
    assert counts.outcomes["warc_record", "skipped:request"] == kinds["request"]


def test_a_real_wet_file_gives_its_text(shared_data: Path) -> None:
    (one,), counts = read_path(shared_data / "web" / "warc" / "whirlwind.warc.wet.gz")
    assert "Escopete" in one["text"]
    assert one["url"] == "https://an.wikipedia.org/wiki/Escopete"
    assert counts.outcomes["warc_record", "skipped:warcinfo"] == 1
