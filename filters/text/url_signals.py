"""Signals of a record's address. A host is split as the step `url` splits it (url.Address)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ..signal_spec import SignalSpec

_DIGIT: Final = re.compile(r"[0-9]")

_SPECS: Final[Mapping[str, tuple[pa.DataType, str, str]]] = {
    "url_length": (pa.int64(), "characters", "Characters of the address, as written."),
    "url_digit_char_ratio": (
        pa.float64(),
        "share, 0 to 1",
        "Share of the address's characters that are 0 to 9.",
    ),
    "url_hyphen_count": (pa.int64(), "occurrences", '"-" in the host, in its ASCII form.'),
    "url_label_count": (
        pa.int64(),
        "labels",
        'Pieces of the host between dots: 3 in "www.example.org". 0 without a host, 1 for an IPv6 one.',
    ),
    "url_path_depth": (pa.int64(), "pieces", "Pieces of the path between slashes that are not empty."),
    "url_parameter_count": (pa.int64(), "parameters", 'Pieces of the query between "&" that are not empty.'),
    "host": (pa.string(), "name", "The address's host in its ASCII form, lower case; null without one."),
    "domain": (
        pa.string(),
        "name",
        "The part of the host that someone registered, by the Public Suffix List (publicsuffix.org, private "
        "suffixes too: user.github.io is a domain); the host itself where the list has no suffix of it.",
    ),
}


def url_signals() -> Iterator[SignalSpec]:
    """The signals of the family `url`."""
    for name, (type_, unit, doc) in _SPECS.items():
        yield SignalSpec(name, type_, unit, doc, "", "url", ("url",))


def measure_urls(url: pa.Array, requests: Sequence[tuple[str, SignalSpec]]) -> dict[str, pa.Array]:
    """The signals of the family `url` under the names that are asked for.

    Raises TypeError for an array that is not text.
    """
    if not (pa.types.is_string(url.type) or pa.types.is_large_string(url.type) or pa.types.is_null(url.type)):
        raise TypeError(f"url is of type {url.type}; it must be string or large_string")
    url = url.cast(pa.large_string())
    parts = _parts(url) if any(spec.name not in _WHOLE for _, spec in requests) else {}
    return {name: _signal(spec, url, parts).cast(spec.type) for name, spec in requests}


_WHOLE: Final = ("url_length", "url_digit_char_ratio")


def _signal(spec: SignalSpec, url: pa.Array, parts: Mapping[str, pa.Array]) -> pa.Array:
    if spec.name in ("host", "domain"):
        host = pc.if_else(pc.equal(parts["host"], ""), None, parts["host"])
        return host if spec.name == "host" else _domains(host)
    length = pc.utf8_length(url)
    if spec.name == "url_length":
        return length
    if spec.name == "url_digit_char_ratio":
        digits = pc.count_substring_regex(url, _DIGIT.pattern).cast(pa.float64())
        return pc.divide(digits, pc.max_element_wise(length, 1).cast(pa.float64()))
    if spec.name == "url_hyphen_count":
        return pc.count_substring(parts["host"], "-")
    if spec.name == "url_label_count":
        host = parts["host"]
        dots = pc.if_else(pc.match_substring(host, ":"), 0, pc.count_substring(host, "."))
        return pc.if_else(pc.equal(host, ""), 0, pc.add(dots, 1))
    if spec.name == "url_path_depth":
        return pc.count_substring_regex(parts["path"], "[^/]+")
    return pc.count_substring_regex(parts["query"], "[^&]+")


def _domains(host: pa.Array) -> pa.Array:
    names = [None if name is None else _domain(name) for name in host.to_pylist()]
    return pa.array(names, pa.large_string())


@lru_cache(maxsize=65_536)
def _domain(host: str) -> str:
    from tld import get_fld

    try:
        return get_fld(f"http://{host}/", fail_silently=True) or host
    except ValueError:  # what is no host at all
        return host


def _parts(url: pa.Array) -> dict[str, pa.Array]:
    from .url import Address

    hosts: list[str | None] = []
    rests: list[str | None] = []
    for text in url.to_pylist():
        address = None if text is None else Address.parse(text)
        hosts.append(address.host if address else None)
        rests.append(address.rest.partition("#")[0] if address else None)
    split = [(None, None) if rest is None else rest.partition("?")[::2] for rest in rests]
    return {
        "host": pa.array(hosts, pa.large_string()),
        "path": pa.array([path for path, _ in split], pa.large_string()),
        "query": pa.array([query for _, query in split], pa.large_string()),
    }
