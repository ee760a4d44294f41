from __future__ import annotations

import gzip
import io
import struct

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from thresher.pipeline.sources.compression import Decoded, compression_of

CHUNKS = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5)


def pack(chunks: list[bytes], compression: str) -> list[bytes]:
    return [gzip.compress(chunk) if compression == "gzip" else zstandard.compress(chunk) for chunk in chunks]


def decode(data: bytes, compression: str) -> tuple[bytes, Decoded]:
    stream = Decoded(io.BytesIO(data), compression)
    return stream.read(), stream


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@given(chunks=CHUNKS)
def test_members_are_joined_and_each_decoded_byte_knows_its_member(
    compression: str, chunks: list[bytes]
) -> None:
    members = pack(chunks, compression)
    data, stream = decode(b"".join(members), compression)
    assert data == b"".join(chunks)
    assert stream.fault is None
    decoded = offset = 0
    for chunk, member in zip(chunks, members, strict=True):
        assert stream.origin(decoded) == (offset, 0)
        assert stream.origin(decoded + len(chunk) - 1) == (offset, len(chunk) - 1)
        decoded, offset = decoded + len(chunk), offset + len(member)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@given(chunks=CHUNKS, data=st.data())
def test_a_file_cut_anywhere_gives_its_beginning_and_a_fault(
    compression: str, chunks: list[bytes], data: st.DataObject
) -> None:
    members = pack(chunks, compression)
    whole = b"".join(members)
    ends = [sum(map(len, members[: index + 1])) for index in range(len(members))]
    cut = data.draw(st.integers(1, len(whole)))
    decoded, stream = decode(whole[:cut], compression)
    complete = sum(end <= cut for end in ends)
    assert b"".join(chunks).startswith(decoded)
    assert decoded.startswith(b"".join(chunks[:complete]))
    if cut in ends:
        assert stream.fault is None
    else:
        assert stream.fault is not None
        assert (stream.fault.reason, stream.fault.offset) == ("truncated", ([0, *ends])[complete])


@given(chunks=CHUNKS, data=st.data())
def test_a_changed_byte_of_a_gzip_file_is_noticed_or_changes_nothing(
    chunks: list[bytes], data: st.DataObject
) -> None:
    whole = bytearray(b"".join(pack(chunks, "gzip")))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    decoded, stream = decode(bytes(whole), "gzip")
    assert stream.fault is not None or decoded == b"".join(chunks)


def test_bytes_that_are_no_member_are_a_fault_where_they_begin() -> None:
    first = gzip.compress(b"first")
    decoded, stream = decode(first + b"garbage" + gzip.compress(b"second"), "gzip")
    assert decoded == b"first"
    assert stream.fault is not None
    assert (stream.fault.reason, stream.fault.offset) == ("corrupt", len(first))


def test_zero_bytes_between_and_after_members_are_padding() -> None:
    padded = gzip.compress(b"a") + b"\0" * 70_000 + gzip.compress(b"b") + b"\0" * 3
    decoded, stream = decode(padded, "gzip")
    assert (decoded, stream.fault) == (b"ab", None)


def test_a_skippable_zstd_frame_is_skipped() -> None:
    frame = b"\x50\x2a\x4d\x18" + struct.pack("<I", 5) + b"abcde"  # RFC 8878, section 3.1.2
    decoded, stream = decode(zstandard.compress(b"x") + frame + zstandard.compress(b"y"), "zstd")
    assert (decoded, stream.fault) == (b"xy", None)


@given(content=st.binary(max_size=2000), sizes=st.lists(st.integers(1, 100), min_size=1))
def test_reading_in_any_steps_gives_the_same_bytes(content: bytes, sizes: list[int]) -> None:
    stream = Decoded(io.BytesIO(gzip.compress(content)), "gzip")
    got, step = b"", 0
    while piece := stream.read(sizes[step % len(sizes)]):
        got, step = got + piece, step + 1
        assert stream.tell() == len(got)
    assert got == content


def test_a_file_system_error_is_passed_on_and_remembered() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("disk on fire")

    stream = Decoded(Failing(), "gzip")
    with pytest.raises(OSError, match="disk on fire"):
        stream.read(10)
    assert stream.failure is not None
    assert stream.fault is None


def test_the_first_bytes_tell_the_compression() -> None:
    assert compression_of(gzip.compress(b"")[:4]) == "gzip"
    assert compression_of(zstandard.compress(b"")[:4]) == "zstd"
    assert compression_of(b'{"a"') == compression_of(b"") == "plain"


@pytest.mark.parametrize("compression", ["plain", "gzip"])
def test_pieces_go_on_where_a_reading_stopped(compression: str) -> None:
    data = bytes(range(256)) * 3000
    file = io.BytesIO(data if compression == "plain" else gzip.compress(data))
    stream = Decoded(file, compression)
    begun = stream.read(1000)
    assert begun + b"".join(stream.pieces()) == data
