"""What a fuzzer may throw any bytes at: each function raises only for a bug."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from thresher.filters.expressions import ExpressionError, parse
from thresher.filters.text.charset import decode
from thresher.filters.text.extraction import extract_page
from thresher.filters.text.url import Address
from thresher.jobs.yaml_source import read_yaml
from thresher.pipeline.sources import ContainerCounts, Split, read
from thresher.pipeline.sources.compression import Decoded, compression_of
from thresher.pipeline.sources.limits import ReadLimits

COLUMNS = {
    "n": pa.array([None, 0, 3], pa.int64()),
    "x": pa.array([float("nan"), -1.5, None], pa.float64()),
    "text": pa.array(["", "a word", None], pa.string()),
    "yes": pa.array([True, False, None], pa.bool_()),
}
SUFFIXES = {"jsonl": ".jsonl", "csv": ".csv", "tsv": ".tsv", "warc": ".warc", "arc": ".arc", "text": ".txt"}
_folder = tempfile.TemporaryDirectory(prefix="thresher-fuzz-")


def expression(data: bytes) -> None:
    """What is parsed gives for each row true, false or null, and says which value decided where it is not
    true; anything else is an ExpressionError."""
    try:
        parsed = parse(data.decode("utf-8", "surrogateescape"), {"limit": 3, "choices": ("a", "b")})
        found = parsed.evaluate(COLUMNS)
        decided = parsed.deciding(COLUMNS)
    except ExpressionError:
        return
    assert len(found) == len(decided) == 3
    assert found.type == pa.bool_()


def job_file(data: bytes) -> None:
    """A document is read into plain values, or into problems."""
    document = read_yaml(data)
    assert document.problems or _is_plain(document.value)


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def source(data: bytes) -> None:
    """A file of any format gives rows with a text or an error, in bounded batches, and its accounts balance.

    The first byte chooses the format.
    """
    if not data:
        return
    kinds = list(SUFFIXES)
    kind = kinds[data[0] % len(kinds)]
    path = Path(_folder.name) / f"a{SUFFIXES[kind]}"
    path.write_bytes(data[1:])
    counts = ContainerCounts()
    limits = ReadLimits(max_line_bytes=10_000, max_payload_bytes=10_000, stream_free_bytes=1 << 20)
    split = Split(os.fspath(path), kind, limits=limits)
    for batch in read(split, counts):
        batch.validate(full=True)
        for text, payload, error in zip(batch["text"], batch["payload"], batch["error"], strict=True):
            assert (text.is_valid or payload.is_valid) != error.is_valid
    assert counts.balanced


def compressed(data: bytes) -> None:
    """A stream ends with a fault or without one, and gives no more than it may."""
    limits = ReadLimits(stream_free_bytes=1 << 20)
    stream = Decoded(io.BytesIO(data), compression_of(data[:4]), limits=limits)
    size = sum(map(len, stream.pieces()))
    # The piece that goes above the limit is not given.
    assert size <= max(1 << 20, len(data) * limits.max_ratio)


def page(data: bytes) -> None:
    """A page gives text or an error, and its charset."""
    found = extract_page(data, None, "https://example.org/", "resiliparse")
    assert (found.text is None) != (found.error is None)
    assert found.charset is not None


def charset(data: bytes) -> None:
    """Any bytes under any label make a text."""
    label, _, body = data.partition(b"\n")
    text, name = decode(body, f"text/html; charset={label.decode('latin-1')}")
    assert isinstance(text, str)
    assert name == name.lower()


def address(data: bytes) -> None:
    """Any text has a host, or none, and its domains end."""
    parsed = Address.parse(data.decode("utf-8", "replace"))
    assert len(list(parsed.domains)) <= 254
    assert len(list(parsed.prefixes)) <= 34


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (expression, job_file, source, compressed, page, charset, address)
}
# Where mutation starts from, so that the first seconds are not spent on what fails at once.
SEEDS: dict[str, list[bytes]] = {
    "expression": [
        b"n >= limit and not (x < 0.5 or text in choices)",
        b'matches(lower(text), "a.*b") and length(text) % 2 == 0',
        b"yes if n is null else min(n, x, abs(-1)) != 3",
        b'0 < n <= 10 and text not in ["a", "b"]',
    ],
    "job_file": [
        b"name: a\ninput: [{path: x, format: warc}]\nsteps:\n  - filter: {c4: {n: 1e3}}\n",
        b"a: &x [1, 0x2, ~, true]\nb: *x\nc: |\n  text\n",
        b'"\\u00e9\\0": !!str 5\n? [a]\n: {b: .5}\n',
    ],
    "source": [
        b'\x00{"id": "a", "text": "b", "url": null}\n{"text": "\\ud83d\\ude00"}\n',
        b'\x01id,text\n1,"a ""b""\nc"\n',
        b"\x02id\ttext\n1\ta\n",
        b"\x03WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:a>\r\n"
        b"Content-Type: application/http\r\nContent-Length: 51\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>a</p>\r\n\r\n",
        b"\x04filedesc://a 0.0.0.0 20240102030405 text/plain 2\n1 0\n\n"
        b"http://a/ 1.1.1.1 20240102030405 text/html 27\nHTTP/1.1 200 OK\r\n\r\n<p>a</p>\n",
        b"\x05some text\n",
    ],
    "compressed": [
        bytes.fromhex("1f8b08000000000000034b4c040045e5982802000000"),
        bytes.fromhex("28b52ffd0402110000616182") + b"\x00" * 4,
    ],
    "page": [
        b'<html><head><title>a</title><meta charset="utf-8"></head><body><p>a<b>b</p></body>',
        b"<table><tr><td>&eacute;&#x1f600;<script>x</script><!-- c --><pre>\n a</pre>",
        b"\xff\xfe<\x00p\x00>\x00a\x00",
    ],
    "charset": [b"utf-8\n\xc3\xa9", b"shift_jis\n\x83\x40", b"windows-1252\n\x81\xe9", b"utf-16le\na\0"],
    "address": [
        b"https://user@a.example.org:80/b/c?d=e&f#g",
        b"//[::1]/x",
        b"mailto:a@b",
        b"\xc3\xa9.example",
    ],
}
