"""The Hamming join against every pair, on random, clustered and skewed hashes, however it is cut."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.filters.dedup import hamming
from thresher.filters.dedup.clusters import connected_components

ALL = 2**64 - 1
Pairs = set[tuple[int, int]]

anything = st.integers(0, ALL)
few_bits = st.sets(st.integers(0, 63), max_size=9).map(lambda bits: sum(1 << bit for bit in bits))
# Hashes around a few centres: many pairs are just within a radius, or just beyond it.
clustered = st.lists(anything, min_size=1, max_size=3).flatmap(
    lambda centres: st.lists(
        st.tuples(st.sampled_from(centres), few_bits).map(lambda pair: pair[0] ^ pair[1]), max_size=40
    )
)
hash_lists = clustered | st.lists(st.sampled_from([0, 1, 3, ALL, 1 << 63]) | anything, max_size=20)


def pairs_within(hashes: Iterable[int], radius: int, first: int = 0) -> Pairs:
    """`first`: pairs are those of the first rows with the others."""
    values = list(hashes)
    others = range(len(values))
    return {
        (a, b)
        for a in (range(first) if first else others)
        for b in (range(first, len(values)) if first else others)
        if a < b and (values[a] ^ values[b]).bit_count() <= radius
    }


def components(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    listed = list(pairs)
    src, dst = (np.array([pair[side] for pair in listed], np.uint64) for side in (0, 1))
    members, roots = connected_components(src, dst)
    return dict(zip(members.tolist(), roots.tolist(), strict=True))


def exploded(hashes: np.ndarray, radius: int, chunks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (key, hash, number of the hash), sorted by key."""
    each = hamming.keys_per_hash(radius, chunks)
    keys = hamming.bucket_keys(hashes, radius, chunks)
    order = np.argsort(keys, kind="stable")
    return keys[order], np.repeat(hashes, each)[order], np.repeat(np.arange(len(hashes)), each)[order]


def joined(hashes: np.ndarray, radius: int, chunks: int) -> list[tuple[int, int]]:
    keys, values, numbers = exploded(hashes, radius, chunks)
    a, b = hamming.near_edges(keys, values, radius)
    return list(zip(numbers[a].tolist(), numbers[b].tolist(), strict=True))


@given(hash_lists, st.integers(0, 16), st.integers(1, 3))
def test_hashes_within_the_radius_share_a_bucket(hashes: list[int], radius: int, more: int) -> None:
    chunks = min(radius + more, 64)
    if math.comb(chunks, radius) > 1000:
        chunks = radius + 1
    keys = hamming.bucket_keys(np.array(hashes, np.uint64), radius, chunks)
    each = hamming.keys_per_hash(radius, chunks)
    assert each == math.comb(chunks, radius)
    buckets = [set(row) for row in keys.reshape(len(hashes), each).tolist()]
    for a, b in pairs_within(hashes, radius):
        assert buckets[a] & buckets[b]


@given(hash_lists, st.integers(0, 16), st.integers(1, 2))
def test_what_is_joined_is_what_pairs_within_the_radius_connect(
    hashes: list[int], radius: int, more: int
) -> None:
    found = joined(np.array(hashes, np.uint64), radius, radius + more)
    wanted = pairs_within(hashes, radius)
    assert {(min(pair), max(pair)) for pair in found} <= wanted
    assert components(found) == components(wanted)


@given(hash_lists, st.integers(0, 12), st.integers(1, 12))
def test_with_two_sides_only_pairs_between_them_count(hashes: list[int], radius: int, first: int) -> None:
    first = min(first, len(hashes))
    if not first:
        return
    values = np.array(hashes, np.uint64)
    a, b = hamming.near_edges(np.zeros(len(values), np.uint64), values, radius, first)
    found = set(zip(a.tolist(), b.tolist(), strict=True))
    wanted = pairs_within(hashes, radius, first)
    assert found <= wanted
    assert components(found) == components(wanted)


@given(hash_lists, hash_lists, st.integers(0, 12), st.permutations(range(40)))
def test_the_least_rank_among_all_within_the_radius_is_found(
    new: list[int], old: list[int], radius: int, ranks: list[int]
) -> None:
    ranks = (ranks * 2)[: len(old)]
    keys, values, numbers = exploded(np.array(new, np.uint64), radius, radius + 1)
    their_keys, their_values, place = exploded(np.array(old, np.uint64), radius, radius + 1)
    among = (their_keys, their_values, np.array(ranks, np.uint64)[place])
    met, best = hamming.nearest_rank(keys, values, radius, among)
    found: dict[int, int] = {}
    for number, rank in zip(numbers[met].tolist(), best[met].tolist(), strict=True):
        found[number] = min(rank, found.get(number, rank))
    near = {
        at: [rank for value, rank in zip(old, ranks, strict=True) if (value ^ mine).bit_count() <= radius]
        for at, mine in enumerate(new)
    }
    assert found == {at: min(some) for at, some in near.items() if some}


