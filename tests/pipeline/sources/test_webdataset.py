from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.pipeline.sources import ContainerCounts, Split, guess_format, tar_index, tar_samples
from thresher.pipeline.sources.limits import ReadLimits
from thresher.pipeline.sources.reader import count, read_images

from . import archives
from .image_records import Records, plan_images, read_images_of, read_split
from .web_server import Server


@pytest.fixture(autouse=True, params=["by member", "indexed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How archives are read, whatever else this process has read."""
    module = tar_index if request.param == "indexed" else None
    monkeypatch.setattr(tar_samples, "compiled", SimpleNamespace(module=lambda: module))


def read_tar(path: Path, **split: Any) -> Records:
    return read_images_of(path, "webdataset", **split)[0]


def told(records: Records) -> list[tuple[Any, Any, Any]]:
    return [(r["payload"], r["text"], r["error"]) for r in records]


def test_image_caption_and_fields_become_a_record(tmp_path: Path) -> None:
    fields = {
        "caption": "a cat",
        "url": "http://h/1.jpg",
        "uid": "17ab",
        "width": 3,
        "similarity": 0.25,
        "e": None,
    }
    members = [("0/1.jpg", b"J"), ("0/1.txt", b"a cat"), ("0/1.json", json.dumps(fields).encode())]
    path = archives.write(tmp_path / "a.tar", members)
    [record], counts = read_images_of(path, "webdataset")
    assert record == {
        "id": "17ab",
        "url": "http://h/1.jpg",
        "source": f"{path}:0",
        "date": None,
        "meta": '{"width":3,"similarity":0.25,"e":null,"key":"0/1"}',
        "text": "a cat",
        "payload": b"J",
        "content_type": None,
        "error": None,
        "detail": None,
    }
    assert counts.outcomes == {("file", "read"): 1, ("tar_member", "read"): 3}


def test_an_id_that_is_not_given_comes_from_url_image_and_caption(tmp_path: Path) -> None:
    members = [("1.jpg", b"J"), ("1.txt", b"c"), ("1.json", b'{"url":"u"}'), ("2.jpg", b"J")]
    ids = [record["id"] for record in read_tar(archives.write(tmp_path / "a.tar", members))]
    assert ids == [xxhash.xxh3_128_hexdigest(b"u\0J\0c"), xxhash.xxh3_128_hexdigest(b"\0J\0")]
    moved = archives.write(tmp_path / "b.tar", [(f"x{name}", content) for name, content in members])
    assert [record["id"] for record in read_tar(moved)] == ids


def test_an_id_is_the_same_however_long_the_image_is(tmp_path: Path) -> None:
    sizes = [1, 1 << 16, (1 << 16) + 1, 3 << 20]
    path = archives.write(tmp_path / "a.tar", [(f"{n}.jpg", b"J" * size) for n, size in enumerate(sizes)])
    expected = [xxhash.xxh3_128_hexdigest(b"\0" + b"J" * size + b"\0") for size in sizes]
    assert [record["id"] for record in read_tar(path)] == expected


def test_what_webdataset_itself_writes_is_read_as_it_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for n in range(50):
            fields = json.dumps({"n": n}).encode()
            writer.write({"__key__": f"{n:05}", "png": b"%d" % n * 700, "txt": f"é {n}", "json": fields})
    theirs = archives.as_webdataset_reads(path)
    ours = read_tar(path)
    assert len(ours) == 50
    assert [(r["payload"], (r["text"] or "").encode()) for r in ours] == [
        (s["png"], s["txt"]) for s in theirs
    ]
    assert [json.loads(r["meta"])["key"] for r in ours] == [s["__key__"] for s in theirs]


NAMES = [
    "a",
    "folder/a",
    "./a",
    "b" * 95,
    "f" * 100 + "/" + "n" * 90,
    "d/" * 60 + "name",
    "é" * 70,
    "with space",
    "dots.in/folder.s/a",
    "../up",
    "/abs/olute",
    "n" * 180,
]


@pytest.mark.parametrize("format", archives.FORMATS)
def test_samples_of_every_format_are_those_of_webdataset(tmp_path: Path, format: str) -> None:
    names = [name for name in NAMES if format != "ustar" or (len(name.encode()) < 98 or name[0] in "fd")]
    members = [
        (f"{name}.{suffix}", f"{suffix} of {name}".encode())
        for name in names
        for suffix in ("PNG", "txt", "cls")
    ]
    path = archives.write(tmp_path / "a.tar", members, format)
    theirs = archives.as_webdataset_reads(path)
    ours = read_tar(path)
    assert len(theirs) == len(names)
    assert [(r["payload"], (r["text"] or "").encode()) for r in ours] == [
        (s["png"], s["txt"]) for s in theirs
    ]
    assert [json.loads(r["meta"])["key"] for r in ours] == [s["__key__"] for s in theirs]


SUFFIXES = ["png", "txt", "json", "PNG", "seg.png", "npy", ""]


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "d/a", "a b"]), st.sampled_from(SUFFIXES)), max_size=12),
    st.sampled_from(sorted(archives.FORMATS)),
)
def test_members_are_grouped_as_webdataset_groups_them(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]], format: str
) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    members = [(f"{key}.{suffix}", json.dumps({"n": n}).encode()) for n, (key, suffix) in enumerate(names)]
    archives.write(path, members, format)
    theirs = archives.as_webdataset_reads(path)
    ours = read_tar(path)
    repeated = sum(r["error"] == "duplicate_member" for r in ours)
    samples = [r for r in ours if r["error"] != "duplicate_member"]
    assert repeated == len(members) - sum(len(sample) - 1 for sample in theirs)
    assert [(r["payload"], r["error"]) for r in samples] == [
        (s.get("png"), None if "png" in s else "no_image") for s in theirs
    ]
    for record, sample in zip(samples, theirs, strict=True):
        if record["error"] is None:
            assert (record["text"] or "").encode() == sample.get("txt", b"")


