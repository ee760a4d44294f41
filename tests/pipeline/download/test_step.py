"""The download step: records in, records with images out, in order, and what is said of the others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

pytest.importorskip("aiohttp", reason="needs thresher[images]")

from download.loopback import HERE, JPEG, Asked, Collected, Site, answer, options, records
from thresher.pipeline.download.bodies import Bodies
from thresher.pipeline.download.outcome import SCHEMA
from thresher.pipeline.download.pool import Pool
from thresher.pipeline.operator import Output
from thresher.pipeline.steps.download import DOWNLOADS, Download

SETTINGS = {"allow": [HERE], "timeout": 2.0, "deadline": 10.0, "retries": 0, "per_host": 64}


def run(batches: list[pa.RecordBatch], out: Output, **more: object) -> list[pa.RecordBatch]:
    return list(Download("download", {**SETTINGS, **more}).flow(iter(batches), out))


def test_records_come_with_their_images_in_order_and_the_others_are_in_the_ledger() -> None:
    optedout = answer(headers={"X-Robots-Tag": "noai"})
    out = Collected()
    with Site({"/0": answer(JPEG + b"0"), "/2": answer(JPEG + b"2"), "/3": optedout}) as site:
        urls = [site.url("/0"), site.url("/1"), site.url("/2"), site.url("/3"), None, "ftp://a/b"]
        found = run([records(urls[:2]), records(urls[:0]), records(urls)], out)
    assert [batch.column("image").to_pylist() for batch in found] == [
        [JPEG + b"0"],
        [],
        [JPEG + b"0", JPEG + b"2"],
    ]
    assert found[2].column("text").to_pylist() == ["caption 0", "caption 2"]
    assert all(batch.schema.equals(records([]).schema) for batch in found)
    last = [(row["position"], row["verdict"], row["reason"], row["value"]) for row in out.rows("ledger")][1:]
    assert last == [
        (1, "error", "http_404", "Said"),
        (3, "dropped", "opted_out", "X-Robots-Tag: noai"),
        (4, "error", "bad_url", "no address"),
        (5, "error", "bad_url", "ftp is neither http nor https"),
    ]
    assert out.accounts.as_dict()["steps"]["download"]["in"] == 8


def test_every_address_is_in_the_sidecar() -> None:
    out = Collected()
    with Site({"/0": answer()}) as site:
        run([records([site.url("/0"), site.url("/1"), None])], out)
    rows = out.rows(DOWNLOADS)
    assert all(batch.schema == SCHEMA for batch in out.streams[DOWNLOADS])
    wanted = ("position", "id", "url", "final_url", "status", "bytes", "content_type", "reason", "attempts")
    assert [tuple(row[name] for name in wanted) for row in rows] == [
        (0, "id0", site.url("/0"), site.url("/0"), 200, len(JPEG), "image/jpeg", None, 1),
        (1, "id1", site.url("/1"), site.url("/1"), 404, None, "image/jpeg", "http_404", 1),
        (2, "id2", None, None, None, None, None, "bad_url", 0),
    ]
    assert rows[2]["seconds"] is None


def test_records_that_have_an_image_pass_untouched_and_nothing_is_asked_for_them() -> None:
    out = Collected()
    with Site({"/0": answer()}) as site:
        mixed = records([site.url("/0"), site.url("/1"), None], [None, b"not even an image", b""])
        (found,) = run([mixed], out)
        assert site.paths() == ["/0"]
    assert found.column("image").to_pylist() == [JPEG, b"not even an image", b""]
    assert len(out.rows(DOWNLOADS)) == 1


def test_a_part_without_addresses_has_its_streams_all_the_same() -> None:
    out = Collected()
    (found,) = run([records([])], out)
    assert found.schema == records([]).schema
    assert [batch.schema for batch in out.streams[DOWNLOADS]] == [SCHEMA]
    alone = Download("download", SETTINGS).apply(records([]), Collected())
    assert alone.schema == records([]).schema


def test_batches_are_cut_by_rows_and_by_bytes() -> None:
    big = JPEG + bytes(3_000_000)
    with Site({"/small": answer(), "/big": answer(big)}) as site:
        small = run([records([site.url("/small")] * 1100)], Collected(), concurrency=32)
        large = run([records([site.url("/big")] * 10)], Collected(), concurrency=4)
        alone = Download("download", SETTINGS).apply(records([site.url("/big")] * 4), Collected())
    assert [len(batch) for batch in small] == [1024, 76]
    assert [len(batch) for batch in large] == [3, 3, 3, 1]
    assert pa.Table.from_batches(large).column("position").to_pylist() == list(range(10))
    assert len(alone) == 4


def test_batches_are_read_ahead_while_the_first_image_is_waited_for() -> None:
    go_on = threading.Event()

    async def slow(writer: asyncio.StreamWriter, asked: Asked) -> None:
        while not go_on.is_set():
            await asyncio.sleep(0.005)
        writer.write(answer())

    with Site({"/slow": slow, "/a": answer()}) as site:

        def source() -> Iterator[pa.RecordBatch]:
            yield records([site.url("/slow")])
            yield records([site.url("/a")] * 3)
            go_on.set()

        found = list(Download("download", SETTINGS).flow(source(), Collected()))
    assert [len(batch) for batch in found] == [1, 3]


def test_an_abandoned_part_ends_its_thread() -> None:
    async def never(writer: asyncio.StreamWriter, asked: Asked) -> None:
        await asyncio.sleep(30)

    with Site({"/a": answer(), "/never": never}) as site:
        flow = Download("download", SETTINGS).flow(
            iter([records([site.url("/a")]), records([site.url("/never")])]), Collected()
        )
        assert len(next(flow)) == 1
        began = time.monotonic()
        flow.close()  # type: ignore[attr-defined]
        assert time.monotonic() - began < 2
    assert not any(thread.name == "thresher-download" for thread in threading.enumerate())


def test_a_source_that_breaks_is_told_and_ends_the_thread() -> None:
    def source() -> Iterator[pa.RecordBatch]:
        yield records([None])
        raise RuntimeError("the file has changed")

    with pytest.raises(RuntimeError, match="the file has changed"):
        list(Download("download", SETTINGS).flow(source(), Collected()))
    assert not any(thread.name == "thresher-download" for thread in threading.enumerate())


def stalled(site_routes: dict[str, object], go_on: threading.Event) -> Site:
    async def first(writer: asyncio.StreamWriter, asked: Asked) -> None:
        while not go_on.is_set():
            await asyncio.sleep(0.005)
        writer.write(answer())

    return Site({"/first": first, **site_routes})  # type: ignore[dict-item]


def test_what_waits_for_its_turn_lies_in_files_beyond_the_bound() -> None:
    go_on, bodies = threading.Event(), Bodies(memory=2_000_000)
    body = JPEG + bytes(700_000)
    with stalled({"/a": answer(body)}, go_on) as site:
        pool = Pool(options(per_host=64), bodies)
        try:
            pool.submit(list(enumerate([site.url("/first")] + [site.url("/a")] * 30)))
            while bodies.on_disk < 26 * len(body):
                time.sleep(0.01)
            assert bodies.most_held <= 2_000_000
            go_on.set()
            taken = [pool.outcome(row).body for row in range(31)]
            assert [one.take() == body for one in taken[1:] if one] == [True] * 30
            assert taken[0] is not None
            taken[0].drop()
            assert (bodies.held, bodies.on_disk) == (0, 0)
        finally:
            go_on.set()
            pool.close()


def test_nothing_new_begins_when_the_files_are_full_but_what_everybody_waits_for() -> None:
    go_on, bodies = threading.Event(), Bodies(memory=0, disk=1_000_000)
    body = JPEG + bytes(400_000)
    with stalled({"/a": answer(body)}, go_on) as site:
        pool = Pool(options(concurrency=2, per_host=64), bodies)
        try:
            pool.submit(list(enumerate([site.url("/first")] + [site.url("/a")] * 20)))
            while not bodies.full:
                time.sleep(0.01)
            time.sleep(0.1)
            assert site.paths().count("/a") <= 4
            go_on.set()
            for row in range(21):
                found = pool.outcome(row).body
                assert found is not None
                found.drop()
                assert bodies.on_disk <= 1_000_000 + 2 * len(body)
        finally:
            go_on.set()
            pool.close()


def test_nothing_new_begins_while_nobody_waits_and_half_of_the_memory_is_taken() -> None:
    body = JPEG + bytes(100_000)
    bodies = Bodies(memory=40 * len(body))
    with Site({"/a": answer(body)}) as site:
        pool = Pool(options(concurrency=4, per_host=4), bodies)
        try:
            pool.submit([(0, site.url("/a"))])
            taken = [pool.outcome(0).body]  # from now on whoever asks is busy
            pool.submit([(row, site.url("/a")) for row in range(1, 100)])
            while bodies.held < 20 * len(body):
                time.sleep(0.01)
            time.sleep(0.1)
            assert bodies.held <= 24 * len(body)
            taken += [pool.outcome(row).body for row in range(1, 100)]
            assert [one.take() == body for one in taken if one] == [True] * 100
            assert bodies.held == 0
        finally:
            pool.close()


def test_a_closed_pool_leaves_no_files() -> None:
    go_on, bodies = threading.Event(), Bodies(memory=0)
    with stalled({"/a": answer()}, go_on) as site:
        pool = Pool(options(), bodies)
        pool.submit(list(enumerate([site.url("/first")] + [site.url("/a")] * 9)))
        while bodies.on_disk < 9 * len(JPEG):
            time.sleep(0.01)
        pool.close()
        go_on.set()
    assert bodies.on_disk == 0


GROWTH = """
import re, sys
sys.path.insert(0, sys.argv[1])
from download.loopback import Collected, options, records
from thresher.pipeline.download.bodies import Bodies
from thresher.pipeline.download.pool import Pool
from thresher.pipeline.steps.download import Download
class Small(Download):
    def _downloader(self):
        return Pool(options(concurrency=8, per_host=8), Bodies(memory=16_000_000))
def peak(urls):
    for batch in Small("download", {}).flow(iter([records(urls)]), Collected()):
        del batch
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak([sys.argv[2] + "/small"] * 100)
print(peak([sys.argv[2] + "/late"] + [sys.argv[2] + "/big"] * 120) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_memory_of_a_worker_is_bounded_however_much_waits() -> None:
    site = Site({})

    async def late(writer: asyncio.StreamWriter, asked: Asked) -> None:
        while site.paths().count("/big") < 120:
            await asyncio.sleep(0.01)
        writer.write(answer())

    site.routes = {"/late": late, "/small": answer(), "/big": answer(JPEG + bytes(1_000_000))}
    with site:
        command = [sys.executable, "-c", GROWTH, str(Path(__file__).parents[1]), site.url("")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # 120 MB wait for the first image: 16 MB of it in memory, up to 4 MB on 8 connections, and a batch of
    # 9 MB, which is copied into Arrow.
    assert 9_000 < int(done.stdout) < 80_000
