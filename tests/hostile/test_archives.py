"""What broken and hostile tar archives become: the samples before the fault, and an error of the file."""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.pipeline.sources import tar_index, tar_samples
from thresher.pipeline.sources.limits import ReadLimits

from ..pipeline.sources import archives
from ..pipeline.sources.archives import block, padded, pax_record
from ..pipeline.sources.image_records import Records, read_images_of

SAMPLES = [(f"{n}.{suffix}", suffix.encode() * (200 + 97 * n)) for n in range(6) for suffix in ("jpg", "txt")]
END = bytes(1024)


@pytest.fixture(autouse=True, params=["by member", "indexed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How archives are read, whatever else this process has read."""
    module = tar_index if request.param == "indexed" else None
    monkeypatch.setattr(tar_samples, "compiled", SimpleNamespace(module=lambda: module))


def read_tar(path: Path, data: bytes, **split: Any) -> tuple[Records, dict[tuple[str, str], int]]:
    path.write_bytes(data)
    records, counts = read_images_of(path, "webdataset", **split)
    return records, counts.outcomes


def images(records: Records) -> list[Any]:
    return [record["payload"] if record["error"] is None else record["error"] for record in records]


def regular(name: bytes, content: bytes, **header: Any) -> bytes:
    return block(name, b"%011o" % len(content), **header) + padded(content)


def test_names_that_lead_elsewhere_are_only_keys(tmp_path: Path) -> None:
    names = ["../../etc/passwd.jpg", "/root/.ssh/x.jpg", "a/../../b.jpg", "c:\\d.jpg", "nul\n.jpg"]
    records, _ = read_tar(tmp_path / "a.tar", archives.pack([(name, b"J") for name in names]))
    assert [record["error"] for record in records] == [None] * 5
    assert json.loads(records[0]["meta"])["key"] == "../../etc/passwd"
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_no_link_is_followed_and_no_device_opened(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, target in [
            ("1.jpg", tarfile.SYMTYPE, str(tmp_path / "secret.jpg")),
            ("2.jpg", tarfile.LNKTYPE, "secret.jpg"),
            ("3.jpg", tarfile.FIFOTYPE, ""),
        ]:
            tar.addfile(archives.member(name, type=kind, linkname=target))
            tar.addfile(archives.member(f"{name[0]}.txt", 1), io.BytesIO(b"t"))
    records, outcomes = read_tar(tmp_path / "a.tar", buffer.getvalue())
    assert images(records) == ["no_image"] * 3
    assert outcomes["tar_member", "skipped:symbolic_link"] == 1


def sparse_gnu(name: bytes, blocks: int) -> bytes:
    entries = {386: b"%011o\0%011o\0" % (0, 512), 482: b"\1" if blocks else b"\0", 483: b"%011o\0" % 8192}
    more = b"".join(bytes(504) + bytes([n < blocks - 1]) + bytes(7) for n in range(blocks))
    return block(name, b"%011o" % 512, b"S", entries) + more + b"x" * 512


def sparse_pax(name: bytes, *records: tuple[bytes, bytes]) -> bytes:
    body = b"".join(pax_record(key, value) for key, value in records)
    return regular(b"pax", body, flag=b"x") + regular(name, b"y" * 512)


@pytest.mark.parametrize(
    "sparse",
    [
        sparse_gnu(b"1.jpg", 0),
        sparse_gnu(b"1.jpg", 3),
        sparse_pax(b"1.jpg", (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"mtime", b"1.5")),
        sparse_pax(b"1.jpg", (b"GNU.sparse.map", b"0,512"), (b"GNU.sparse.size", b"99999999999")),
    ],
)
def test_sparse_members_are_refused_and_what_follows_is_read(tmp_path: Path, sparse: bytes) -> None:
    records, outcomes = read_tar(
        tmp_path / "a.tar", sparse + regular(b"1.txt", b"t") + regular(b"2.jpg", b"J") + END
    )
    assert images(records) == ["no_image", b"J"]
    assert outcomes["tar_member", "error:sparse"] == 1
    assert outcomes["file", "read"] == 1


def test_numbers_in_base_256_are_read_and_negative_or_huge_ones_refused(tmp_path: Path) -> None:
    whole = block(b"1.jpg", b"\x80" + (3).to_bytes(11, "big")) + padded(b"abc") + END
    assert images(read_tar(tmp_path / "a.tar", whole)[0]) == [b"abc"]
    before = regular(b"0.jpg", b"J")
    for size in (b"\xff" * 12, b"\x80" + b"\xff" * 11, b"-0000000001\0", b"0000000009x\0", b"0_1\0", b"+7\0"):
        records, outcomes = read_tar(
            tmp_path / "a.tar", before + block(b"1.jpg", size) + padded(b"abc") + END
        )
        assert images(records) == [b"J"]
        assert outcomes["file", "error:bad_header"] == 1


def test_a_size_of_twelve_digits_is_read_wherever_it_stands(tmp_path: Path) -> None:
    data = regular(b"0.jpg", b"J") + block(b"1.jpg", b"000000000013") + padded(b"k" * 11)
    records, outcomes = read_tar(tmp_path / "a.tar", data + regular(b"2.jpg", b"L") + END)
    assert images(records) == [b"J", b"k" * 11, b"L"]
    assert outcomes["file", "read"] == 1


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + (1 << 60).to_bytes(11, "big")])
def test_a_size_beyond_the_file_ends_it_without_memory(tmp_path: Path, size: bytes) -> None:
    data = regular(b"0.jpg", b"J") + block(b"1.jpg", size) + b"x" * 2000
    records, outcomes = read_tar(tmp_path / "a.tar", data)
    assert images(records) == [b"J", "payload_too_large"]
    assert outcomes["file", "error:truncated"] == 1


def pax(content: bytes, *records: tuple[bytes, bytes]) -> bytes:
    body = b"".join(pax_record(key, value) for key, value in records)
    return regular(b"pax", body, flag=b"x") + regular(b"short.jpg", content)


def test_pax_headers_name_and_measure_the_next_member_alone(tmp_path: Path) -> None:
    named = pax(b"one", (b"path", "é/1.jpg".encode()), (b"mtime", b"1.25"))
    sized = (
        regular(b"pax", pax_record(b"size", b"600"), flag=b"x")
        + block(b"2.jpg", b"0" * 11)
        + padded(b"z" * 600)
    )
    records, _ = read_tar(tmp_path / "a.tar", named + sized + regular(b"3.jpg", b"J") + END)
    assert images(records) == [b"one", b"z" * 600, b"J"]
    assert json.loads(records[0]["meta"])["key"] == "é/1"


@pytest.mark.parametrize(
    "extension",
    [
        regular(b"pax", b"12 path=a.jpg", flag=b"x"),
        regular(b"pax", b"9999999 path=a.jpg\n", flag=b"x"),
        regular(b"pax", b"3 path=a.jpg\n", flag=b"x"),
        regular(b"pax", b"0 path=\n", flag=b"x"),
        regular(b"pax", pax_record(b"size", b"-1"), flag=b"x"),
        regular(b"pax", pax_record(b"size", b"9" * 40), flag=b"x"),
        regular(b"pax", pax_record(b"path", b"all.jpg"), flag=b"g"),
        block(b"pax", b"77777777777", b"x"),
        block(b"long", b"77777777777", b"L"),
        regular(b"pax", pax_record(b"path", b"a.jpg"), flag=b"x") + bytes(512),
    ],
)
def test_extended_headers_that_are_none_end_the_archive(tmp_path: Path, extension: bytes) -> None:
    data = regular(b"0.jpg", b"J") + extension + regular(b"1.jpg", b"K") + END
    records, outcomes = read_tar(tmp_path / "a.tar", data)
    assert images(records) == [b"J"]
    assert outcomes["file", "error:bad_header"] == 1


def test_long_names_of_gnu_count_for_one_member_and_links_for_none(tmp_path: Path) -> None:
    name = b"n" * 300 + b".jpg"
    data = regular(b"././@LongLink", b"target\0" * 30, flag=b"K")
    data += regular(b"././@LongLink", name + b"\0", flag=b"L") + regular(b"short.jpg", b"one")
    records, _ = read_tar(tmp_path / "a.tar", data + regular(b"2.jpg", b"two") + END)
    assert [json.loads(record["meta"])["key"] for record in records] == ["n" * 300, "2"]


def test_a_wrong_checksum_ends_the_archive_and_keeps_what_came_before(tmp_path: Path) -> None:
    data = bytearray(archives.pack(SAMPLES))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        offset = tar.getmembers()[6].offset
    data[offset] ^= 1
    records, outcomes = read_tar(tmp_path / "a.tar", bytes(data))
    assert images(records) == [content for name, content in SAMPLES if name.endswith("jpg")][:3]
    assert outcomes["file", "error:bad_header"] == 1


def test_checksums_of_signed_bytes_are_accepted(tmp_path: Path) -> None:
    header = bytearray(block("é".encode() * 5 + b".jpg", b"%011o" % 1))
    blank = header[:148] + b" " * 8 + header[156:]
    header[148:156] = b"%06o\0 " % sum(byte - 256 * (byte > 127) for byte in blank)
    assert images(read_tar(tmp_path / "a.tar", bytes(header) + padded(b"J") + END)[0]) == [b"J"]


def test_an_archive_without_its_end_says_so_and_loses_nothing(tmp_path: Path) -> None:
    data = regular(b"1.jpg", b"J") + regular(b"1.txt", b"c")
    for end in (b"", bytes(512)):
        records, outcomes = read_tar(tmp_path / "a.tar", data + end)
        assert images(records) == [b"J"]
        assert outcomes["file", "error:truncated"] == 1
    assert read_tar(tmp_path / "a.tar", data + END)[1]["file", "read"] == 1


def test_what_follows_the_end_of_an_archive_is_not_lost_in_silence(tmp_path: Path) -> None:
    one, two = archives.pack(SAMPLES[:2]), archives.pack(SAMPLES[2:4])
    records, outcomes = read_tar(tmp_path / "a.tar", one + two)
    assert len(records) == 1
    assert outcomes["file", "error:trailing_data"] == 1


@pytest.mark.parametrize("data", [b"", b"no archive", b"x" * 5000, b"\x89PNG\r\n\x1a\n" * 100])
def test_what_is_no_archive_is_named(tmp_path: Path, data: bytes) -> None:
    records, outcomes = read_tar(tmp_path / "a.tar", data)
    assert records == []
    assert list(outcomes) in ([("file", "error:not_tar")], [("file", "error:truncated")])


def test_an_empty_archive_is_sound(tmp_path: Path) -> None:
    assert read_tar(tmp_path / "a.tar", archives.pack([])) == ([], {("file", "read"): 1})


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_wherever_an_archive_is_cut_the_samples_before_stay(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    whole = pack(archives.pack(SAMPLES, "pax", mtime=1.5))
    complete = images(read_tar(tmp_path / "a.tar", whole)[0])
    for cut in range(0, len(whole), 391):
        records, outcomes = read_tar(tmp_path / "a.tar", whole[:cut])
        found = images(records)
        assert found[:-1] == complete[: max(0, len(found) - 1)]
        assert found[-1:] in ([], ["truncated_member"], ["no_image"], complete[len(found) - 1 : len(found)])
        [ending] = [outcome for kind, outcome in outcomes if kind == "file"]
        if ending == "read":
            assert not whole[cut:].strip(b"\0")
        else:
            assert ending in ("error:truncated", "error:not_tar")


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(archives.FORMATS)),
    st.lists(st.tuples(st.integers(0, 12_000), st.binary(min_size=1, max_size=12)), min_size=1, max_size=6),
    st.booleans(),
)
def test_no_mutation_raises_or_upsets_the_accounts(
    tmp_path_factory: pytest.TempPathFactory, format: str, changes: list[tuple[int, bytes]], packed: bool
) -> None:
    names = [
        (("n" * 60 + "/" + "n" * 60 if n == 3 else "") + name, content)
        for n, (name, content) in enumerate(SAMPLES)
    ]
    data = bytearray(archives.pack(names, format, mtime=1.5 if format == "pax" else 1))
    data = bytearray(gzip.compress(bytes(data), 1)) if packed else data
    for at, value in changes:
        at %= len(data)
        data[at : at + len(value)] = value
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    records, outcomes = read_tar(path, bytes(data), limits=ReadLimits(max_payload_bytes=1 << 16))
    assert sum(count for (kind, _), count in outcomes.items() if kind == "file") == 1
    assert all((record["payload"] is None) == (record["error"] is not None) for record in records)


