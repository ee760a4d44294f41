"""The compiled index of a tar finds what reading member by member finds, and nothing else."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.pipeline.sources import ContainerCounts, Split, read, tar_archive, tar_index, tar_samples
from thresher.pipeline.sources.limits import ReadLimits
from thresher.pipeline.sources.rows import Rows
from thresher.pipeline.sources.sample_rows import SampleRows

from . import archives
from .archives import block, checked, padded

Read = tuple[list[pa.RecordBatch], dict[tuple[str, str], int], list[dict[str, Any]]]

NAMES = ["jpg", "txt", "json", "PNG", "npy", "seg.png", "Txt"]


def pictures(count: int, size: int = 300) -> list[tuple[str, bytes]]:
    return [
        (f"{n:04}.{suffix}", body)
        for n in range(count)
        for suffix, body in (
            ("jpg", b"%d" % n * size),
            ("txt", f"é {n}".encode()),
            ("json", json.dumps({"url": f"http://h/{n}", "n": n}).encode()),
        )
    ]


def read_all(path: Path, **split: Any) -> Read:
    counts = ContainerCounts()
    batches = list(read(Split(str(path), "webdataset", modality="image-text", **split), counts))
    for batch in batches:
        batch.validate(full=True)
    assert counts.balanced
    return batches, counts.outcomes, counts.errors().to_pylist()


def by_member(path: Path, **split: Any) -> Read:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tar_samples, "compiled", SimpleNamespace(module=lambda: None))
        return read_all(path, **split)


def indexed(path: Path, **split: Any) -> tuple[Read, int]:
    """The same with the index, and how many samples it gave."""
    given = 0

    class Counted(tar_index.SampleIndex):
        def find(self, window: bytes | memoryview, at: int, limit: int) -> list[list[int]]:
            nonlocal given
            found = super().find(window, at, limit)
            given += max(0, len(found) - 1)
            return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tar_index, "SampleIndex", Counted)
        patch.setattr(tar_samples, "compiled", SimpleNamespace(module=lambda: tar_index))
        return read_all(path, **split), given


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tar_archive, "_PIECE", 16_384)
    return


@pytest.mark.parametrize(("format", "fields"), [("ustar", {}), ("gnu", {}), ("pax", {"mtime": 1.5})])
def test_nearly_all_samples_of_usual_archives_are_found_at_once(
    tmp_path: Path, format: str, fields: dict[str, Any]
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archives.pack(pictures(900, 100), format, **fields))
    found, given = indexed(path)
    assert found == by_member(path)
    assert given >= 890
    assert sum(len(batch) for batch in found[0]) == 900


def test_where_the_pieces_of_a_file_end_is_not_seen(tmp_path: Path, small_pieces: None) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archives.pack(pictures(200, 700)))
    found, given = indexed(path)
    assert found == by_member(path)
    assert 100 < given < 190


def test_an_archive_that_comes_in_a_stream_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(archives.pack(pictures(300)), 1))
    found, given = indexed(path)
    assert found == by_member(path)
    assert given > 250


def test_a_limit_ends_both_at_the_same_record_and_member(tmp_path: Path) -> None:
    members = pictures(20)
    members[10:10] = [members[9]]
    path = archives.write(tmp_path / "a.tar", members)
    for limit in range(24):
        assert indexed(path, limit=limit)[0] == by_member(path, limit=limit)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(archives.FORMATS)),
    st.lists(st.tuples(st.integers(0, 100_000), st.binary(min_size=1, max_size=12)), max_size=8),
    st.sampled_from([None, 1, 7]),
)
def test_no_mutation_tells_them_apart(
    tmp_path_factory: pytest.TempPathFactory,
    format: str,
    changes: list[tuple[int, bytes]],
    limit: int | None,
) -> None:
    data = bytearray(archives.pack(pictures(12, 200), format, mtime=1.5 if format == "pax" else 1))
    for at, value in changes:
        at %= len(data)
        data[at : at + len(value)] = value
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    path.write_bytes(data)
    limits = ReadLimits(max_payload_bytes=1 << 14)
    assert indexed(path, limits=limits, limit=limit)[0] == by_member(path, limits=limits, limit=limit)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "d/a", "d.x/a", "__a", "__m__/a", ".a", ""]), st.sampled_from(NAMES)
        ),
        min_size=2,
        max_size=30,
    ),
    st.sampled_from([None, "png", "txt"]),
)
def test_members_of_any_names_are_grouped_alike(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]], image: str | None
) -> None:
    members = [(f"{key}.{suffix}", b'{"n":%d}' % n * (n % 4 > 0)) for n, (key, suffix) in enumerate(names)]
    path = archives.write(tmp_path_factory.mktemp("tar") / "a.tar", members)
    columns = {} if image is None else {"image": image}
    assert indexed(path, columns=columns)[0] == by_member(path, columns=columns)


FIELDS = [(0, 100), (100, 24), (124, 12), (136, 12), (154, 2), (156, 1), (157, 100), (257, 8), (345, 155)]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(0, 35), st.sampled_from(FIELDS)), min_size=1, max_size=4),
)
def test_headers_with_sound_checksums_and_any_fields_are_read_alike(
    tmp_path_factory: pytest.TempPathFactory, seed: int, changes: list[tuple[int, tuple[int, int]]]
) -> None:
    chance = random.Random(seed)
    data = bytearray(archives.pack([(name, body[:400]) for name, body in pictures(12)]))
    for member, (start, size) in changes:
        at = 1024 * member
        header = bytearray(data[at : at + 512])
        value = [chance.randbytes(size), bytes(size), b"xgLKS5"[chance.randrange(6) :][:size], b"7" * size]
        header[start : start + size] = chance.choice(value).ljust(size, b"0")
        data[at : at + 512] = checked(header)
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    path.write_bytes(data)
    assert indexed(path)[0] == by_member(path)


def regular(name: bytes, body: bytes, flag: bytes = b"0") -> bytes:
    return block(name, b"%011o\0" % len(body), flag) + padded(body)


@pytest.mark.parametrize(
    ("key", "value", "outcome"),
    [
        (b"path", b"b.jpg", ("b", b"xyz", None)),
        (b"size", b"2", ("x", b"xy", None)),
        (b"GNU.sparse.major", b"1", (None, None, None)),
        (b"comment", b"a.path=b", ("x", b"xyz", None)),
    ],
)
def test_extended_headers_are_heeded_where_they_say_more_than_who_and_when(
    tmp_path: Path, key: bytes, value: bytes, outcome: tuple[Any, Any, Any]
) -> None:
    usual = [regular(b"%d.jpg" % n, b"J") for n in range(6)]
    told = regular(b"pax", archives.pax_record(key, value), b"x") + regular(b"x.jpg", b"xyz")
    path = tmp_path / "a.tar"
    path.write_bytes(b"".join([*usual[:3], told, *usual[3:], bytes(1024)]))
    found, given = indexed(path)
    assert found == by_member(path)
    assert given >= 4
    records = [record for batch in found[0] for record in batch.to_pylist()]
    assert len(records) == 6 + (outcome[0] is not None)
    if outcome[0] is not None:
        record = records[3]
        assert (json.loads(record["meta"])["key"], record["payload"], record["error"]) == outcome


def test_samples_of_more_members_than_the_index_takes_are_read_all_the_same(tmp_path: Path) -> None:
    members = [(f"{n}.{k}.npy", b"x") for n in range(4) for k in range(40)]
    members += [(f"{n}.jpg", b"J") for n in range(4, 9)]
    path = archives.write(tmp_path / "a.tar", members)
    found, given = indexed(path)
    assert found == by_member(path)
    assert given == 4


GUARDED = r"""
import ctypes, mmap, sys
import numpy as np
from thresher.pipeline.sources import tar_index
data = open(sys.argv[1], "rb").read()
room = -(-len(data) // mmap.PAGESIZE) * mmap.PAGESIZE
memory = mmap.mmap(-1, room + mmap.PAGESIZE)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + room), mmap.PAGESIZE, 0) == 0
index = tar_index.SampleIndex([(b"jpg", 0), (b"txt", 1), (b"json", 2)], True, 1 << 20)
whole = index.find(data, 0, 1000)
for cut in range(len(data), 0, -61):
    memory[room - cut : room] = data[:cut]
    found = index.find(memoryview(memory)[room - cut : room], 0, 1000)
    assert found[:-1] == whole[: max(0, len(found) - 1)], cut
    assert not found or len(found) - 1 == sum(row[0] < found[-1][0] for row in whole), cut
