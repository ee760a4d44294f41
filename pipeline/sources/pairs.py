"""Pairs of an image, or its address, and a caption: what becomes of the fields that stand beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from .jsonl import RecordError, dump, parse_object, take_id, take_string

# Where no column is named: img2dataset calls a caption `caption`, DataComp's pool `text`.
CAPTIONS: Final = ("text", "caption")
_PLAIN: Final = frozenset((str, int, bool, type(None)))
_ENCODE: Final = msgspec.json.Encoder().encode
IDS: Final = ("id",)
IDS_OF_SAMPLES: Final = ("id", "uid")  # DataComp's shards say uid


def pair_id(url: str | None, image: bytes | memoryview | None, caption: str | None) -> str:
    """The id of a pair that has none: xxh3-128 of its URL, a zero byte, the encoded image if there is one
    with another zero byte, and the caption. So the id of an address and its caption is their `content_id`."""
    import xxhash

    before = (url or "").encode("utf-8", "replace")
    after = (caption or "").encode("utf-8", "replace")
    digest = xxhash.xxh3_128(before + b"\0")
    if image is not None:
        digest.update(image)
        after = b"\0" + after
    digest.update(after)
    return digest.hexdigest()


class PairFields:
    """Takes a record's own fields out of the JSON object beside an image.

    `columns` maps `id`, `url`, `date` and `text` (the caption) to its fields. Where it does not name the
    caption that is `text` or `caption`; a caption that is no string stays in `meta`, and is none.
    """

    def __init__(self, columns: Mapping[str, str], ids: tuple[str, ...] = IDS) -> None:
        self.names_caption = "text" in columns
        self._captions = (columns["text"],) if self.names_caption else CAPTIONS
        self._ids = (columns["id"],) if "id" in columns else ids
        self._url = columns.get("url", "url")
        self._date = columns.get("date", "date")

    def identity(self, fields: dict[str, Any]) -> str | None:
        """The id that the object gives, taken out of it. Raises RecordError."""
        for name in self._ids:
            if name in fields and (found := take_id(fields, name)):
                return found
        return None

    def record(
        self,
        fields: dict[str, Any],
        identity: str | None,
        image: bytes | memoryview | None = None,
        caption: str | None = None,
    ) -> dict[str, Any]:
        """The arguments of `Rows.add` without `source`; what is not taken goes to `meta`.

        `caption` is one from elsewhere, which counts unless `columns` names a field. Raises RecordError.
        """
        id, url, date, meta, text = self.take(fields, identity, image, caption)
        return {"id": id, "url": url, "date": date, "meta": meta, "text": text, "payload": image}

    def take(
        self,
        fields: dict[str, Any],
        identity: str | None,
        image: bytes | memoryview | None,
        caption: str | None,
    ) -> tuple[str, str | None, str | None, str | None, str | None]:
        """The same: id, url, date, meta and text."""
        try:
            if caption is None or self.names_caption:
                for name in self._captions:
                    if (text := _take_string(fields, name)) is not None:
                        caption = text
                        break
            else:
                for name in self._captions:  # img2dataset writes it twice
                    if fields.get(name) == caption:
                        del fields[name]
            url = _take_string(fields, self._url) if self._url in fields else None
            date = _take_string(fields, self._date) if self._date in fields else None
            meta = encode_fields(fields) if fields else None
            return identity or pair_id(url, image, caption), url, date, meta, caption
        except RecordError as error:
            error.record = error.record or identity
            raise


def _take_string(fields: dict[str, Any], name: str) -> str | None:
    """What `take_string` does, sooner where the string is plain."""
    value = fields.get(name)
    if type(value) is str and value.isascii():
        del fields[name]
        return value
    return take_string(fields, name)


def encode_fields(fields: Mapping[str, Any]) -> str:
    """What `dump` makes of the fields, in a fraction of its time where they are plain values.

    Raises RecordError.
    """
    if not _PLAIN.issuperset(map(type, fields.values())):
        for value in fields.values():
            kind = type(value)
            if kind not in _PLAIN and not (kind is float and value - value == 0.0):
                return dump(fields)
    try:
        return _ENCODE(fields).decode()
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError):
        return dump(fields)


class AddressParser:
    """Turns one JSON object into the address of an image, which it must have, and its caption."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._fields = PairFields(columns)
        self._url = columns.get("url", "url")

    def parse(self, data: bytes) -> dict[str, Any]:
        """The arguments of `Rows.add`, without `source`. Raises RecordError."""
        if not data.strip():
            raise RecordError("empty_line")
        fields = parse_object(data)
        identity = self._fields.identity(fields)
        url = fields.get(self._url)
        if not isinstance(url, str) or not url.strip():
            raise RecordError("missing_url", f"no address in {self._url!r}", identity)
        return self._fields.record(fields, identity)