def distances_within(hashes: np.ndarray, radius: int) -> list[tuple[int, int]]:
    """Every pair, by a table of the bits of each 16-bit number."""
    bits = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)
    found = []
    for at in range(len(hashes)):
        apart = (hashes[at + 1 :] ^ hashes[at]).view(np.uint16).reshape(-1, 4)
        near = np.flatnonzero(bits[apart].sum(axis=1, dtype=np.int64) <= radius)
        found += [(at, at + 1 + int(other)) for other in near]
    return found


def planted(count: int, radius: int, seed: int) -> np.ndarray:
    """Random hashes, of which one in five has a copy that differs in up to radius + 2 bits."""
    draw = np.random.default_rng(seed)
    hashes = draw.integers(0, ALL, count, np.uint64, endpoint=True)
    for at in range(0, count - 1, 5):
        flipped = draw.choice(64, size=draw.integers(0, radius + 3), replace=False)
        hashes[at + 1] = hashes[at] ^ np.uint64(sum(1 << int(bit) for bit in flipped))
    return draw.permutation(hashes)


@pytest.mark.parametrize(("radius", "chunks"), [(3, 4), (6, 7), (6, 8), (10, 11)])
def test_every_planted_copy_of_thousands_is_found_and_no_other(radius: int, chunks: int) -> None:
    hashes = planted(6000, radius, radius)
    wanted = distances_within(hashes, radius)
    assert 500 < len(wanted) < 1300
    found = joined(hashes, radius, chunks)
    assert components(found) == components(wanted)
    assert {(min(pair), max(pair)) for pair in found} <= set(wanted)


def test_a_bucket_that_is_large_is_cut_and_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = planted(6000, 5, 1) | np.uint64(0xFF00)
    wanted = components(distances_within(hashes, 5))
    compared: list[int] = []
    compare = hamming._compare_runs

    def counting(values: np.ndarray, rows: np.ndarray, starts: np.ndarray, most: int, *others: object) -> int:
        sizes = np.diff(starts)
        compared.append(int(np.square(sizes[sizes <= most]).sum()))
        return compare(values, rows, starts, most, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(hamming, "_compare_runs", counting)
    one_key = np.zeros(len(hashes), np.uint64)
    for limit in (16, 300, 10_000):
        monkeypatch.setattr(hamming, "DIVIDED", limit)
        compared.clear()
        a, b = hamming.near_edges(one_key, hashes, 5)
        assert components(zip(a.tolist(), b.tolist(), strict=True)) == wanted
        assert (sum(compared) < len(hashes) ** 2 / 5) == (limit < len(hashes))


@given(st.integers(0, 14), st.integers(0, 6), st.integers(0, ALL))
@settings(max_examples=25)
def test_hashes_that_cannot_be_told_apart_by_chunks_are_compared_all_the_same(
    bits: int, radius: int, centre: int
) -> None:
    draw = np.random.default_rng(bits)
    place = draw.choice(64, size=bits, replace=False)
    numbers = np.arange(min(1 << bits, 300), dtype=np.uint64)
    hashes = np.full(len(numbers), centre, np.uint64)
    for at, bit in enumerate(place):
        hashes ^= (numbers >> np.uint64(at) & np.uint64(1)) << np.uint64(bit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "DIVIDED", 8)
        a, b = hamming.near_edges(np.zeros(len(hashes), np.uint64), hashes, radius)
    wanted = pairs_within(hashes.tolist(), radius)
    assert components(zip(a.tolist(), b.tolist(), strict=True)) == components(wanted)


def test_the_edges_of_a_bucket_are_a_forest_however_many_pairs_there_are() -> None:
    hashes = np.arange(1 << 12, dtype=np.uint64)
    a, b = hamming.near_edges(np.zeros(len(hashes), np.uint64), hashes, 4)
    assert len(a) == len(hashes) - 1
    assert len(components(zip(a.tolist(), b.tolist(), strict=True))) == len(hashes)


def test_chunks_are_one_more_than_the_radius_until_buckets_would_be_too_large() -> None:
    assert [hamming.chunks_for(10**6, radius) for radius in (0, 1, 4, 6, 16)] == [1, 2, 5, 7, 17]
    assert hamming.chunks_for(10**9, 6) == 8
    assert hamming.keys_per_hash(6, 8) <= hamming.MOST_KEYS
    assert hamming.chunks_for(10**12, 16) == 17


def test_too_few_chunks_are_refused() -> None:
    with pytest.raises(ValueError, match="it takes 5 to 64"):
        hamming.bucket_keys(np.zeros(1, np.uint64), 4, 4)
