"""Attention of sequences that lie behind one another, for the models of transformers.

All layers but attention work on one token at a time, so a batch needs no padding: its sequences are one row,
and attention alone takes them apart, those of like length together. Heads can be masked here, and watched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

NAME: Final = "thresher_packed"
Uniform = Literal["visible", "sequence"]
UNIFORM: Final[tuple[str, ...]] = get_args(Uniform)

# Sequences are padded to one length for attention alone, by a quarter at most.
_ALIKE: Final = 0.75

# Sees the number of a layer, the queries and keys of one sequence (heads, tokens, width), and the scale of
# their products.
Observer = Callable[[int, "torch.Tensor", "torch.Tensor", float], None]


@dataclass(frozen=True)
class HeadMask:
    """Heads, by layer, whose attention is the same everywhere.

    `uniform`: visible, a token weighs what it sees equally, so that weights sum to one; sequence, it weighs
    each token that it sees by one over the length of the whole sequence.
    """

    heads: Mapping[int, Sequence[int]]
    uniform: Uniform = "visible"


@dataclass(frozen=True)
class Group:
    """Sequences of a batch that attention takes together, padded to one length."""

    start: int  # of the first token
    stop: int
    rows: int
    length: int  # of the longest
    index: torch.Tensor | None  # (rows, length) into the batch; None where all have the same length
    valid: torch.Tensor | None  # which of them are tokens and no padding, flat
    lengths: torch.Tensor  # (rows,)


@dataclass(frozen=True)
class Packing:
    """Where the sequences of a batch are, the longest first."""

    groups: list[Group]
    positions: torch.Tensor  # of each token in its sequence
    mask: HeadMask | None = None
    observer: Observer | None = field(default=None, compare=False)


_current: ContextVar[Packing | None] = ContextVar("thresher_packing", default=None)


def packing_of(
    lengths: npt.NDArray[np.int64],
    device: torch.device,
    mask: HeadMask | None = None,
    observer: Observer | None = None,
) -> Packing:
    """The packing of sequences of these lengths, which do not grow."""
    import torch

    ends = np.cumsum(lengths)
    positions = np.arange(int(ends[-1])) - np.repeat(ends - lengths, lengths)
    groups, first = [], 0
    while first < len(lengths):
        longest = int(lengths[first])
        last = first + int((lengths[first:] >= _ALIKE * longest).sum())
        members = lengths[first:last]
        start = int(ends[first] - longest)
        index = valid = None
        if members[-1] != longest:
            inside = np.arange(longest) < members[:, None]
            # Padding repeats a sequence's first token: no token before it sees it.
            at = np.where(inside, np.arange(longest), 0) + (ends[first:last] - members)[:, None]
            index = torch.from_numpy(at).to(device)
            valid = torch.from_numpy(np.flatnonzero(inside)).to(device)
        groups.append(
            Group(
                start,
                int(ends[last - 1]),
                last - first,
                longest,
                index,
                valid,
                torch.from_numpy(members.copy()).to(device),
            )
        )
        first = last
    return Packing(groups, torch.from_numpy(positions).to(device), mask, observer)


@contextmanager
def packed_as(packing: Packing) -> Iterator[None]:
    """Inside, attention takes the tokens that a model is given for a batch packed in this way."""
    token = _current.set(packing)
    try:
        yield
    finally:
        _current.reset(token)


def register() -> str:
    """Tells transformers of this attention; returns the name that a model asks for it by."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    return NAME


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """(1, tokens, heads, width), of queries, keys and values (1, heads, tokens, width)."""
    import torch

    packing = _current.get()
    assert packing is not None, "attention of packed sequences needs their packing"
    layer = int(module.layer_idx)
    if packing.observer is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        packing.observer(layer, query[0], _for_each_head(key, query)[0], scale)
    masked = [] if packing.mask is None else list(packing.mask.heads.get(layer, ()))
    out = torch.empty(
        (query.shape[2], query.shape[1], value.shape[-1]), dtype=query.dtype, device=query.device
    )
    for group in packing.groups:
        q, k, v = (_padded(tensor[0], group) for tensor in (query, key, value))
        found = _causal(q, k, v, scaling)
        if masked and packing.mask is not None:
            found[:, masked] = _uniform(_for_each_head(v, q)[:, masked], group, packing.mask.uniform)
        flat = found.transpose(1, 2).reshape(group.rows * group.length, *out.shape[1:])
        out[group.start : group.stop] = flat if group.valid is None else flat[group.valid]
    return out[None], None


def _no_mask(*sizes: Any, **more: Any) -> None:
    return None


def _padded(tensor: torch.Tensor, group: Group) -> torch.Tensor:
    """(rows, heads, length, width) of (heads, tokens, width)."""
    if group.index is None:
        part = tensor[:, group.start : group.stop]
        return part.reshape(part.shape[0], group.rows, group.length, part.shape[-1]).transpose(0, 1)
    return tensor[:, group.index].transpose(0, 1)


def _causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float | None) -> torch.Tensor:
    from torch.nn.functional import scaled_dot_product_attention

    if q.shape[1] == k.shape[1]:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
    if q.device.type == "cuda":
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
    k, v = _for_each_head(k, q), _for_each_head(v, q)
    return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)


def _for_each_head(tensor: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Keys or values (rows, heads, …) repeated where several heads of the query share one."""
    shared = query.shape[1] // tensor.shape[1]
    return tensor if shared == 1 else tensor.repeat_interleave(shared, dim=1)


def _uniform(v: torch.Tensor, group: Group, how: Uniform) -> torch.Tensor:
    """The values (rows, heads, length, width) that each token sees, weighed equally."""
    import torch

    sums = v.float().cumsum(dim=2)
    if how == "sequence":
        return (sums / group.lengths[:, None, None, None]).to(v.dtype)
    seen = torch.arange(1, group.length + 1, device=v.device)
    return (sums / seen[:, None]).to(v.dtype)
