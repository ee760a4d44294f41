"""The dedup step over lines or paragraphs: copies found over the whole corpus, texts without them."""

from __future__ import annotations

from dataclasses import dataclass

from ..schemas import dedup as schema
from .compiled import CorpusStep, add_layer
from .driver import Driver, layer_of, partitions_for
from .part_order import in_part_order, shift_of
from .stage import Input, OperatorRef, Parts
from .steps.line_dedup import CollectCopies, FindCopies, PieceKeys, TakeOut
from .steps.reading import Keep, stream_part

PIECE_ROW_BYTES = 20  # key, position, number
PIECES = 40  # lines of a record, on average
COPY_ROW_BYTES = 12


@dataclass
class LineDedupStep(CorpusStep):
    """Takes copies of lines out of the texts."""

    unit: schema.Method = "lines"
    options: schema.Lines | None = None

    @property
    def kind(self) -> str:
        return "exchange"

    def run(self, driver: Driver, parts: Parts) -> Parts:
        assert self.options is not None
        options, name = self.options, self.stage_name
        keys = OperatorRef.of(PieceKeys, unit=self.unit, min_length=options.min_length, within=options.within)
        columns = ("text", options.within) if options.within else ("text",)
        found = driver.run(
            f"{name}-copies",
            {"pieces": Input(parts, (keys,), "key", columns)},
            partitions=partitions_for(sum(part.rows for part in parts) * PIECES * PIECE_ROW_BYTES),
            reduce=OperatorRef.of(FindCopies, keep=options.keep),
        )
        copies = tuple(stream_part(c.task, c.streams["copies"]) for c in found)
        removed = in_part_order(
            driver,
            f"{name}-parts",
            copies,
            parts,
            {"removed": "removed"},
            bytes_=sum(part.rows for part in copies) * COPY_ROW_BYTES,
            reduce=OperatorRef.of(CollectCopies, shift=shift_of(parts)),
        )
        take_out = OperatorRef.of(
            TakeOut,
            step=self.name,
            unit=self.unit,
            min_length=options.min_length,
            min_chars=options.min_chars,
        )
        keep = OperatorRef.of(Keep, stream="alive", columns=["text", "bytes"])
        commits = driver.run(
            f"{name}-apply",
            {
                "records": Input(
                    add_layer(parts, removed),
                    (take_out, keep),
                    columns=("id", "source", "text", "bytes", "removed"),
                )
            },
        )
        return add_layer(parts, [layer_of(committed, "alive") for committed in commits])


def compile_line_dedup(name: str, unit: schema.Method, options: schema.Lines) -> LineDedupStep:
    """The step of a job."""
    reads = {"text", *([options.within] if options.within else [])}
    return LineDedupStep(name, frozenset(reads), edits="text", unit=unit, options=options)
