from __future__ import annotations

import gzip
import io
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.pipeline.sources import ContainerCounts, Split, read
from thresher.pipeline.sources.limits import ReadLimits

from .crawl import http

Records = list[dict[str, Any]]
FILEDESC = b"1 0 A crawler\nURL IP-address Archive-date Content-type Archive-length\n"


def record(url: str, block: bytes, content_type: str = "text/html", more: str = "") -> bytes:
    head = f"{url} 192.0.2.7 20120905180747 {content_type}{more} {len(block)}\n"
    return head.encode() + block + b"\n"


def filedesc() -> bytes:
    head = f"filedesc://a.arc.gz 0.0.0.0 20120905180747 text/plain {len(FILEDESC)}\n"
    return head.encode() + FILEDESC + b"\n"


def page(number: int, size: int = 50) -> bytes:
    text = bytes(random.Random(number).choices(b"abcdefgh \n", k=size))
    return record(f"http://example.org/{number}", http(b"<html>%d " % number + text))


def read_bytes(
    data: bytes, folder: Path, limits: ReadLimits | None = None, limit: int | None = None
) -> tuple[Records, ContainerCounts]:
    path = folder / "a.arc"
    path.write_bytes(data)
    counts = ContainerCounts()
    batches = read(Split(str(path), "arc", limits=limits or ReadLimits(), limit=limit), counts)
    records = [row for batch in batches for row in batch.to_pylist()]
    assert counts.balanced
    return records, counts


def urls(records: Records) -> list[str]:
    return [record["url"].removeprefix("http://example.org/") for record in records]


def packed(records: list[bytes], way: str) -> bytes:
    if way == "plain":
        return b"".join(records)
    if way == "one member":
        return gzip.compress(b"".join(records), mtime=0)
    return b"".join(gzip.compress(one, mtime=0) for one in records)


WAYS = ["plain", "one member", "members"]


@pytest.mark.parametrize("way", ["plain", "members"])
def test_pages_are_read_as_an_independent_reader_reads_them(way: str, tmp_path: Path) -> None:
    warcio = pytest.importorskip("warcio.archiveiterator")
    data = packed([filedesc(), *(page(n) for n in range(30))], way)
    records, counts = read_bytes(data, tmp_path)
    theirs = [
        (r.rec_headers.get_header("uri"), r.content_stream().read())
        for r in warcio.ArchiveIterator(io.BytesIO(data))
        if r.http_headers is not None
    ]
    assert [(r["url"], r["payload"]) for r in records] == theirs
    assert len(theirs) == 30
    assert records[0]["date"] == "2012-09-05T18:07:47Z"
    assert records[0]["content_type"] == "text/html"
    assert counts.outcomes == {
        ("arc_record", "read"): 30,
        ("arc_record", "skipped:filedesc"): 1,
        ("file", "read"): 1,
    }


def test_one_gzip_member_around_all_records_changes_nothing_but_where_they_stand(tmp_path: Path) -> None:
    found = [read_bytes(packed([page(n) for n in range(9)], way), tmp_path)[0] for way in WAYS]
    assert len(found[0]) == 9
    for records in found:
        assert [r | {"source": ""} for r in records] == [r | {"source": ""} for r in found[0]]


def test_what_is_no_page_is_skipped_with_its_reason(tmp_path: Path) -> None:
    data = b"".join(
        [
            record("http://example.org/gone", http(b"gone", status="404 Not Found")),
            record("http://example.org/picture", http(b"GIF89a", content_type="image/gif"), "image/gif"),
            record("dns:example.org", b"20120905 example.org 192.0.2.7", "text/dns"),
            record("http://example.org/odd", b"no http at all"),
            record("http://example.org/with space", http(b"<html>x")),
            record("http://example.org/v2", http(b"<html>y"), more=" 200 sum - 17 file"),
            record("http://example.org/none", http(b"plain", content_type=None), "no-type"),
        ]
    )
    records, counts = read_bytes(data, tmp_path)
    assert urls(records) == ["with space", "v2"]
    assert {key[1]: n for key, n in counts.outcomes.items() if key[0] == "arc_record"} == {
        "error:bad_http_header": 1,
        "read": 2,
        "skipped:http_status": 1,
        "skipped:not_html": 2,
        "skipped:not_http": 1,
    }


