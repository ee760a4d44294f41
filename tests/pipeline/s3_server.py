"""A local S3 server behind a proxy, as fixtures. The bucket is called `data`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from store_proxy import Proxy, proxying


@pytest.fixture(scope="module")
def s3_server() -> Iterator[Any]:
    """The server's own client, which does not pass through the proxy."""
    pytest.importorskip("s3fs", reason="s3:// needs s3fs")
    server = pytest.importorskip("moto.server", reason="the S3 server of these tests is moto's")
    import boto3

    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="somebody",
        aws_secret_access_key="something",
        region_name="us-east-1",
    )
    moto.stop()


class Bucket:
    """The bucket `data` as the server has it, and the proxy through which the product sees it."""

    def __init__(self, client: Any, proxy: Proxy) -> None:
        self._client, self.proxy = client, proxy

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Content by name below the prefix."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket="data", Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {
            key.removeprefix(prefix): self._client.get_object(Bucket="data", Key=key)["Body"].read()
            for key in keys
        }

    def put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket="data", Key=key, Body=data)

    def empty(self) -> None:
        if "data" not in [bucket["Name"] for bucket in self._client.list_buckets()["Buckets"]]:
            self._client.create_bucket(Bucket="data")
        for key in self.objects(""):
            self._client.delete_object(Bucket="data", Key=key)


@pytest.fixture
def s3(s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, found through the environment as a user would set it."""
    import s3fs

    url = urlsplit(s3_server.meta.endpoint_url)
    with proxying(str(url.hostname), int(url.port or 0)) as proxy:
        for name, value in {
            "AWS_ENDPOINT_URL": proxy.address,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "something",
            "AWS_DEFAULT_REGION": "us-east-1",
            # One attempt of botocore's for each of ours, so that a test sees them.
            "AWS_MAX_ATTEMPTS": "1",
            "THRESHER_READ_ATTEMPTS": "4",
            "THRESHER_READ_BACKOFF": "0.01",
        }.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        bucket = Bucket(s3_server, proxy)
        bucket.empty()
        yield bucket
        s3fs.S3FileSystem.clear_instance_cache()
