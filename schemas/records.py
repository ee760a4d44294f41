"""What flows: the columns of a record, from the source to the shard."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

POSITION: Final = "position"

# One row for each record that a source finds, readable or not.
RAW_TEXT: Final = pa.schema(
    [
        pa.field(
            "id", pa.string(), nullable=False
        ),  # named column, WARC-Record-ID, or hash of URL and payload
        pa.field("url", pa.string()),
        pa.field("source", pa.string(), nullable=False),  # "path:offset"; a byte offset, line or row number
        pa.field("date", pa.string()),  # ISO 8601, as the input gives it
        pa.field("meta", pa.string()),  # the input's other fields, a JSON object
        pa.field(
            "text", pa.string()
        ),  # of an image its caption; null where the source carries a page that is still to be extracted
        pa.field("payload", pa.binary()),  # body of a page, content codings undone, or an encoded image
        pa.field("content_type", pa.string()),  # of the payload, as its header gives it, charset included
        pa.field("error", pa.string()),  # reason in snake_case; null for a record that could be read
        pa.field("detail", pa.string()),  # what a person needs to find and mend it
    ]
)

# A container (file, WARC record) that could not be read to its end or gave no record.
CONTAINERS: Final = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),  # file | warc_record | page | tar_member
        pa.field("source", pa.string(), nullable=False),  # "path" or "path:offset"
        pa.field("reason", pa.string(), nullable=False),  # snake_case
        pa.field("detail", pa.string()),
    ]
)

# The columns of a text shard; score columns follow them.
TEXT: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("date", pa.string()),
        pa.field("lang", pa.string()),  # ISO 639 code as the model gives it
        pa.field("lang_score", pa.float32()),  # in [0, 1]
        pa.field("meta", pa.string()),
    ]
)

# The columns of an image-text shard; those that steps make, such as original_width and scores, follow them.
IMAGE_TEXT: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.binary()),  # encoded; null where the job never fetched it
        pa.field("text", pa.string()),  # the caption
        pa.field("url", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("date", pa.string()),
        pa.field("lang", pa.string()),  # of the caption
        pa.field("lang_score", pa.float32()),
        pa.field("meta", pa.string()),
    ]
)

RECORDS: Final = {"text": TEXT, "image-text": IMAGE_TEXT}  # by the modality of the job
# What is large in a record, and so is copied and read as seldom as can be.
PAYLOADS: Final = ("image", "text")
