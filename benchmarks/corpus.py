"""Builds the corpus of the benchmarks: some 37,000 real documents (250 MB) with 5,000 planted near copies.

    python benchmarks/corpus.py DIR      # Debian with apt, 3 GB of disk, a few minutes

Documentation packages are downloaded and unpacked, never installed; their HTML, manual pages and plain texts
become documents. DIR then holds

    docs.parquet      id, text, source (html, man, txt), url; no two texts of the base are equal
    truth.json        [id of a document, id of its planted copy, kind of edit]; a fifth of the copies each
                      exact and with 0.5, 1, 2 and 4 percent of the words replaced
    html_paths.txt    4,000 pages between 2 kB and 500 kB, for extraction and WARC
    stats.json        counts; written last: where it is, nothing is left to do
    deb/x/            the unpacked packages

A run that was interrupted goes on where it ended. Documents follow from the versions of the packages that
the archive has, and from the manual pages and texts of this machine: figures compare within one corpus.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PACKAGES = Path(__file__).with_name("packages.txt").read_text().split()
RENDERER = "mandoc"  # the package that makes text of manual pages
PAGES_OF = {  # the most HTML pages that are taken of a package
    "rust-doc": 1500,
    "openjdk-17-doc": 1500,
    "octave-doc": 800,
    "debian-handbook": 1500,
    "libboost1.74-doc": 1500,
    "installation-guide-amd64": 600,
    "gnucash-docs": 1097,
}
PAGES, MANUALS, TEXTS = 1000, 9000, 7000  # the most of a package, and of all
LARGEST = {"html": 2_000_000, "txt": 1_000_000}  # bytes of a file
SHORTEST = 200  # characters of a document
EDITS = (("exact", 0.0), ("edit0.5%", 0.005), ("edit1%", 0.01), ("edit2%", 0.02), ("edit4%", 0.04))
PLANTED = 5000
LISTED = 4000  # pages of html_paths.txt
SEED = 20260101
DOCUMENTS = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("source", pa.string()), ("url", pa.string())]
)
FOUND = pa.schema([("path", pa.string()), ("text", pa.string())])


@dataclass(frozen=True)
class Document:
    """A row of docs.parquet."""

    id: str
    text: str
    source: str
    url: str


def fetch(folder: Path, packages: Sequence[str]) -> None:
    """Unpacks each package that is not there into `folder/<name>`; one that the archive lacks is left out."""
    wanted = [name for name in packages if not (folder / name).is_dir()]
    if not wanted:
        return
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise SystemExit(f"the corpus is made of Debian packages, and {tool} is not on this machine")
    folder.mkdir(parents=True, exist_ok=True)
    updated = subprocess.run(["apt-get", "update", "-qq"], capture_output=True, text=True, check=False)
    absent = []
    for number, name in enumerate(wanted, 1):
        tell(f"package {number} of {len(wanted)}: {name}")
        if not unpack(name, folder):
            absent.append(name)
    if absent:
        print(f"not in the archive: {', '.join(absent)}", flush=True)
    if len(absent) > len(packages) // 2:
        raise SystemExit(f"too few packages for a corpus. apt-get update said:\n{updated.stderr[-1000:]}")


def unpack(name: str, folder: Path) -> bool:
    """Downloads and unpacks one package; False where apt has none of that name."""
    downloads, unfinished = folder / ".download", folder / ".unpacked"
    for place in (downloads, unfinished):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    # `_apt`, as whom apt downloads, has no right to the folder of another user; it says so and goes on.
    subprocess.run(["apt-get", "download", "-qq", name], cwd=downloads, capture_output=True, check=False)
    for archive in downloads.glob(f"{name}_*.deb"):
        subprocess.run(["dpkg", "-x", archive, unfinished], check=True)
        unfinished.rename(folder / name)
    for place in (downloads, unfinished):
        shutil.rmtree(place, ignore_errors=True)
    return (folder / name).is_dir()


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files, links left out, in the order of their paths."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def pages(unpacked: Path, chance: random.Random) -> list[Path]:
    """HTML files, some of each package."""
    chosen: list[Path] = []
    for package in sorted(unpacked.iterdir()):
        found = [path for path in files_below(package) if path.name.endswith((".html", ".htm", ".html.gz"))]
        chance.shuffle(found)
        chosen += found[: PAGES_OF.get(package.name, PAGES)]
    return chosen


def manuals(unpacked: Path, chance: random.Random) -> list[Path]:
    """Manual pages of the packages and of this machine."""
    folders = [*sorted(unpacked.glob("*/usr/share/man")), Path("/usr/share/man")]
    found = [path for folder in folders for path in files_below(folder) if path.suffix == ".gz"]
    found = [path for path in found if path.stat().st_size > 400]
    chance.shuffle(found)
    return found[:MANUALS]


def plain_texts(unpacked: Path, chance: random.Random) -> list[Path]:
    """Texts, readmes, news and licences of the packages and of this machine."""
    endings = (".txt", ".rst", ".txt.gz", ".rst.gz", ".md")
    names, name_endings = ("README", "copyright", "NEWS"), (".gz", "README", "copyright", ".Debian")
    found = [
        path
        for folder in (unpacked, Path("/usr/share/doc"))
        for path in files_below(folder)
        if path.name.endswith(endings) or (path.name.startswith(names) and path.name.endswith(name_endings))
    ]
    chance.shuffle(found)
    return found[:TEXTS]


def content(path: Path) -> bytes:
    """The bytes of a file, unpacked where its name says gzip."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def text_of_page(path: Path, _renderer: Path) -> str:
    """The main content of an HTML page."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    body = content(path)
    if len(body) > LARGEST["html"]:
        return ""
    page = bytes_to_str(body, detect_encoding(body))
    return str(extract_plain_text(page, main_content=True, alt_texts=False, links=False))


def text_of_manual(path: Path, renderer: Path) -> str:
    """A manual page as a terminal shows it, without the overstrikes that make bold and underlined."""
    command = [renderer, "-Tutf8", "-O", "width=100", path]
    shown = subprocess.run(command, capture_output=True, timeout=20, check=False).stdout
    return re.sub(".\b", "", shown.decode("utf-8", "replace"))


def text_of_text(path: Path, _renderer: Path) -> str:
    """A UTF-8 text as it is."""
    body = content(path)
    return body.decode("utf-8") if len(body) <= LARGEST["txt"] else ""


KINDS: dict[str, tuple[Callable[[Path, random.Random], list[Path]], Callable[[Path, Path], str]]] = {
    "html": (pages, text_of_page),
    "man": (manuals, text_of_manual),
    "txt": (plain_texts, text_of_text),
}


def read_one(kind: str, path: Path, renderer: Path) -> str:
    """The text of a file, without NUL and outer white space; empty where it cannot be read."""
    try:
        text = KINDS[kind][1](path, renderer)
    except (OSError, EOFError, ValueError, subprocess.SubprocessError):
        return ""
    return text.replace("\0", "").strip().encode("utf-8", "replace").decode()


def collect(kind: str, files: Sequence[Path], renderer: Path, target: Path) -> None:
    """Writes path and text of the files of one kind that have enough text."""
    found: dict[str, list[str]] = {"path": [], "text": []}
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("forkserver")) as pool:
        texts = pool.map(read_one, [kind] * len(files), files, [renderer] * len(files), chunksize=50)
        for number, (path, text) in enumerate(zip(files, texts, strict=True), 1):
            if number % 100 == 0:
                tell(f"{kind}: {number} of {len(files)} files")
            if len(text) >= SHORTEST:
                found["path"].append(str(path))
                found["text"].append(text)
    unfinished = target.with_suffix(".unfinished")
    pq.write_table(pa.table(found, FOUND), unfinished, compression="zstd")
    unfinished.rename(target)
    print(f"{kind}: {len(found['path'])} documents of {len(files)} files", flush=True)


def base(found: Iterable[tuple[str, Path]], unpacked: Path) -> tuple[list[Document], list[Path]]:
    """A document for each text that no earlier one equals, and the file of each."""
    documents: list[Document] = []
    files: list[Path] = []
    seen: set[bytes] = set()
    for kind, table in found:
        for row in pq.read_table(table).to_pylist():
            digest = hashlib.md5(row["text"].encode()).digest()
            if digest in seen:
                continue
            seen.add(digest)
            place = row["path"].removeprefix(str(unpacked)).lstrip("/")
            url = f"https://docs.example.org/{place}"
            documents.append(Document(f"b{len(documents):06d}", row["text"], kind, url))
            files.append(Path(row["path"]))
    return documents, files


def edited(text: str, rate: float, chance: random.Random) -> str:
    """The text with this share of its words, at least one, replaced; white space stays as it is."""
    pieces = re.split(r"(\s+)", text)
    words = [place for place in range(0, len(pieces), 2) if pieces[place]]
    for place in chance.sample(words, max(1, int(len(words) * rate))):
        pieces[place] = f"edit{chance.randrange(100_000):05d}"
    return "".join(pieces)


def plant(documents: Sequence[Document], chance: random.Random) -> tuple[list[Document], list[list[str]]]:
    """Copies of documents of some length, every kind of edit equally often, and what is a copy of what."""
    fit = [one for one in documents if len(one.text) < 200_000 and len(one.text.split()) >= 200]
    copies, truth = [], []
    for number, original in enumerate(chance.sample(fit, min(PLANTED, len(fit)))):
        kind, rate = EDITS[number % len(EDITS)]
        text = edited(original.text, rate, chance) if rate else original.text
        copy = Document(f"d{number:06d}", text, original.source, f"{original.url}?copy={number}")
        copies.append(copy)
        truth.append([original.id, copy.id, kind])
    return copies, truth


def list_pages(files: Sequence[Path], chance: random.Random) -> list[Path]:
    """Some pages of middling size."""
    shuffled = list(files)
    chance.shuffle(shuffled)
    fit = (path for path in shuffled if 2000 < len(content(path)) < 500_000)
    return [path for path, _ in zip(fit, range(LISTED), strict=False)]


def build(folder: Path, packages: Sequence[str]) -> dict[str, object]:
    """Builds what is not there yet, and returns the counts."""
    unpacked, extracted = folder / "deb" / "x", folder / "extracted"
    fetch(unpacked, packages)
    extracted.mkdir(exist_ok=True)
    tables = {kind: extracted / f"{kind}.parquet" for kind in KINDS}
    renderer = unpacked / RENDERER / "usr" / "bin" / "mandoc"
    for kind, (find, _) in KINDS.items():
        if not tables[kind].exists():
            collect(kind, find(unpacked, random.Random(SEED)), renderer, tables[kind])
    documents, files = base(tables.items(), unpacked)
    chance = random.Random(SEED)
    copies, truth = plant(documents, chance)
    html = [path for path, one in zip(files, documents, strict=True) if one.source == "html"]
    (folder / "html_paths.txt").write_text("\n".join(map(str, list_pages(html, chance))), encoding="utf-8")
    everything = [*documents, *copies]
    chance.shuffle(everything)
    rows = [vars(one) for one in everything]
    table = pa.Table.from_pylist(rows, DOCUMENTS)
    pq.write_table(table, folder / "docs.parquet", compression="zstd", row_group_size=2000)
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    stats: dict[str, object] = {
        "docs": len(everything),
        "base": len(documents),
        "planted": len(copies),
        "utf8_bytes": sum(len(one.text.encode()) for one in everything),
        "ws_words": sum(len(one.text.split()) for one in everything),
        "by_source": Counter(one.source for one in everything),
    }
    (folder / "stats.json").write_text(json.dumps(stats), encoding="utf-8")
    return stats


def tell(line: str) -> None:
    """Progress, on one line of a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}\r", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--packages", nargs="+", default=PACKAGES, help="build from these alone")
    options = parser.parse_args()
    folder = options.folder.absolute()
    if (folder / "stats.json").exists():
        print(f"{folder} holds a corpus: {(folder / 'stats.json').read_text(encoding='utf-8')}")
        return
    os.makedirs(folder, exist_ok=True)
    wanted = options.packages if RENDERER in options.packages else [*options.packages, RENDERER]
    print(json.dumps(build(folder, wanted)))


if __name__ == "__main__":
    main()
