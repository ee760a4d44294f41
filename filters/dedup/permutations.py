"""The permutations of MinHash and the choice of its bands, with the values that datasketch 2 gives.

The scheme is datasketch's "affine32" (datasketch 2.0.0, `minhash.py`): a 32-bit element hash h passes the
finalizer of MurmurHash3 once, f(h), and permutation k maps it to a_k * f(h) + b_k mod 2**32 with a_k odd.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..kernels import kernel

Uint32s = npt.NDArray[np.uint32]
Int64s = npt.NDArray[np.int64]

EMPTY = 0xFFFFFFFF  # each value of the signature of an empty set, as in datasketch

_BLOCK = 512  # hashes that are permuted together; 2 KiB, so that they stay in the nearest cache
_LANES = 16  # 32-bit lanes of the widest vectors; a block is filled up to a multiple of it


def permutations(count: int, seed: int) -> tuple[Uint32s, Uint32s]:
    """The multipliers (odd) and the offsets of `count` permutations: two uint32 arrays of shape (count,).

    Equal to `datasketch.MinHash(count, seed).permutations`. Raises ValueError for a seed outside
    [0, 2**32), which is what numpy's generator takes.
    """
    generator = np.random.RandomState(seed)
    multipliers = generator.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    offsets = generator.randint(0, 1 << 32, count, dtype=np.uint32)
    return multipliers, offsets


@lru_cache(maxsize=64)
def optimal_bands(threshold: float, num_perm: int) -> tuple[int, int]:
    """The (bands, rows) for which the areas of false positives and false negatives have the least sum.

    Two documents of Jaccard similarity s meet in at least one band with probability 1 - (1 - s**rows)**bands
    (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4). Its area below the threshold is
    what LSH finds wrongly; the area that it lacks above the threshold is what LSH loses. Both weigh one half,
    and the first least pair wins, as in `datasketch.MinHashLSH(threshold, num_perm)`; datasketch refuses a
    single band, which is accepted here. Raises ValueError for a threshold outside [0, 1] or fewer than 2
    permutations.
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must be between 0 and 1, not {threshold}")
    if num_perm < 2:
        raise ValueError(f"num_perm must be at least 2, not {num_perm}")
    # The integrands are polynomials of degree bands * rows <= num_perm, for which this rule is exact.
    nodes, weights = np.polynomial.legendre.leggauss(num_perm // 2 + 1)
    below = threshold * (nodes + 1) / 2
    above = threshold + (1 - threshold) * (nodes + 1) / 2
    best, chosen = float("inf"), (1, 1)
    for bands in range(1, num_perm + 1):
        rows = np.arange(1, num_perm // bands + 1)[:, None]
        found = (1 - (1 - below**rows) ** bands) @ weights * threshold / 2
        lost = ((1 - above**rows) ** bands) @ weights * (1 - threshold) / 2
        error = (found + lost) / 2
        least = int(np.argmin(error))
        if error[least] < best - 1e-12:  # rounding must not decide between equal pairs
            best, chosen = float(error[least]), (bands, least + 1)
    return chosen


@kernel("uint32(uint32)")
def _finalize(value: np.uint32) -> np.uint32:
    # MurmurHash3's 32-bit finalizer (Appleby, smhasher, MurmurHash3.cpp, fmix32), as datasketch applies it.
    value = np.uint32(value ^ (value >> np.uint32(16)))
    value = np.uint32(value * np.uint32(0x85EBCA6B))
    value = np.uint32(value ^ (value >> np.uint32(13)))
    value = np.uint32(value * np.uint32(0xC2B2AE35))
    return np.uint32(value ^ (value >> np.uint32(16)))


@kernel("void(uint32[::1], int64, uint32[::1], uint32[::1], uint32[::1])")
def _permute_block(
    block: Uint32s, length: int, multipliers: Uint32s, offsets: Uint32s, least: Uint32s
) -> None:
    for k in range(len(least)):
        multiplier, offset, minimum = multipliers[k], offsets[k], least[k]
        for i in range(length):
            minimum = min(minimum, np.uint32(np.uint32(block[i] * multiplier) + offset))
        least[k] = minimum


@kernel("void(int64[::1], uint32[::1], uint32[::1], uint32[::1], uint32[:, ::1])")
def minima(
    first: Int64s, hashes: Uint32s, multipliers: Uint32s, offsets: Uint32s, signatures: Uint32s
) -> None:
    """Writes the signature of each set into the rows of `signatures` (sets, permutations), uint32.

    The hashes of set i are `hashes[first[i]:first[i + 1]]`; repeated ones change nothing. An empty set
    gets EMPTY everywhere.
    """
    block = np.empty(_BLOCK, np.uint32)
    for row in range(len(signatures)):
        signatures[row, :] = np.uint32(EMPTY)
        for start in range(first[row], first[row + 1], _BLOCK):
            length = min(_BLOCK, first[row + 1] - start)
            for i in range(length):
                block[i] = _finalize(hashes[start + i])
            # A repeated element leaves a minimum as it is: so no vector is cut short.
            while length % _LANES:
                block[length] = block[length - 1]
                length += 1
            _permute_block(block, length, multipliers, offsets, signatures[row])
