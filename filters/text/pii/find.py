"""Personal data and secrets in text: where they are, how many there are, and a refiner that replaces them.

What others look for: datatrove (formatters/pii.py) e-mail and public IPv4 addresses; Dolma (taggers/pii.py)
these and North American phone numbers; BigCode (pii/utils) e-mail, IP addresses and keys. Each kind says
with its rule, in addresses, phones, payments and keys, where it follows them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ....schemas.contracts import EDIT, Refiner
from ..buffers import TextBuffers, text_buffers

PII_VERSION: Final = 1  # changes whenever the spans of some text do

# In the order of their priority: where two overlap, the earlier kind stays, and of one kind what begins
# first.
PII_KINDS: Final = ("key", "iban", "card", "email", "ip", "phone")
_KEY: Final = PII_KINDS.index("key")

PII_SIGNALS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pii_key_count": "Keys and tokens: AWS, GitHub, Google, Slack, JSON Web Tokens, private "
        "keys in PEM, and random strings assigned to a name such as api_key.",
        "pii_iban_count": "International bank account numbers of their country's length whose check "
        "digits hold.",
        "pii_card_count": "Card numbers with an issuer's prefix and length whose check digit holds.",
        "pii_email_count": "E-mail addresses.",
        "pii_ip_count": "IPv4 and IPv6 addresses that are globally reachable.",
        "pii_phone_count": "Phone numbers, international and national.",
    }
)

REPLACEMENTS: Final[Mapping[str, str]] = MappingProxyType({kind: f"<{kind.upper()}>" for kind in PII_KINDS})

PII_SPAN: Final = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # index of the text
        pa.field("start", pa.int64(), nullable=False),  # bytes of the text's UTF-8
        pa.field("stop", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # one of PII_KINDS
    ]
)


def find_pii(text: pa.Array, kinds: Collection[str] = PII_KINDS, private_ips: bool = False) -> pa.RecordBatch:
    """The spans of PII in each text of a string array: rows of PII_SPAN by row and start, not overlapping.

    They begin and end between characters. Only IP addresses that are globally reachable count, as in
    datatrove, unless `private_ips`. Raises ValueError for a kind that does not exist, TypeError for an array
    that is not text.
    """
    row, start, stop, kind = _spans(text_buffers(text), kinds, private_ips)
    names = pa.array(PII_KINDS, pa.string()).take(pa.array(kind))
    return pa.RecordBatch.from_arrays(
        [pa.array(row), pa.array(start), pa.array(stop), names], schema=PII_SPAN
    )


def count_pii(
    text: pa.Array, kinds: Collection[str] = PII_KINDS, private_ips: bool = False
) -> dict[str, pa.Array]:
    """For each kind, in the order given, `pii_KIND_count`: the spans of find_pii in each text.

    Null for null. Spans that overlap count once, for the kind that has priority among those asked for.
    Raises as find_pii.
    """
    buffers = text_buffers(text)
    row, _, _, kind = _spans(buffers, kinds, private_ips)
    null = None if buffers.valid.all() else ~buffers.valid
    counts = {
        name: np.bincount(row[kind == PII_KINDS.index(name)], minlength=len(buffers)).astype(np.int64)
        for name in kinds
    }
    return {f"pii_{name}_count": pa.array(count, pa.int64(), mask=null) for name, count in counts.items()}


class PiiRefiner(Refiner):
    """Replaces personal data and secrets in `text`.

    `kinds`: some of PII_KINDS; all of them if none is given. `replacements`: kind -> what stands in its place
    ("" deletes), where it shall not be `<EMAIL>`, `<IP>` and so on; datatrove writes addresses that belong to
    nobody, such as email@example.com. `private_ips`: also IP addresses that are not globally reachable.

    Raises ValueError for a kind that does not exist or a replacement for one that is not among `kinds`.
    """

    version: ClassVar[int] = PII_VERSION
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    kernels = ("thresher.filters.text.pii.scan",)

    def __init__(
        self,
        kinds: Collection[str] = PII_KINDS,
        replacements: Mapping[str, str] | None = None,
        private_ips: bool = False,
    ) -> None:
        self._kinds = tuple(kinds)
        self._private_ips = private_ips
        _wanted(self._kinds)
        chosen = dict(replacements or {})
        for kind in chosen:
            if kind not in self._kinds:
                raise ValueError(f"replacements: {kind!r} is not one of {', '.join(self._kinds)}")
        texts = [chosen.get(kind, REPLACEMENTS[kind]) for kind in PII_KINDS]
        self._replacements = pa.array(texts, pa.string())

    def edits(self, batch: pa.RecordBatch) -> pa.ListArray:
        """One edit for each span of find_pii."""
        buffers = text_buffers(batch.column("text"))
        row, start, stop, kind = _spans(buffers, self._kinds, self._private_ips)
        replacement = self._replacements.take(pa.array(kind))
        edits = pa.StructArray.from_arrays([pa.array(start), pa.array(stop), replacement], fields=list(EDIT))
        offsets = np.searchsorted(row, np.arange(len(buffers) + 1)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), edits, type=pa.list_(EDIT))


_Ints = npt.NDArray[np.int64]


def _wanted(kinds: Collection[str]) -> npt.NDArray[np.bool_]:
    if isinstance(kinds, str):
        raise ValueError(f"kinds: {kinds!r} is a string; write a list, as in [{kinds}]")
    for kind in kinds:
        if kind not in PII_KINDS:
            raise ValueError(f"kinds: {kind!r} is not one of {', '.join(PII_KINDS)}")
    return np.array([kind in kinds for kind in PII_KINDS], np.bool_)


def _spans(
    buffers: TextBuffers, kinds: Collection[str], private_ips: bool
) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    """Row, start and stop within the text, and kind's index, sorted by row and start."""
    from . import scan
    from .payments import card_issuers, iban_lengths
    from .phones import calling_codes, phone_labels

    wanted = _wanted(kinds)
    found, n = scan.scan(
        buffers.data,
        buffers.offsets,
        buffers.valid,
        scan.anchors(wanted),
        wanted,
        private_ips,
        calling_codes(),
        phone_labels(),
        card_issuers(),
        iban_lengths(),
    )
    found = found[:n]
    if wanted[_KEY]:
        found = _check_keys(buffers, found)
    row, kind, start, stop = (
        np.ascontiguousarray(found[:, column]) for column in (scan.DOCUMENT, scan.KIND, scan.START, scan.STOP)
    )
    chosen = np.empty(len(found), np.int64)
    order = np.lexsort((start, kind)).astype(np.int64)
    chosen = chosen[: scan.choose(start, stop, kind, order, chosen)]
    row, kind = row[chosen], kind[chosen]
    begin = buffers.offsets[row]
    return row, start[chosen] - begin, stop[chosen] - begin, kind


def _check_keys(buffers: TextBuffers, found: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sets where the keys among the candidates end, and leaves out those that are none."""
    from .keys import CHECKS, GENERIC, names_a_secret
    from .scan import DETAIL, DOCUMENT, KIND, SIGN, START, STOP

    data = memoryview(buffers.data)  # type: ignore[arg-type]  # mypy knows arrays as buffers from Python 3.12
    keep = np.ones(len(found), np.bool_)
    for place in np.flatnonzero(found[:, KIND] == _KEY).tolist():
        candidate = found[place]
        begin, end = buffers.offsets[candidate[DOCUMENT]], buffers.offsets[candidate[DOCUMENT] + 1]
        which = int(candidate[DETAIL])
        if which == GENERIC and not names_a_secret(data, int(begin), int(candidate[SIGN])):
            keep[place] = False
            continue
        stop = CHECKS[which](data, int(candidate[START]), int(candidate[STOP]), int(end))
        keep[place] = stop > 0
        candidate[STOP] = stop
    return found[keep]