def test_codings_of_a_page_are_undone_within_limits(tmp_path: Path) -> None:
    coded = http(gzip.compress(b"<html>coded"), "Content-Encoding: gzip")
    bomb = http(gzip.compress(bytes(5 << 20)), "Content-Encoding: gzip")
    large = http(b"<html>" + b"x" * 200_000)
    blocks = [record(f"http://example.org/{n}", block) for n, block in enumerate([coded, bomb, large])]
    records, _ = read_bytes(b"".join(blocks), tmp_path, ReadLimits(max_payload_bytes=100_000))
    assert [(r["payload"], r["error"]) for r in records] == [
        (b"<html>coded", None),
        (None, "decompression_bomb"),
        (None, "payload_too_large"),
    ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", [-3, 4])
def test_a_wrong_length_costs_one_record_and_is_named(way: str, change: int, tmp_path: Path) -> None:
    wrong = page(1)
    length = int(wrong.partition(b"\n")[0].rpartition(b" ")[2])
    wrong = wrong.replace(b" %d\n" % length, b" %d\n" % (length + change), 1)
    records, counts = read_bytes(packed([page(0), wrong, page(2), page(3)], way), tmp_path)
    assert urls(records) == (["0", "2", "3"] if change < 0 else ["0", "3"])
    assert counts.outcomes["arc_record", "error:wrong_length"] == 1
    assert counts.outcomes["file", "error:wrong_length"] == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_file_cut_in_the_middle_keeps_what_came_before(way: str, tmp_path: Path) -> None:
    data = packed([filedesc(), *(page(n, 5000) for n in range(20))], way)
    records, counts = read_bytes(data[: len(data) * 3 // 4], tmp_path)
    assert urls(records) == [str(n) for n in range(len(records))]
    assert 5 < len(records) < 20
    assert counts.outcomes["file", "error:truncated"] == 1
    assert counts.outcomes["arc_record", "error:truncated"] == 1


def test_reading_goes_on_behind_a_damaged_member(tmp_path: Path) -> None:
    members = [gzip.compress(page(n, 3000), mtime=0) for n in range(5)]
    damaged = bytearray(members[2])
    damaged[len(damaged) // 2 :] = b"\xff" * (len(damaged) - len(damaged) // 2)
    records, counts = read_bytes(b"".join([*members[:2], bytes(damaged), *members[3:]]), tmp_path)
    assert urls(records) == ["0", "1", "3", "4"]
    assert counts.outcomes["file", "error:corrupt"] == 1


@pytest.mark.parametrize("data", [b"<html>a page</html>", bytes(1000), b"WARC/1.0\r\n\r\n"])
def test_another_kind_of_file_is_named_so(data: bytes, tmp_path: Path) -> None:
    records, counts = read_bytes(data, tmp_path)
    assert records == []
    assert counts.outcomes["file", "error:not_arc"] == 1


def test_no_more_records_are_read_than_asked_for(tmp_path: Path) -> None:
    records, _ = read_bytes(b"".join(page(n) for n in range(9)), tmp_path, limit=3)
    assert urls(records) == ["0", "1", "2"]


@given(data=st.data())
def test_any_damage_ends_in_accounts_that_balance(data: st.DataObject, tmp_path_factory: Any) -> None:
    whole = packed([filedesc(), *(page(n, 300) for n in range(4))], data.draw(st.sampled_from(WAYS)))
    at = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(max_size=20))
    records, _ = read_bytes(whole[:at] + noise + whole[at + len(noise) :], tmp_path_factory.mktemp("arc"))
    assert len(records) <= 4
