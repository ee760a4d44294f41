from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from thresher.pipeline.sources import ContainerCounts, SourceError, SourceFile, expand, plan_splits, read
from thresher.pipeline.sources.files import open_file
from thresher.pipeline.sources.patience import ReadError
from thresher.pipeline.sources.reader import read_texts

pytest.importorskip("s3fs", reason="s3:// needs s3fs")
server = pytest.importorskip("moto.server", reason="the S3 server of these tests is moto's")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, impatient: None) -> Any:
    """An S3 file system on a bucket `crawl`, found through the environment as a user would set it."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem(use_listings_cache=False)
    if store.exists("crawl"):
        store.rm("crawl", recursive=True)
    store.mkdir("crawl")
    yield store
    s3fs.S3FileSystem.clear_instance_cache()


def lines(count: int) -> bytes:
    return b"".join(json.dumps({"id": str(n), "text": f"{n} " * 100}).encode() + b"\n" for n in range(count))


def ids(file: SourceFile, format_: str, target_bytes: int = 1 << 30) -> list[str]:
    found: list[str] = []
    for split in plan_splits(file, format_, {}, target_bytes):
        for batch in read(split, ContainerCounts()):
            found += batch["id"].to_pylist()
    return found


def test_objects_are_expanded_cut_and_read_each_record_once(bucket: Any) -> None:
    bucket.pipe({"crawl/a/0.jsonl": lines(5000), "crawl/a/1.jsonl.gz": gzip.compress(lines(70))})
    files = expand("s3://crawl/a/*.jsonl*")
    assert [(file.path, file.size) for file in files] == [
        ("s3://crawl/a/0.jsonl", len(lines(5000))),
        ("s3://crawl/a/1.jsonl.gz", len(gzip.compress(lines(70)))),
    ]
    assert len(plan_splits(files[0], "jsonl", {}, 300_000)) > 3
    assert ids(files[0], "jsonl", 300_000) == [str(n) for n in range(5000)]
    assert ids(files[1], "jsonl") == [str(n) for n in range(70)]


def test_a_listed_object_has_the_tag_of_one_asked_for_alone(bucket: Any) -> None:
    bucket.pipe("crawl/a.jsonl", lines(3))
    assert expand("s3://crawl/*.jsonl") == expand("s3://crawl/a.jsonl")


def test_an_object_that_was_replaced_has_another_tag_at_once(bucket: Any) -> None:
    bucket.pipe("crawl/a.jsonl", lines(3))
    before = expand("s3://crawl/a.jsonl")
    bucket.pipe("crawl/a.jsonl", lines(4))
    assert expand("s3://crawl/a.jsonl") != before


def test_an_object_that_is_replaced_while_it_is_read_is_an_error(bucket: Any) -> None:
    bucket.pipe("crawl/a.jsonl", lines(5000))
    with open_file("s3://crawl/a.jsonl") as file:
        assert file.read(10) == lines(5000)[:10]
        bucket.pipe("crawl/a.jsonl", lines(5000)[::-1])
        with pytest.raises(ReadError, match=r"s3://crawl/a\.jsonl: has changed while it was read"):
            file.read(2_000_000)


def test_a_missing_key_or_bucket_is_refused_with_its_url(bucket: Any) -> None:
    for url in ("s3://crawl/none.jsonl", "s3://nobody/none.jsonl", "s3://crawl/none/*.jsonl"):
        with pytest.raises(SourceError, match=f"{url.replace('*', '.')}: no file matches"):
            expand(url)


def test_one_column_of_parquet_is_read_from_s3(bucket: Any) -> None:
    written = io.BytesIO()
    table = pa.table({"text": ["a", "b", "c"], "other": [1, 2, 3]})
    pq.write_table(table, written, row_group_size=2)
    bucket.pipe("crawl/a.parquet", written.getvalue())
    [split] = plan_splits(expand("s3://crawl/a.parquet")[0], "parquet", {})
    assert [t for array in read_texts(split) for t in array.to_pylist()] == ["a", "b", "c"]
    [batch] = [b.slice(0) for b in read(split, ContainerCounts()) if b.num_rows == 2]
    assert batch["meta"].to_pylist() == ['{"other":1}', '{"other":2}']


def test_a_store_that_fails_for_a_while_is_asked_again(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    bucket.pipe("crawl/a.jsonl", lines(50))
    [file] = expand("s3://crawl/a.jsonl")
    fetch, failures = (
        s3fs.core.S3File._fetch_range,
        [ConnectionResetError("gone"), OSError(16, "SlowDown"), b""],
    )

    def fail(self: Any, start: int, end: int) -> bytes:
        if failures:
            problem = failures.pop()
            if isinstance(problem, bytes):
                return fetch(self, start, end - 1)
            raise problem
        return fetch(self, start, end)

    monkeypatch.setattr(s3fs.core.S3File, "_fetch_range", fail)
    assert ids(file, "jsonl") == [str(n) for n in range(50)]
    assert not failures


def test_missing_credentials_are_told_with_the_url(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SourceError, match=r"s3://crawl/a\.jsonl: cannot be looked up: NoCredentialsError"):
        expand("s3://crawl/a.jsonl")


def test_a_protocol_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(SourceError, match=r"gs://bucket/a\.jsonl: cannot be looked up: .*gcsfs"):
        expand("gs://bucket/a.jsonl")
