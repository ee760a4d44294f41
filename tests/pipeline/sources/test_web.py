from __future__ import annotations

import gzip
import io
import json
import random
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from thresher.pipeline.sources import ContainerCounts, SourceError, SourceFile, expand, plan_splits, read
from thresher.pipeline.sources.files import open_file
from thresher.pipeline.sources.patience import ReadError
from thresher.pipeline.sources.reader import read_texts

from . import crawl
from .web_server import Handler, Server


def lines(count: int, size: int = 400) -> bytes:
    choice = random.Random(count)
    texts = ("".join(choice.choices("abcdefghij ", k=size)) for _ in range(count))
    return b"".join(json.dumps({"id": str(i), "text": text}).encode() + b"\n" for i, text in enumerate(texts))


def ids(file: SourceFile, target_bytes: int = 1 << 30) -> list[str]:
    format_ = file.path.rpartition("/")[2].split(".")[1]
    found: list[str] = []
    for split in plan_splits(file, format_, {}, target_bytes):
        counts = ContainerCounts()
        for batch in read(split, counts):
            assert batch["error"].null_count == len(batch)
            found += batch["id"].to_pylist()
        assert not counts.errors().num_rows
    return found


def all_ids(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_a_file_comes_whole_in_growing_blocks_each_asked_for_once(web: Server) -> None:
    web.files["a.jsonl"] = data = lines(20_000)
    [file] = expand(web.url("a.jsonl"))
    assert file.size == len(data)
    web.body_bytes, web.requests = 0, []
    assert ids(file) == all_ids(20_000)
    assert web.asked("a.jsonl") <= 12
    assert web.body_bytes < len(data) + 1000


def test_splits_of_one_file_ask_for_their_own_bytes(web: Server) -> None:
    web.files["a.jsonl"] = data = lines(20_000)
    [file] = expand(web.url("a.jsonl"))
    assert len(plan_splits(file, "jsonl", {}, 3 << 20)) == 3
    web.body_bytes = 0
    assert ids(file, 3 << 20) == all_ids(20_000)
    assert web.body_bytes < 2 * len(data)


def test_pages_come_whole_from_a_crawl_that_is_cut_in_splits(web: Server) -> None:
    web.files["a.warc.gz"] = b"".join(crawl.members(crawl.page(n, 20_000) for n in range(20)))
    [file] = expand(web.url("a.warc.gz"))
    assert len(plan_splits(file, "warc", {}, 1000)) > 3
    assert ids(file, 1000) == [f"urn:uuid:{n}" for n in range(20)]


def test_a_server_that_is_busy_at_first_is_asked_again(web: Server) -> None:
    web.files["a.jsonl"] = lines(50)

    def busy(request: Handler, number: int) -> bool:
        if number in (0, 2, 3):
            request.refuse(503)
            return True
        return False

    web.faults["a.jsonl"] = busy
    assert ids(expand(web.url("a.jsonl"))[0]) == all_ids(50)
    assert web.asked("a.jsonl") > 4


def test_the_server_says_how_long_to_wait(web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("thresher.pipeline.sources.patience.time.sleep", slept.append)
    web.files["a.jsonl"] = b"x"

    def busy(request: Handler, number: int) -> bool:
        if number < 2:
            request.refuse(429, Retry_After="7" if number else "100000")
        return number < 2

    web.faults["a.jsonl"] = busy
    assert expand(web.url("a.jsonl"))[0].size == 1
    assert [seconds for seconds in slept if seconds] == [60.0, 7.0]


def test_a_server_that_stays_busy_is_given_up_with_its_url(web: Server) -> None:
    web.files["a.jsonl"] = lines(50)
    [file] = expand(web.url("a.jsonl"))

    def busy(request: Handler, number: int) -> bool:
        request.refuse(503)
        return True

    web.faults["a.jsonl"] = busy
    before = web.asked("a.jsonl")
    with pytest.raises(ReadError, match=r"http://.*/a\.jsonl: .*given up after 4 attempts: Refused: 503"):
        ids(file)
    assert web.asked("a.jsonl") == before + 4
    with pytest.raises(SourceError, match=r"http://.*/a\.jsonl: given up after 4 attempts"):
        expand(file.path)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_a_connection_cut_in_the_middle_is_taken_up_where_it_broke(suffix: str, web: Server) -> None:
    plain = lines(4000)
    web.files[f"a.{suffix}"] = data = gzip.compress(plain, 1) if suffix.endswith("gz") else plain

    def cut(request: Handler, number: int) -> bool:
        request.give(data, cut=100_000)
        return True

    web.faults[f"a.{suffix}"] = cut
    assert ids(expand(web.url(f"a.{suffix}"))[0]) == all_ids(4000)
    starts = [int(asked.partition("=")[2].partition("-")[0]) for _, _, asked in web.requests if asked]
    assert 100_000 in starts


def test_a_connection_that_never_gets_further_is_given_up_at_that_byte(web: Server) -> None:
    web.files["a.jsonl"] = data = lines(4000)
    [file] = expand(web.url("a.jsonl"))

    def cut(request: Handler, number: int) -> bool:
        start = int((request.headers["Range"] or "=0-").partition("=")[2].partition("-")[0])
        request.give(data, cut=max(0, 70_000 - start))
        return True

    web.faults["a.jsonl"] = cut
    with pytest.raises(ReadError, match=r"a\.jsonl: byte 70000: given up after 4 attempts"):
        ids(file)


def test_a_server_without_ranges_is_read_in_one_go_and_its_file_is_not_cut(web: Server) -> None:
    web.files["a.jsonl"] = data = lines(20_000)
    web.ranges = False
    [file] = expand(web.url("a.jsonl"))
    assert file.size == len(data)
    assert len(plan_splits(file, "jsonl", {}, 1 << 20)) == 1
    assert ids(file, 1 << 20) == all_ids(20_000)


def test_a_server_without_ranges_that_breaks_off_is_read_again_from_the_start(web: Server) -> None:
    web.files["a.jsonl"] = data = lines(4000)
    web.ranges = False
    [file] = expand(web.url("a.jsonl"))
    broken: list[int] = []

    def cut(request: Handler, number: int) -> bool:
        if len(broken) < 3:
            broken.append(number)
            request.give(data, cut=500_000)
            return True
        return False

    web.faults["a.jsonl"] = cut
    assert ids(file) == all_ids(4000)


def test_parquet_works_on_a_server_without_ranges(web: Server) -> None:
    written = io.BytesIO()
    pq.write_table(pa.table({"id": all_ids(1000), "text": ["t"] * 1000}), written, row_group_size=200)
    web.files["a.parquet"] = written.getvalue()
    web.ranges = False
    assert ids(expand(web.url("a.parquet"))[0]) == all_ids(1000)


def test_a_body_shorter_than_its_content_length_is_never_taken_for_the_end(web: Server) -> None:
    web.files["a.jsonl"] = data = lines(500)
    web.ranges = False

    def lie(request: Handler, number: int) -> bool:
        request.give(data, length=len(data) + 10)
        return True

    web.faults["a.jsonl"] = lie
    [file] = expand(web.url("a.jsonl"))
    with pytest.raises(ReadError, match=r"a\.jsonl: byte \d+: given up after 4 attempts"):
        ids(file)


def test_ranges_of_a_file_whose_length_was_told_wrongly_are_refused(web: Server) -> None:
    web.files["a.jsonl"] = data = lines(500)

    def lie(request: Handler, number: int) -> bool:
        request.give(data, length=len(data) + 10)
        return True

    web.faults["a.jsonl"] = lie
    [file] = expand(web.url("a.jsonl"))
    with pytest.raises(ReadError, match=r"a\.jsonl"):
        ids(file)


def test_a_server_that_does_not_tell_the_length_is_refused_with_advice(web: Server) -> None:
    def chunked(request: Handler, number: int) -> bool:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"3\r\nabc\r\n0\r\n\r\n")
        return True

    web.faults["a.jsonl"] = chunked
    with pytest.raises(SourceError, match=r"a\.jsonl: the server does not say how long .* download it first"):
        expand(web.url("a.jsonl"))


def test_a_slow_server_is_waited_for_and_a_silent_one_is_not(web: Server) -> None:
    web.files["a.jsonl"] = data = lines(1000)
    web.files["b.jsonl"] = data
    files = [expand(web.url(name))[0] for name in ("a.jsonl", "b.jsonl")]

    def slow(request: Handler, number: int) -> bool:
        request.give(data, pause=0.2)
        return True

    def silent(request: Handler, number: int) -> bool:
        time.sleep(1.5)
        return False

    web.faults = {"a.jsonl": slow, "b.jsonl": silent}
    assert ids(files[0]) == all_ids(1000)
    with pytest.raises(ReadError, match="given up after 4 attempts"):
        ids(files[1])


def test_a_redirect_is_followed(web: Server) -> None:
    web.files["real.jsonl"] = lines(50)

    def elsewhere(request: Handler, number: int) -> bool:
        request.refuse(302, Location=web.url("real.jsonl"))
        return True

    web.faults["a.jsonl"] = elsewhere
    assert ids(expand(web.url("a.jsonl"))[0]) == all_ids(50)


def test_a_file_that_becomes_another_while_it_is_read_is_an_error(web: Server) -> None:
    web.files["a.jsonl"] = before = lines(4000)
    [file] = expand(web.url("a.jsonl"))
    after = before[:-2000] + b" " * 2000

    def change(request: Handler, number: int) -> bool:
        request.give(before if number < 3 else after)
        return True

    web.faults["a.jsonl"] = change
    with pytest.raises(ReadError, match=r"a\.jsonl: has changed while it was read"):
        ids(file)


@pytest.mark.parametrize(
    ("status", "told"), [(404, "no file matches"), (403, "403 .*credentials"), (400, "400 Bad")]
)
def test_a_url_that_cannot_be_had_is_refused_at_once(status: int, told: str, web: Server) -> None:
    def refuse(request: Handler, number: int) -> bool:
        request.refuse(status)
        return True

    web.faults["a.jsonl"] = refuse
    with pytest.raises(SourceError, match=rf"http://127\.0\.0\.1:\d+/a\.jsonl.*{told}"):
        expand(web.url("a.jsonl"))
    assert web.asked("a.jsonl") == 1


def test_a_stored_gzip_file_is_not_unpacked_on_the_way(web: Server) -> None:
    packed = gzip.compress(lines(50))
    web.files["a.jsonl.gz"] = packed

    def label(request: Handler, number: int) -> bool:
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.send_header("Content-Length", str(len(packed)))
        request.end_headers()
        request.wfile.write(packed)
        return True

    web.faults["a.jsonl.gz"] = label
    assert ids(expand(web.url("a.jsonl.gz"))[0]) == all_ids(50)


def test_a_glob_is_looked_up_in_the_index_pages(web: Server) -> None:
    web.files |= {"x/a.jsonl": b"1", "x/b.jsonl": b"22", "x/c.txt": b"", "y/a.jsonl": b"333"}
    web.files["x/"] = b'<a href="a.jsonl">a</a><a href="b.jsonl">b</a><a href="c.txt">c</a>'
    found = expand(web.url("x/*.jsonl"))
    assert [(file.path, file.size) for file in found] == [
        (web.url("x/a.jsonl"), 1),
        (web.url("x/b.jsonl"), 2),
    ]
    with pytest.raises(SourceError, match="no file matches"):
        expand(web.url("x/*.parquet"))
    with pytest.raises(SourceError, match="name the folders"):
        expand(web.url("**/a.jsonl"))


def test_an_index_page_that_cannot_be_read_is_not_an_empty_one(web: Server) -> None:
    def broken(request: Handler, number: int) -> bool:
        request.refuse(500)
        return True

    web.faults["x/"] = broken
    with pytest.raises(SourceError, match=r"/x: given up after 4 attempts"):
        expand(web.url("x/*.jsonl"))


def test_one_column_of_parquet_is_not_the_whole_file(web: Server) -> None:
    noise = random.Random(0)
    table = pa.table(
        {
            "id": all_ids(500),
            "text": [f"text {n}" for n in range(500)],
            "picture": pa.array([noise.randbytes(20_000) for _ in range(500)], pa.binary()),
        }
    )
    written = io.BytesIO()
    pq.write_table(table, written, row_group_size=100)
    web.files["a.parquet"] = data = written.getvalue()
    [split] = plan_splits(expand(web.url("a.parquet"))[0], "parquet", {})
    web.body_bytes = 0
    texts = [text for array in read_texts(split) for text in array.to_pylist()]
    assert texts == table["text"].to_pylist()
    assert web.body_bytes < len(data) // 20


def test_a_server_that_fails_is_not_taken_for_a_damaged_parquet_file(web: Server) -> None:
    written = io.BytesIO()
    pq.write_table(pa.table({"text": ["t"] * 1000}), written)
    web.files["a.parquet"] = written.getvalue()
    [split] = plan_splits(expand(web.url("a.parquet"))[0], "parquet", {})

    def fail(request: Handler, number: int) -> bool:
        request.refuse(500)
        return True

    web.faults["a.parquet"] = fail
    for reading in (read(split, ContainerCounts()), read_texts(split)):
        with pytest.raises(ReadError, match=r"a\.parquet.*given up"):
            list(reading)


def test_any_walk_over_a_remote_file_gives_the_bytes_of_a_local_one(web: Server) -> None:
    web.files["a.bin"] = data = random.Random(5).randbytes(3_000_000)
    local = io.BytesIO(data)
    choice = random.Random(6)
    with open_file(web.url("a.bin")) as remote:
        for _ in range(300):
            if choice.random() < 0.2:
                target = choice.randrange(3_100_000)
                assert remote.seek(target) == local.seek(target)
            size = choice.choice([0, 1, 4, 10_000, 70_000, 600_000])
            assert remote.read(size) == local.read(size)
            assert remote.tell() == local.tell()