def test_a_member_that_is_there_twice_is_a_record_of_its_own_and_the_first_counts(tmp_path: Path) -> None:
    members = [("1.jpg", b"first"), ("1.jpg", b"second"), ("1.txt", b"c"), ("2.jpg", b"J")]
    records = read_tar(archives.write(tmp_path / "a.tar", members))
    assert told(records) == [
        (None, None, "duplicate_member"),
        (b"first", "c", None),
        (b"J", None, None),
    ]


def test_a_key_that_comes_back_is_another_sample(tmp_path: Path) -> None:
    members = [("1.jpg", b"J"), ("2.jpg", b"K"), ("1.txt", b"c")]
    records = read_tar(archives.write(tmp_path / "a.tar", members))
    assert told(records) == [(b"J", None, None), (b"K", None, None), (None, None, "no_image")]


def test_a_caption_comes_from_txt_else_from_json_unless_a_field_is_named(tmp_path: Path) -> None:
    members = [("1.jpg", b"J"), ("1.txt", b"from txt"), ("1.json", b'{"caption":"from json","alt":"named"}')]
    path = archives.write(tmp_path / "a.tar", members)
    assert read_tar(path)[0]["text"] == "from txt"
    assert read_tar(path, columns={"text": "alt"})[0]["text"] == "named"
    assert read_tar(path, columns={"text": "none"})[0]["text"] == "from txt"
    path = archives.write(tmp_path / "b.tar", [m for m in members if m[0] != "1.txt"])
    assert read_tar(path)[0]["text"] == "from json"


def test_which_member_is_the_image_can_be_said(tmp_path: Path) -> None:
    members = [("1.jpg", b"J"), ("1.thumb.png", b"T"), ("1.png", b"P")]
    path = archives.write(tmp_path / "a.tar", members)
    assert read_tar(path)[0]["payload"] == b"J"
    assert read_tar(path, columns={"image": "png"})[0]["payload"] == b"P"
    assert read_tar(path, columns={"image": "thumb.png"})[0]["payload"] == b"T"


def test_what_cannot_be_used_of_a_sample_is_its_error(tmp_path: Path) -> None:
    members = [
        ("1.json", b'{"id":"x"}'),
        ("2.jpg", b""),
        ("3.jpg", b"J"),
        ("3.txt", b"\xff"),
        ("4.jpg", b"J"),
        ("4.json", b"[1]"),
        ("5.jpg", b"J"),
        ("5.json", b"{"),
        ("6.jpg", b"J"),
    ]
    records = read_tar(archives.write(tmp_path / "a.tar", members))
    assert [r["error"] for r in records] == [
        "no_image",
        "no_image",
        "invalid_utf8",
        "not_an_object",
        "invalid_json",
        None,
    ]
    assert records[0]["id"] == "x"


