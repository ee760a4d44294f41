"""The local S3 server, for every test of the pipeline."""

from __future__ import annotations

from s3_server import s3, s3_server

__all__ = ["s3", "s3_server"]
