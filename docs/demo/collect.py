"""Collects real text that any machine with Python has, and lays it out as a crawl and a JSON Lines file.

    python docs/demo/collect.py OUT

READMEs and the modules of the standard library, rendered to HTML, and the HTML that packages install go into
`OUT/crawl-*.warc.gz`; licence texts and docstrings of packages into `OUT/documents.jsonl.gz`.
"""

from __future__ import annotations

import ast
import gzip
import html
import json
import sys
import sysconfig
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from markdown_it import MarkdownIt

DATE = "2026-01-01T00:00:00Z"
PAGES_PER_FILE = 400
LONGEST = 2_000_000  # bytes; larger files are data, not documentation
LEAST_DOCSTRING = 200  # characters
MOST_DOCSTRINGS = 6_000

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body>
<nav><ul><li><a href="/">Index</a></li><li><a href="/search">Search</a></li></ul></nav>
<main><article>{body}</article></main>
<footer><p>Generated from package metadata</p></footer>
</body></html>
"""


def pages() -> Iterator[tuple[str, bytes]]:
    """(URL, HTML) of every README, HTML file and module of the standard library, sorted by name."""
    markdown = MarkdownIt()
    for package in _packages():
        name = package.metadata["Name"]
        readme = package.metadata.get_payload() or package.metadata.get("Description") or ""
        if readme.strip():
            is_markdown = "markdown" in (package.metadata.get("Description-Content-Type") or "").lower()
            body = markdown.render(readme) if is_markdown else f"<pre>{html.escape(readme)}</pre>"
            yield f"https://packages.example/{name}/readme.html", _page(name, body)
        for path in _files(package, (".html", ".htm")):
            yield f"https://packages.example/{name}/{path.name}", path.read_bytes()
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        name = ".".join(path.relative_to(library).with_suffix("").parts)
        if not name.startswith(("site-packages", "test", "idlelib", "lib2to3")):
            sections = [
                f"<h2>{html.escape(title)}</h2>"
                + "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in docstring.split("\n\n"))
                for title, docstring in _docstrings(path)
            ]
            if sections:
                yield f"https://docs.example/library/{name}.html", _page(name, "".join(sections))


def _page(title: str, body: str) -> bytes:
    return PAGE.format(title=html.escape(title), body=body).encode()


def documents() -> Iterator[dict[str, str]]:
    """Licence texts and docstrings, each with a URL and its origin."""
    for package in _packages():
        name = package.metadata["Name"]
        for path in _files(package, ("",)):
            if path.name.upper().startswith(("LICEN", "COPYING", "NOTICE")):
                url = f"https://packages.example/{name}/{path.name}"
                yield {"text": path.read_text("utf-8", "replace"), "url": url, "origin": "licence"}
    yielded = 0
    for source in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py")):
        for place, docstring in _docstrings(source):
            if yielded == MOST_DOCSTRINGS:
                return
            yielded += 1
            url = f"https://docs.example/{source.stem}/{place}"
            yield {"text": docstring, "url": url, "origin": "docstring"}


def _packages() -> list[metadata.Distribution]:
    named = {package.metadata["Name"]: package for package in metadata.distributions()}
    return [named[name] for name in sorted(named, key=lambda name: str(name).lower()) if name]


def _files(package: metadata.Distribution, suffixes: tuple[str, ...]) -> Iterator[Path]:
    for file in sorted(package.files or [], key=str):
        path = Path(str(package.locate_file(file)))
        if path.suffix in suffixes or suffixes == ("",):
            try:
                if 0 < path.stat().st_size <= LONGEST and path.is_file():
                    yield path
            except OSError:
                continue


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError, OSError, RecursionError):
        return
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented):
            docstring = ast.get_docstring(node)
            if docstring and len(docstring) >= LEAST_DOCSTRING:
                yield getattr(node, "name", "module"), docstring


def write_warc(path: Path, responses: list[tuple[str, bytes]]) -> None:
    """A WARC file as a crawler writes it: a gzip member for each HTTP response."""
    with path.open("wb") as file:
        for url, body in responses:
            http = (
                f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
            head = [
                "WARC/1.0",
                "WARC-Type: response",
                f"WARC-Record-ID: <urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url)}>",
                f"WARC-Target-URI: {url}",
                f"WARC-Date: {DATE}",
                "Content-Type: application/http; msgtype=response",
                f"Content-Length: {len(http) + len(body)}",
            ]
            record = "\r\n".join(head).encode() + b"\r\n\r\n" + http + body + b"\r\n\r\n"
            file.write(gzip.compress(record, compresslevel=4, mtime=0))


def main(out: Path) -> None:
    """Writes the crawl and the documents into `out`, unless they are there already."""
    done = out / "collected.json"
    if done.exists():
        print(f"{out}: {done.read_text()}")
        return
    out.mkdir(parents=True, exist_ok=True)
    found = list(pages())
    for number, start in enumerate(range(0, len(found), PAGES_PER_FILE)):
        write_warc(out / f"crawl-{number:03d}.warc.gz", found[start : start + PAGES_PER_FILE])
    count = 0
    with gzip.open(out / "documents.jsonl.gz", "wt", encoding="utf-8", compresslevel=4) as file:
        for document in documents():
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
            count += 1
    told = {"pages": len(found), "documents": count}
    done.write_text(json.dumps(told))
    print(f"{out}: {json.dumps(told)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
