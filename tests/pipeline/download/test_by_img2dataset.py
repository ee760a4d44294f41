"""img2dataset behind the same contract, where there is one."""

from __future__ import annotations

import importlib.util
import os
import stat
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from download.loopback import HERE, JPEG, Collected, Site, answer, options, records
from thresher.pipeline.download.by_img2dataset import PYTHON, Img2Dataset, Img2DatasetFailure
from thresher.pipeline.steps.download import DOWNLOADS, Download


@pytest.mark.slow
@pytest.mark.skipif(
    PYTHON not in os.environ and importlib.util.find_spec("img2dataset") is None,
    reason=f"needs img2dataset, here or in the python that {PYTHON} names",
)
def test_its_images_and_failures_are_rows_like_ours() -> None:
    routes = {
        "/a": answer(),
        "/opted-out": answer(headers={"X-Robots-Tag": "noai"}),
        "/page": answer(b"<html>"),
        "/empty": answer(b""),
        "/large": answer(JPEG + bytes(20_000)),
    }
    out = Collected()
    settings = {"with": "img2dataset", "allow": [HERE], "retries": 0, "max_bytes": 10_000}
    with Site(routes) as site:
        urls = [site.url(path) for path in (*routes, "/gone")]
        urls += ["file:///etc/passwd", "http://10.0.0.1/", site.url("/a")]
        (found,) = Download("download", settings).flow(iter([records(urls)]), out)
        assert "thresher" in site.asked[0].headers["user-agent"]
    assert found.column("position").to_pylist() == [0, 8]
    assert found.column("image").to_pylist() == [JPEG, JPEG]
    reasons = ["opted_out", "html", "empty_body", "too_large", "http_404", "bad_url", "refused_address"]
    assert [row["reason"] for row in out.rows("ledger")] == reasons
    assert [row["verdict"] for row in out.rows("ledger")] == ["dropped"] + ["error"] * 6
    assert [row["reason"] for row in out.rows(DOWNLOADS)] == [None, *reasons, None]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "echo \"ModuleNotFoundError: No module named 'img2dataset'\" >&2; exit 1",
            "pip install img2dataset",
        ),
        ("echo first >&2; echo 'ValueError: last' >&2; exit 3", "status 3: ValueError: last"),
        (None, "No such file"),
    ],
)
def test_where_it_is_missing_or_fails_the_message_says_so(
    program: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    if program is not None:
        python.write_text(f"#!/bin/sh\n{program}\n")
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv(PYTHON, str(python))
    downloader = Img2Dataset(options())
    downloader.submit([(0, "http://example.com/a.jpg")])
    with pytest.raises(Img2DatasetFailure, match=said):
        downloader.outcome(0)


def test_what_it_says_nothing_of_is_an_error_and_it_never_sees_what_is_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncp asked.parquet {tmp_path}/seen.parquet\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv(PYTHON, str(python))
    urls = ["http://example.com/a b.jpg", "file:///etc/passwd", None, "http://127.1/", "data:,"]
    downloader = Img2Dataset(options(allow=[]))
    downloader.submit(list(enumerate(urls)))
    reasons = [downloader.outcome(row).reason for row in range(len(urls))]
    downloader.close()
    assert reasons == ["download_failed", "bad_url", "bad_url", "refused_address", "bad_url"]
    assert pq.read_table(tmp_path / "seen.parquet").column("url").to_pylist() == [
        "http://example.com/a%20b.jpg"
    ]
