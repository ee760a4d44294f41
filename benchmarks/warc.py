"""WARC to text: what `read` and `extract` cost over a bare loop of fastwarc and resiliparse.

CPU seconds of both on the same records, in turns; the ratio of the medians should be at most 1.2.

    python benchmarks/warc.py --warc crawl.warc.gz
    python benchmarks/warc.py --pages html_paths.txt     # a list of HTML files, wrapped as a crawl first
    python benchmarks/warc.py                            # the HTML of the Python packages that are installed
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from figures import Figure, add_option, save

LIMIT = 1.2


def write_warc(pages: Iterable[tuple[str, bytes]], out: Path, first: int = 1) -> None:
    """Wraps each page, its address and its HTML, as a request and a response, one gzip member a record.

    `first` numbers the records, whose ids should differ between files.
    """
    with out.open("wb") as file:
        for count, (url, body) in enumerate(pages, first):
            request = b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n"
            response = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body
            for kind, block in (("request", request), ("response", response)):
                head = (
                    f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{kind}-{count}>\r\n"
                    f"WARC-Date: 2024-01-01T00:00:00Z\r\nWARC-Target-URI: {url}\r\n"
                    f"Content-Type: application/http; msgtype={kind}\r\nContent-Length: {len(block)}\r\n\r\n"
                )
                file.write(gzip.compress(head.encode() + block + b"\r\n\r\n", 6))


def content(page: Path) -> bytes:
    """The bytes of a file, unpacked where its name says gzip."""
    return gzip.decompress(page.read_bytes()) if page.suffix == ".gz" else page.read_bytes()


def bare(path: Path) -> tuple[int, int]:
    """Pages and characters of text, by fastwarc and resiliparse alone."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import detect_encoding
    from resiliparse.parse.html import HTMLTree

    options = {"main_content": True, "comments": False, "post_meta": False, "alt_texts": False}
    pages = characters = 0
    for record in ArchiveIterator(str(path), record_types=WarcRecordType.response):
        if record.http_headers is None or record.http_headers.status_code != 200:
            continue
        if record.http_content_type not in ("text/html", "application/xhtml+xml"):
            continue
        body = record.reader.read()
        tree = HTMLTree.parse_from_bytes(body, record.http_charset or detect_encoding(body) or "utf-8")
        pages += 1
        characters += len(extract_plain_text(tree, **options))
    return pages, characters


def ours(path: Path) -> tuple[int, int]:
    """Pages and characters of text, by `read` and `extract`, with accounts and metadata."""
    import pyarrow.compute as pc
    from thresher.filters.text.extraction import extract
    from thresher.pipeline.sources import ContainerCounts, Split, read

    pages = characters = 0
    for batch in read(Split(str(path), "warc"), ContainerCounts()):
        found = extract(batch["payload"], batch["content_type"], batch["url"])
        pages += found.num_rows
        characters += pc.sum(pc.utf8_length(found["text"])).as_py() or 0
    return pages, characters


def measure(work: Callable[[Path], tuple[int, int]], path: Path) -> tuple[float, tuple[int, int]]:
    """CPU seconds of this process, and what was found."""
    start = time.process_time()
    found = work(path)
    return time.process_time() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--warc", type=Path)
    parser.add_argument("--pages", type=Path, help="a file with the path of one HTML file per line")
    parser.add_argument("--limit", type=int, default=4000, help="pages to wrap")
    parser.add_argument("--rounds", type=int, default=5)
    add_option(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.warc
        if path is None:
            path = Path(folder) / "pages.warc.gz"
            pages = _pages(arguments.pages)[: arguments.limit]
            write_warc(
                (
                    (f"https://example.org/{page.name}?page={n}", content(page))
                    for n, page in enumerate(pages)
                ),
                path,
            )
        save(compare(path, arguments.rounds), arguments.figures)


def compare(path: Path, rounds: int) -> list[Figure]:
    """Prints seconds and pages per second of both, and the ratio."""
    seconds: dict[str, list[float]] = {"bare": [], "thresher": []}
    pages: dict[str, int] = {}
    for _ in range(rounds):
        for name, work in (("bare", bare), ("thresher", ours)):
            spent, (pages[name], _characters) = measure(work, path)
            seconds[name].append(spent)
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    for name, median in medians.items():
        print(
            f"{name:10} {pages[name]:6} pages {median:8.3f} CPU s {pages[name] / median:8.0f} pages/s a core"
        )
    ratio = medians["thresher"] / medians["bare"]
    print(f"ratio {ratio:.3f} (at most {LIMIT})")
    return [
        Figure("WARC to text", pages["thresher"] / medians["thresher"], "pages/s a core"),
        Figure("WARC to text / fastwarc and resiliparse alone", ratio, "x", LIMIT, at_most=True),
    ]


def _pages(listed: Path | None) -> list[Path]:
    if listed is not None:
        return [Path(line) for line in listed.read_text().splitlines() if line]
    return sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.html"))


if __name__ == "__main__":
    main()