print(len(whole))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
@pytest.mark.parametrize(("format", "mtime"), [("ustar", 1), ("pax", 1.5)])
def test_nothing_behind_the_end_of_what_is_in_memory_is_looked_at(
    tmp_path: Path, format: str, mtime: float
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archives.pack(pictures(6, 500), format, mtime=mtime))
    done = subprocess.run(
        [sys.executable, "-c", GUARDED, str(path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr


LOADING = r"""
import sys
from thresher.pipeline.sources import ContainerCounts, Split, read, tar_samples
def rows():
    return [batch.to_pylist() for batch in read(Split(sys.argv[1], "webdataset"), ContainerCounts())]
before = rows()
print("thresher.filters.kernels" in sys.modules)
tar_samples._WAIT = 15
assert rows() == before
print("thresher.pipeline.sources.tar_index" in sys.modules)
"""


def test_a_process_that_reads_little_compiles_nothing(tmp_path: Path) -> None:
    path = archives.write(tmp_path / "a.tar", pictures(10))
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(path)], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.split() == ["False", "True"]


LONG = st.integers(0, 5).map(lambda n: b"x" * (n * 2 << 20))
ROW = st.fixed_dictionaries(
    {"id": st.text(min_size=1, max_size=3)},
    optional={
        "url": st.text(max_size=3),
        "meta": st.just("{}"),
        "text": st.text(max_size=3) | st.none() | st.just("é".encode()),
        "payload": st.binary(max_size=9) | LONG | st.none(),
        "error": st.just("no_image"),
    },
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, max_size=20))
def test_rows_of_samples_are_those_of_any_source(given_rows: list[dict[str, Any]]) -> None:
    ours, plain = SampleRows("a\udcff.tar"), Rows()
    for offset, row in enumerate(given_rows):
        payload = row.get("payload")
        view = {} if payload is None else {"payload": memoryview(payload)}
        ours.add(offset, **(row | view))
        plain.add(source=f"a\udcff.tar:{offset}", **row)
        assert (len(ours), ours.full) == (len(plain), plain.full)
        if ours.full or offset == len(given_rows) - 1:
            batch = ours.take()
            batch.validate(full=True)
            assert batch == plain.take()
