"""Signals of addresses, on addresses whose parts are plain to see."""

from __future__ import annotations

import pyarrow as pa
import pytest
from thresher.filters.signals import SIGNALS, compute_signals

NAMES = [name for name, spec in SIGNALS.items() if spec.family == "url" and name not in ("host", "domain")]


@pytest.mark.parametrize(
    ("url", "length", "digits", "hyphens", "labels", "depth", "parameters"),
    [
        ("https://www.my-site.example.org/2024/05//a-b.html?q=1&&r#top", 60, 7, 1, 4, 3, 2),
        ("http://example.org", 18, 0, 0, 2, 0, 0),
        ("http://example.org/?", 20, 0, 0, 2, 0, 0),
        ("http://user@10.0.0.1:8080/x", 27, 9, 0, 4, 1, 0),
        ("http://[2001:db8::1]/x/", 23, 6, 0, 1, 1, 0),
        ("http://münchen.example/straße", 29, 0, 3, 2, 1, 0),
        ("", 0, 0, 0, 0, 0, 0),
        (None, None, None, None, None, None, None),
    ],
)
def test_parts_of_an_address_are_counted(
    url: str | None,
    length: int | None,
    digits: int | None,
    hyphens: int | None,
    labels: int | None,
    depth: int | None,
    parameters: int | None,
) -> None:
    found = compute_signals({"url": pa.array([url], pa.string())}, NAMES)
    ratio = None if digits is None or length is None else digits / max(length, 1)
    assert {name: column[0].as_py() for name, column in found.items()} == {
        "url_length": length,
        "url_digit_char_ratio": ratio,
        "url_hyphen_count": hyphens,
        "url_label_count": labels,
        "url_path_depth": depth,
        "url_parameter_count": parameters,
    }


def test_batches_slices_and_types_make_no_difference() -> None:
    urls = ["http://a.example/1", None, "http://b.example/2/3?x=1"]
    batch = pa.RecordBatch.from_pydict({"text": pa.array(["x"] * 3), "url": pa.array(urls)})
    expected = compute_signals(batch, NAMES)
    assert [column.type for column in expected.values()] == [SIGNALS[name].type for name in NAMES]
    whole = pa.array(["skipped", *urls], pa.large_string())
    assert compute_signals({"url": whole.slice(1)}, NAMES) == expected
    assert compute_signals({"url": pa.nulls(2)}, ["url_length"])["url_length"].null_count == 2


def test_a_missing_or_retyped_column_is_refused() -> None:
    with pytest.raises(KeyError, match="url"):
        compute_signals(pa.array(["text"]), ["url_length"])
    with pytest.raises(TypeError, match="int64"):
        compute_signals({"url": pa.array([1])}, ["url_length"])


@pytest.mark.parametrize(
    ("url", "host", "domain"),
    [
        ("https://www.news.example.co.uk/x?y", "www.news.example.co.uk", "example.co.uk"),
        ("http://user.github.io", "user.github.io", "user.github.io"),
        ("http://WWW.M\u00dcnchen.de/", "www.xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("http://10.0.0.1:80/", "10.0.0.1", "10.0.0.1"),
        ("http://[2001:db8::1]/", "2001:db8::1", "2001:db8::1"),
        ("http://intranet/", "intranet", "intranet"),
        ("http://co.uk/", "co.uk", "co.uk"),
        ("mailto:a@example.org", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_a_domain_is_what_someone_registered(url: str | None, host: str | None, domain: str | None) -> None:
    found = compute_signals({"url": pa.array([url], pa.string())}, ["host", "domain"])
    assert (found["host"][0].as_py(), found["domain"][0].as_py()) == (host, domain)
