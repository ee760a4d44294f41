"""Sampling without replacement as a ranking: scores with Gumbel noise, of which the largest are taken.

The records with the `k` largest keys are `k` draws without replacement, each in proportion to exp(score) of
what is left (Kool et al. 2019, arXiv:1903.06059, section 2.3).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .order import Words

Floats = npt.NDArray[np.float64]

_DRAW_BITS: Final = 52  # with a half added, so that neither 0 nor 1 comes out, that fills a float64
_SQRT_HALF: Final = math.sqrt(0.5)
_LN_2: Final = math.log(2)
_TERMS: Final = 12  # of the series of a logarithm; the first that is left out is below 1e-19


def gumbel_keys(scores: pa.Array, draws: Words, temperature: float = 1.0) -> pa.Array:
    """double (n,): score / temperature plus the noise that the draw makes.

    `scores`: floats or integers (n,); a key is null where the score is null or NaN, infinite where it is.
    `draws`: uint64 (n,), uniform.
    """
    values = pc.fill_null(scores.cast(pa.float64()), math.nan).to_numpy(zero_copy_only=False)
    keys = values / temperature + noise(draws)
    return pa.array(keys, mask=np.isnan(keys))


def noise(draws: Words) -> Floats:
    """A number of the standard Gumbel distribution for each draw: -log(-log(u))."""
    uniform = ((draws >> np.uint64(64 - _DRAW_BITS)).astype(np.float64) + 0.5) * 2.0**-_DRAW_BITS
    return -_log(-_log(uniform))


def _log(values: Floats) -> Floats:
    """The natural logarithm of numbers above 0, by additions, products and quotients alone.

    IEEE 754 rounds these the same way everywhere; logarithms of a C library or of vector instructions may
    differ in the last bit from one processor to another, and then so would a choice.
    """
    mantissa, exponent = np.frexp(values)
    small = mantissa < _SQRT_HALF
    mantissa = np.where(small, 2 * mantissa, mantissa)
    exponent = exponent - small
    ratio = (mantissa - 1) / (mantissa + 1)
    square = ratio * ratio
    series = np.zeros_like(square)
    for term in range(_TERMS, -1, -1):
        series = series * square + 1 / (2 * term + 1)
    logarithm: Floats = exponent * _LN_2 + 2 * ratio * series
    return logarithm
