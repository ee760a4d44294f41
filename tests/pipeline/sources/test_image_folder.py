from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from thresher.pipeline.sources.limits import ReadLimits

from .image_records import Records, plan_images, read_images_of, read_split
from .web_server import Server


def read_folder(path: Path | str, **split: Any) -> Records:
    return read_images_of(path, "image-folder", **split)[0]


def write_lines(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_pictures_are_found_beside_the_lines_that_name_them(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.png").write_bytes(b"A")
    (tmp_path / "sub" / "b é.png").write_bytes(b"B")
    rows = [
        {"file": "a.png", "caption": "one", "by": "me"},
        {"file": "sub/b é.png", "caption": None, "id": 7},
    ]
    first, second = read_folder(write_lines(tmp_path, *rows))
    assert (first["payload"], first["text"]) == (b"A", "one")
    assert json.loads(first["meta"]) == {"file": "a.png", "by": "me"}
    assert (second["payload"], second["text"], second["id"], second["error"]) == (b"B", None, "7", None)


def test_the_field_of_the_file_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"A")
    path = write_lines(tmp_path, {"picture": "a.png", "alt": "one"})
    assert read_folder(path, columns={"image": "picture", "text": "alt"})[0]["text"] == "one"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "folder2").mkdir()
    (tmp_path / "folder2" / "x.png").write_bytes(b"secret")
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "up").symlink_to(tmp_path)
    (folder / "in.png").write_bytes(b"inside")
    (folder / "link.png").symlink_to("in.png")
    (folder / "loop.png").symlink_to("loop.png")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "/etc/passwd",
        "a/../../secret.png",
        "out.png",
        "up/secret.png",
        "..\\secret.png",
        "file:///etc/passwd",
        "http://h/a.png",
        "../folder2/x.png",
        "a\0.png",
        "\ud800.png",
        "\\\\h\\s.png",
    ],
)
def test_paths_that_leave_the_folder_are_refused(secret: Path, name: str) -> None:
    [record] = read_folder(write_lines(secret, {"file": name, "caption": "c"}))
    assert (record["payload"], record["error"]) == (None, "refused_path")


def test_a_link_that_stays_in_the_folder_is_followed(secret: Path) -> None:
    [record] = read_folder(write_lines(secret, {"file": "link.png"}))
    assert record["payload"] == b"inside"


def test_a_folder_that_is_itself_behind_a_link_is_read(secret: Path, tmp_path: Path) -> None:
    write_lines(secret, {"file": "in.png"})
    (tmp_path / "alias").symlink_to(secret)
    [record] = read_folder(tmp_path / "alias" / "pairs.jsonl")
    assert record["payload"] == b"inside"


def test_what_is_no_readable_file_is_an_error_of_its_record(secret: Path) -> None:
    os.mkfifo(secret / "fifo.png")
    (secret / "empty.png").write_bytes(b"")
    (secret / "large.png").write_bytes(bytes(101))
    names = ["none.png", "fifo.png", "empty.png", "large.png", ".", "in.png/x", "n" * 300, "loop.png", "", 7]
    path = write_lines(secret, *({"file": name} for name in names), {})
    records = read_folder(path, limits=ReadLimits(max_payload_bytes=100))
    assert [record["error"] for record in records] == [
        "missing_file",
        "not_a_file",
        "empty_file",
        "payload_too_large",
        "not_a_file",
        "missing_file",
        "missing_file",
        "refused_path",
        "missing_file_name",
        "missing_file_name",
        "missing_file_name",
    ]


def test_large_folders_are_cut_between_lines(tmp_path: Path) -> None:
    for n in range(25):
        (tmp_path / f"{n}.png").write_bytes(b"%d" % n)
    path = write_lines(tmp_path, *({"file": f"{n}.png"} for n in range(25)))
    splits = plan_images(path, "image-folder", 10)
    found = [[r["payload"] for r in read_split(split)[0]] for split in splits]
    assert [len(images) for images in found] == [10, 10, 5]
    assert [image for images in found for image in images] == [b"%d" % n for n in range(25)]


def test_a_folder_on_a_web_server_is_read(web: Server) -> None:
    lines = [{"file": "a b#.png", "caption": "one"}, {"file": "none.png"}, {"file": "../pairs.jsonl"}]
    web.files["f/pairs.jsonl"] = "".join(json.dumps(line) + "\n" for line in lines).encode()
    web.files["f/a%20b%23.png"] = b"A" * 5000
    records = read_folder(web.url("f/pairs.jsonl"))
    assert [(r["payload"], r["error"]) for r in records] == [
        (b"A" * 5000, None),
        (None, "missing_file"),
        (None, "refused_path"),
    ]


def test_the_real_folder_is_read_whole(shared_data: Path) -> None:
    path = shared_data / "images" / "openclipart" / "pairs.jsonl"
    [split, *_] = plan_images(path, "image-folder", 100)
    records, _ = read_split(split)
    assert len(records) == 100
    for record in records:
        assert hashlib.sha256(record["payload"]).hexdigest() == json.loads(record["meta"])["sha256"]
