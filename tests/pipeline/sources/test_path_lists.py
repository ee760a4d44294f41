from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from thresher.pipeline.sources import ContainerCounts, SourceError, read
from thresher.pipeline.sources.inputs import files_of, splits_of
from thresher.pipeline.sources.path_lists import expand_list

from . import crawl
from .web_server import Handler, Server

PATHS = [f"crawl-data/CC-MAIN-2024-10/segments/{n}/warc/part-{n}.warc.gz" for n in range(5)]


@pytest.fixture
def archive(web: Server) -> Server:
    for number, path in enumerate(PATHS):
        web.files[path] = b"".join(crawl.members([crawl.page(2 * number), crawl.page(2 * number + 1)]))
    web.files["warc.paths.gz"] = gzip.compress("\n".join([*PATHS, ""]).encode())
    return web


def test_each_line_is_a_file_below_the_base_in_the_order_of_the_list(archive: Server) -> None:
    files = expand_list(archive.url("warc.paths.gz"), archive.address)
    assert [file.path for file in files] == [archive.url(path) for path in PATHS]
    assert [file.size for file in files] == [len(archive.files[path]) for path in PATHS]


def test_a_glob_and_a_number_choose_among_the_lines(archive: Server) -> None:
    listing = archive.url("warc.paths.gz")
    chosen = expand_list(listing, f"{archive.address}/", match="*/segments/[1-3]/*", first=2)
    assert [file.path for file in chosen] == [archive.url(path) for path in PATHS[1:3]]
    assert archive.asked(PATHS[0]) == archive.asked(PATHS[4]) == 0


def test_a_list_as_an_input_is_read_to_its_records(archive: Server) -> None:
    source = {"path": archive.url("warc.paths.gz"), "format": None, "columns": {}, "base": archive.address}
    found: list[str] = []
    for file in files_of(source):
        [split] = splits_of(file, source, 1 << 20)
        assert split.format == "warc"
        for batch in read(split, ContainerCounts()):
            found += batch["id"].to_pylist()
    assert found == [f"urn:uuid:{number}" for number in range(10)]


def test_a_local_list_names_local_files_and_urls_each_once(archive: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a"}))
    listing = tmp_path / "mixed.paths"
    listing.write_text(f"a.jsonl\n\n{archive.url(PATHS[0])}\n/a.jsonl\n")
    files = expand_list(str(listing), str(tmp_path))
    assert [file.path for file in files] == [str(tmp_path / "a.jsonl"), archive.url(PATHS[0])]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("file:///etc/passwd", "file:// is not read from a list"),
        ("../../etc/passwd", "is no path below"),
        ("a\x00b", "is no path below"),
        ("x" * 9000, "is no path below"),
    ],
)
def test_a_line_that_leads_elsewhere_is_refused(line: str, told: str, tmp_path: Path) -> None:
    listing = tmp_path / "warc.paths"
    listing.write_text(f"good.warc.gz\n{line}\n")
    with pytest.raises(SourceError, match=rf"warc\.paths: line 2: .*{told}"):
        expand_list(str(listing), "https://example.invalid/")


def test_a_list_that_is_broken_or_empty_is_refused(tmp_path: Path) -> None:
    listing = tmp_path / "warc.paths.gz"
    listing.write_bytes(gzip.compress("\n".join(PATHS * 100).encode())[:60])
    with pytest.raises(SourceError, match="the list breaks off"):
        expand_list(str(listing))
    listing.write_bytes(gzip.compress(b"\n\n"))
    with pytest.raises(SourceError, match="names no file"):
        expand_list(str(listing))
    listing.write_bytes(gzip.compress(b"\xff\xfe"))
    with pytest.raises(SourceError, match="is no list of paths"):
        expand_list(str(listing))


def test_a_listed_file_that_is_not_there_is_refused_with_its_url(archive: Server) -> None:
    def gone(request: Handler, number: int) -> bool:
        request.refuse(404)
        return True

    archive.faults[PATHS[2]] = gone
    with pytest.raises(SourceError, match=r"paths\.gz: .*part-2\.warc\.gz: 404"):
        expand_list(archive.url("warc.paths.gz"), archive.address)