def test_members_above_the_limit_are_errors_of_their_record_alone(tmp_path: Path) -> None:
    members = [
        ("1.jpg", b"J" * 5000),
        ("1.txt", b"c"),
        ("2.jpg", b"K"),
        ("2.npy", bytes(9000)),
        ("3.jpg", b"L"),
    ]
    records = read_tar(archives.write(tmp_path / "a.tar", members), limits=ReadLimits(max_payload_bytes=4999))
    assert told(records) == [(None, None, "payload_too_large"), (b"K", None, None), (b"L", None, None)]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.zst"])
def test_compressed_archives_are_the_same(tmp_path: Path, name: str) -> None:
    members = [(f"{n}.jpg", b"%d" % n * 999) for n in range(500)]
    plain = archives.pack(members)
    packed = zstandard.compress(plain) if name.endswith("zst") else gzip.compress(plain)
    (tmp_path / name).write_bytes(packed)
    assert guess_format(name) == "webdataset"
    records = read_tar(tmp_path / name)
    assert [r["payload"] for r in records] == [content for _, content in members]


def test_a_limit_counts_records(tmp_path: Path) -> None:
    members = [(f"{n}.{suffix}", b"%d" % n) for n in range(9) for suffix in ("jpg", "txt")]
    path = archives.write(tmp_path / "a.tar", members)
    [split] = plan_images(path, None)
    whole = read_split(split)[0]
    for limit in (0, 1, 4, 9, 20):
        assert read_split(replace(split, limit=limit))[0] == whole[:limit]
        assert count(split, limit) == min(limit, 9)


def test_images_are_read_again_row_by_row(tmp_path: Path) -> None:
    members = [(f"{n}.{'jpg' if n % 3 else 'txt'}", b"%d" % n * 5000) for n in range(300)]
    split = Split(
        str(archives.write(tmp_path / "a.tar", members)), "webdataset", modality="image-text", limit=250
    )
    again = [image for array in read_images(split) for image in array.to_pylist()]
    assert again == [r["payload"] for r in read_split(split)[0]]
    assert again.count(None) == 84


def test_texts_are_read_where_the_job_is_one_of_texts(tmp_path: Path) -> None:
    members = [
        ("1.txt", "é".encode()),
        ("1.json", b'{"id":"x","url":"u","n":1}'),
        ("2.json", b'{"text":"from json"}'),
        ("3.jpg", b"J"),
    ]
    path = archives.write(tmp_path / "a.tar", members)
    first, second, third = read_split(Split(str(path), "webdataset"))[0]
    assert (first["id"], first["url"], first["text"], first["meta"]) == ("x", "u", "é", '{"n":1}')
    assert (second["text"], third["error"]) == ("from json", "missing_text")


