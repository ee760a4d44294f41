"""Documents that resemble each other, in every format that holds text."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from hypothesis import strategies as st
from reference import PAGES, Record

Step = dict[str, Any]

BASES = [
    "",
    " \n",
    "one",
    "The river and the mountain have water",
    "the page that data have to be with the model and training",
    "winter stone bridge\nsummer garden paper light",
    "12 numbers begin the page of history",
    "- the item\n- the other item of the list...",
    "我们在山上看见了一条河和一座桥",
    "这是一个关于历史的页面",
    "The engine of the world and the music of the system have water, light and color with the paper.\n" * 2,
    "Sign-in to read the page of history\nThe river and the mountain have water.[1]\nlog in",
    "Write to jane.doe@example.com and to 93.184.216.34 or 10.0.0.1 for data.\nlog in",
    "This site uses cookies to have more data.\n\nThe stone bridge and the light of winter.\n\nLOG IN",
    "12 likes\nthe winter and the summer with snow read more...\n\n \nLog in\nHOME | ABOUT THE PAGE",
]


def varied(base: str, how: int) -> str:
    """A base as it is, more often than not; or with white space, case, a word or an end changed."""
    words = base.split(" ")
    changes: dict[int, Callable[[], str]] = {
        5: lambda: base.replace(" ", "  ") + "\n",
        6: base.upper,
        7: lambda: " ".join(["other", *words[1:]]),
        8: lambda: " ".join([*words, "more"]),
        9: lambda: base[:-1],
        10: lambda: f"{base}\n{base}",
        11: lambda: " ".join([*words[: len(words) // 2], "middle", *words[len(words) // 2 :]]),
    }
    return changes.get(how, lambda: base)()


ONE_TEXT = st.builds(varied, st.sampled_from(BASES), st.integers(0, 11))
TEXTS = st.one_of(
    ONE_TEXT, ONE_TEXT, st.builds("{}{}{}".format, ONE_TEXT, st.sampled_from(["\n", "\n\n"]), ONE_TEXT)
)


def content_id(url: str | None, payload: bytes) -> str:
    return xxhash.xxh3_128_hexdigest((url or "").encode() + b"\0" + payload)


@dataclass(frozen=True)
class Source:
    """One input: documents in a format, in files that end at `places`, and steps of its own."""

    name: str
    format: str
    documents: list[Record]
    places: list[int]
    steps: list[Step]

    def spec(self, folder: Path) -> dict[str, Any]:
        """The input of a job."""
        made: dict[str, Any] = {"path": str(folder / self.name / "*"), "steps": self.steps, "name": self.name}
        return made | {
            "text": {"format": "text"},
            "lines": {"format": "text", "records": "lines"},
        }.get(self.format, {})

    def write(self, folder: Path) -> list[Record]:
        """Writes the files; the records that a reader should find in them, in order."""
        (folder / self.name).mkdir(parents=True)
        records: list[Record] = []
        bounds = [0, *self.places, len(self.documents)]
        if self.format == "text":
            bounds = list(range(len(self.documents) + 1))
        for number, (start, stop) in enumerate(pairwise(bounds)):
            path = folder / self.name / f"{number:03d}.{SUFFIXES[self.format]}"
            records += WRITERS[self.format](path, self.documents[start:stop])
        return [{**record, "input": self.name} for record in records]


def _jsonl(path: Path, documents: list[Record]) -> list[Record]:
    data, found = b"", []
    for one in documents:
        error = {"error": "missing_text"} if one["text"] is None else {}
        found.append({**one, **error, "source": f"{path}:{len(data)}"})
        given = {key: value for key, value in one.items() if value is not None}
        data += json.dumps(given, ensure_ascii=False).encode() + b"\n"
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return found


def _parquet(path: Path, documents: list[Record]) -> list[Record]:
    fields = pa.schema([(name, pa.string()) for name in ("id", "text", "url")])
    pq.write_table(pa.Table.from_pylist(documents, fields), path, row_group_size=7)
    return [
        {**one, "source": f"{path}:{row}"} | ({"error": "missing_text"} if one["text"] is None else {})
        for row, one in enumerate(documents)
    ]


def _delimited(path: Path, documents: list[Record]) -> list[Record]:
    """A field that is missing cannot be told from an empty one."""
    text, found = io.StringIO(), []
    writer = csv.writer(text, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
    writer.writerow(["id", "text", "url"])
    for one in documents:
        line = text.getvalue().count("\n") + 1
        found.append(
            {**one, "text": one["text"] or "", "url": one["url"] or None, "source": f"{path}:{line}"}
        )
        writer.writerow([one["id"], one["text"], one["url"]])
    path.write_text(text.getvalue())
    return found


def _text(path: Path, documents: list[Record]) -> list[Record]:
    """A file is a record, of which nothing but its text is known."""
    (one,) = documents
    data = (one["text"] or "").encode()
    path.write_bytes(data)
    record = {"id": content_id(None, data), "text": one["text"], "url": None, "source": str(path)}
    return [record | ({} if data else {"error": "empty_file"})]


def _lines(path: Path, documents: list[Record]) -> list[Record]:
    data, found = b"", []
    for one in documents:
        line = (one["text"] or "").replace("\n", " ")
        record = {"id": content_id(None, line.encode()), "text": line, "url": None}
        blank = {} if line.strip() else {"error": "empty_line"}
        found.append({**record, **blank, "source": f"{path}:{len(data)}"})
        data += line.encode() + b"\n"
    path.write_bytes(data)
    return found


def _wet(path: Path, documents: list[Record]) -> list[Record]:
    """Members of one record each, as Common Crawl writes them."""
    data, found = b"", []
    for one in documents:
        block = (one["text"] or "").encode()
        headers = ["WARC/1.0", "WARC-Type: conversion", f"WARC-Record-ID: <urn:id:{one['id']}>"]
        headers += [f"WARC-Target-URI: {one['url']}"] if one["url"] else []
        headers += ["Content-Type: text/plain", f"Content-Length: {len(block)}", "", ""]
        found.append(
            {
                "id": f"urn:id:{one['id']}",
                "text": block.decode(),
                "url": one["url"] or None,
                "source": f"{path}:{len(data)}",
            }
        )
        data += gzip.compress("\r\n".join(headers).encode() + block + b"\r\n\r\n")
    path.write_bytes(data)
    return found


WRITERS: dict[str, Callable[[Path, list[Record]], list[Record]]] = {
    "jsonl": _jsonl,
    "gzip": _jsonl,
    "parquet": _parquet,
    "csv": _delimited,
    "tsv": _delimited,
    "text": _text,
    "lines": _lines,
    "wet": _wet,
}
SUFFIXES = {
    **{name: name for name in WRITERS},
    "gzip": "jsonl.gz",
    "text": "txt",
    "lines": "txt",
    "wet": "warc.wet.gz",
}
FORMATS = st.sampled_from(
    ["jsonl", "parquet", "parquet", "csv", "wet", "jsonl", "tsv", "text", "lines", "gzip"]
)


@st.composite
def documents(draw: st.DrawFn, size: int) -> list[Record]:
    """Documents, some of one id and some without a text."""
    fields = st.tuples(TEXTS, st.sampled_from(list(PAGES)), st.integers(0, 40), st.integers(0, 30))
    drawn = draw(st.lists(fields, min_size=size, max_size=size))
    return [
        {"id": f"d{id_:02d}", "text": None if blank == 30 else text, "url": url}
        for text, url, id_, blank in drawn
    ]
