from __future__ import annotations

import gzip
import random
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from thresher.pipeline.sources.http_body import BodyError, decode_body, join_chunks
from thresher.pipeline.sources.limits import ReadLimits


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


CODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


def chunked(data: bytes, size: int, ending: bytes = b"\r\n") -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return (
        b"".join(b"%x;ext=1" % len(part) + ending + part + ending for part in parts) + b"0" + ending + ending
    )


@pytest.mark.parametrize("coding", CODERS)
@given(body=st.binary(max_size=3000))
def test_each_coding_is_undone(coding: str, body: bytes) -> None:
    assert decode_body(CODERS[coding](body), None, coding.upper()) == body


@given(body=st.binary(max_size=3000))
def test_deflate_without_its_zlib_header_is_undone_too(body: bytes) -> None:
    assert decode_body(raw_deflate(body), None, "deflate") == body


@given(body=st.binary(min_size=1, max_size=2000), size=st.integers(1, 500), bare=st.booleans())
def test_chunks_are_joined(body: bytes, size: int, bare: bool) -> None:
    assert join_chunks(chunked(body, size, b"\n" if bare else b"\r\n")) == body


def test_chunks_and_codings_are_undone_in_the_order_of_their_headers() -> None:
    body = b"<p>hello</p>" * 50
    twice = brotli.compress(gzip.compress(body))
    assert decode_body(chunked(twice, 7), "chunked", "gzip, br") == body


@pytest.mark.parametrize("page", [b"<html>no chunks</html>", b"", b"beef\r\nis what is for dinner", b"12"])
def test_a_body_that_the_crawler_has_already_joined_is_left_alone(page: bytes) -> None:
    assert decode_body(page, "chunked", None) == page


@pytest.mark.parametrize("coding", ["gzip", "zstd", "identity", "", "utf-8"])
def test_a_body_that_is_not_coded_is_left_alone(coding: str) -> None:
    assert decode_body(b"<html>plain</html>", None, coding) == b"<html>plain</html>"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_cut_body_is_an_error_unless_the_crawler_cut_it(coding: str) -> None:
    page = bytes(random.Random(0).choices(b"abcdefgh <>", k=600_000))
    coded = CODERS[coding](page)
    half = coded[: len(coded) // 2]
    with pytest.raises(BodyError) as problem:
        decode_body(half, None, coding)
    assert problem.value.reason == "bad_content_encoding"
    kept = decode_body(half, None, coding, cut=True)
    assert 0 < len(kept) < len(page)
    assert page.startswith(kept)


@pytest.mark.parametrize("coding", ["deflate", "br", "compress", "gzip, wat"])
def test_what_cannot_be_decoded_is_named(coding: str) -> None:
    with pytest.raises(BodyError) as problem:
        decode_body(b"\x00 this is not coded", None, coding)
    assert problem.value.reason == "bad_content_encoding"


@pytest.mark.parametrize("coding", CODERS)
def test_a_bomb_is_stopped_by_its_ratio_and_by_its_size(coding: str) -> None:
    bomb = CODERS[coding](bytes(8 << 20))
    with pytest.raises(BodyError) as by_ratio:
        decode_body(bomb, None, coding, ReadLimits(max_ratio=5.0, ratio_free_bytes=1 << 16))
    with pytest.raises(BodyError) as by_size:
        decode_body(bomb, None, coding, ReadLimits(max_payload_bytes=1 << 20, max_ratio=1e9))
    assert by_ratio.value.reason == by_size.value.reason == "decompression_bomb"


@given(
    body=st.binary(max_size=400), coding=st.sampled_from([*CODERS, "gzip, br", "nonsense"]), cut=st.booleans()
)
def test_any_bytes_have_a_result_or_a_body_error(body: bytes, coding: str, cut: bool) -> None:
    try:
        found: bytes | str = decode_body(body, "chunked", coding, cut=cut)
    except BodyError as problem:
        found = problem.reason
    assert isinstance(found, bytes) or found in ("bad_content_encoding", "decompression_bomb")