def test_the_shards_that_this_product_writes_are_read_back(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for n in range(3):
            for suffix, content in (("json", json.dumps({"id": f"i{n}"}).encode()), ("txt", b"text %d" % n)):
                tar.addfile(archives.member(f"00000-{n:07}.{suffix}", len(content)), io.BytesIO(content))
    (tmp_path / "shard-00000.tar").write_bytes(buffer.getvalue())
    records = read_split(Split(str(tmp_path / "shard-00000.tar"), "webdataset"))[0]
    assert [(r["id"], r["text"]) for r in records] == [(f"i{n}", f"text {n}") for n in range(3)]


def beside(path: Path, **columns: list[Any]) -> None:
    pq.write_table(pa.table(columns), path.with_suffix(".parquet"))


def test_fields_that_the_json_lacks_come_from_the_parquet_beside_the_tar(tmp_path: Path) -> None:
    members = [("0.jpg", b"J"), ("0.json", b'{"caption":"mine"}'), ("1.jpg", b"K"), ("2.jpg", b"L")]
    path = archives.write(tmp_path / "00000.tar", members)
    beside(
        path,
        key=["1", "0", "failed"],
        url=["http://b/", "http://a/", "http://c/"],
        caption=["one", "theirs", "three"],
        uid=["u1", "u0", "u2"],
        nan=[float("nan"), 1.0, 2.0],
    )
    (first, second, third), counts = read_images_of(path, "webdataset")
    assert (first["id"], first["url"], first["text"]) == ("u0", "http://a/", "mine")
    assert (second["id"], second["url"], second["text"]) == ("u1", "http://b/", "one")
    assert json.loads(second["meta"]) == {"nan": "nan", "key": "1"}
    assert (third["url"], third["text"], third["meta"]) == (None, None, '{"key":"2"}')
    assert counts.outcomes["file", "read"] == 2


def test_a_broken_parquet_beside_a_tar_is_a_container_with_an_error(tmp_path: Path) -> None:
    path = archives.write(tmp_path / "00000.tar", [("0.jpg", b"J")])
    beside(path, key=["0"], url=["u" * 5000])
    whole = path.with_suffix(".parquet").read_bytes()
    for broken in (b"PAR1 no", whole[:-9], whole[:5] + bytes(60) + whole[65:]):
        path.with_suffix(".parquet").write_bytes(broken)
        records, counts = read_images_of(path, "webdataset")
        assert told(records) == [(b"J", None, None)]
        assert counts.outcomes["file", "error:corrupt"] == 1
        assert counts.outcomes["file", "read"] == 1


def test_a_parquet_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = archives.write(tmp_path / "00000.tar", [("0.jpg", b"J")])
    beside(path, id=["0"])
    records, counts = read_images_of(path, "webdataset")
    assert told(records) == [(b"J", None, None)]
    assert counts.outcomes["file", "skipped:no_samples_beside"] == 1


def test_a_tar_on_a_web_server_is_read_with_or_without_a_parquet_beside_it(
    tmp_path: Path, web: Server
) -> None:
    path = archives.write(tmp_path / "00000.tar", [("0.jpg", b"J" * 400_000), ("1.jpg", b"K")])
    beside(path, key=["1"], url=["http://b/"])
    web.files["a/00000.tar"] = web.files["b/00000.tar"] = path.read_bytes()
    web.files["b/00000.parquet"] = path.with_suffix(".parquet").read_bytes()
    without, _ = read_images_of(web.url("a/00000.tar"), "webdataset")
    joined, counts = read_images_of(web.url("b/00000.tar"), "webdataset")
    assert [r["payload"] for r in without] == [r["payload"] for r in joined] == [b"J" * 400_000, b"K"]
    assert [r["url"] for r in without] == [None, None]
    assert [r["url"] for r in joined] == [None, "http://b/"]
    assert counts.outcomes["file", "read"] == 2


def test_real_pictures_come_back_as_they_are(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "images" / "openclipart"
    lines = (folder / "pairs.jsonl").read_text().splitlines()[:40]
    pairs = [json.loads(line) for line in lines]
    path = tmp_path / "a.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for n, pair in enumerate(pairs):
            writer.write(
                {"__key__": str(n), "png": (folder / pair["file"]).read_bytes(), "txt": pair["caption"]}
            )
    records = read_tar(path)
    assert [r["text"] for r in records] == [pair["caption"] for pair in pairs]
    assert [hashlib.sha256(r["payload"]).hexdigest() for r in records] == [pair["sha256"] for pair in pairs]


def test_accounts_are_kept_of_members_that_are_no_files(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in [("d", tarfile.DIRTYPE), ("1.png", tarfile.SYMTYPE), ("2.png", tarfile.LNKTYPE)]:
            tar.addfile(archives.member(name, type=kind, linkname="/etc/passwd"))
        for name, kind in [
            ("3.png", tarfile.FIFOTYPE),
            ("4.png", tarfile.CHRTYPE),
            ("5.png", tarfile.BLKTYPE),
        ]:
            tar.addfile(archives.member(name, type=kind))
        for name in ["README", ".hidden", "__meta__/a.json", "6.png"]:
            tar.addfile(archives.member(name, 1), io.BytesIO(b"x"))
    counts = ContainerCounts()
    records, counts = read_images_of(path, "webdataset")
    assert told(records) == [(b"x", None, None)]
    assert counts.accounts()["tar_member"] == {
        "in": 10,
        "read": 1,
        "skipped": {
            "device": 2,
            "fifo": 1,
            "folder": 1,
            "hard_link": 1,
            "meta": 1,
            "no_suffix": 2,
            "symbolic_link": 1,
        },
        "errors": {},
    }