@settings(max_examples=200)
@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from(list(b"01234567LKxgSVD\0 \xff\x80")), min_size=4, max_size=4),
)
def test_headers_with_sound_checksums_and_any_fields_are_survived(
    tmp_path_factory: pytest.TempPathFactory, seed: int, flags: list[int]
) -> None:
    chance = random.Random(seed)
    data = b""
    for flag in flags:
        size = chance.choice(
            [b"%011o\0" % chance.randrange(3000), b"\x80" + chance.randbytes(11), chance.randbytes(12)]
        )
        header = block(
            chance.randbytes(100), size, bytes([flag]), {345: chance.randbytes(chance.choice([0, 155]))}
        )
        data += header + chance.randbytes(chance.choice([0, 512, 1024, 1536]))
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    _, outcomes = read_tar(path, data + END)
    assert sum(count for (kind, _), count in outcomes.items() if kind == "file") == 1


PEAK = r"""
import json, re, sys
from thresher.pipeline.sources import ContainerCounts, Split, read
def peak():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\s+(\d+)", file.read())[1]) / 1000
def outcomes(path):
    counts = ContainerCounts()
    for batch in read(Split(path, "webdataset", modality="image-text"), counts):
        pass
    return [list(key) for key in counts.outcomes]
outcomes(sys.argv[1])
before = peak()
found = outcomes(sys.argv[2])
print(json.dumps([peak() - before, found]))
"""


def test_a_bomb_and_an_endless_member_cost_bounded_memory(tmp_path: Path) -> None:
    small = tmp_path / "small.tar"
    small.write_bytes(archives.pack(SAMPLES))
    bomb = tmp_path / "bomb.tar.gz"
    with gzip.open(bomb, "wb", 6) as file:
        file.write(block(b"1.npy", b"\x80" + (1 << 40).to_bytes(11, "big")))
        for _ in range(400):
            file.write(bytes(1 << 20))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(small), str(bomb)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    megabytes, outcomes = json.loads(done.stdout)
    assert ["file", "error:decompression_bomb"] in outcomes
    assert megabytes < 40
