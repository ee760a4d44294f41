"""A part is read as a plain join would: required layers narrow it, optional layers annotate it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.pipeline.stage import Layer, PartRef
from thresher.pipeline.view import read_part

PART = 3
FIRST = PART << 32


def layer(path: Path, rows: dict[int, int], name: str, *, optional: bool = False, group: int = 4) -> Layer:
    positions = sorted(rows)
    table = pa.table(
        {
            "position": pa.array(positions, pa.uint64()),
            name: pa.array([rows[p] for p in positions], pa.int64()),
        }
    )
    pq.write_table(table, path, row_group_size=group)
    return Layer(str(path), "", ("position", name), optional)


def read(part: PartRef, columns: tuple[str, ...]) -> list[dict[str, int | None]]:
    return [row for batch in read_part(part, columns) for row in batch.to_pylist()]


ROWS = st.sets(st.integers(0, 40), max_size=30)


@settings(deadline=None, max_examples=80)
@given(base=ROWS, drops=st.lists(ROWS, max_size=2), notes=ROWS, others=st.integers(0, 5))
def test_layers_join_by_position(
    tmp_path_factory: object, base: set[int], drops: list[set[int]], notes: set[int], others: int
) -> None:
    tmp = tmp_path_factory.mktemp("view")  # type: ignore[attr-defined]
    alive = set(base)
    layers = [layer(tmp / "base.parquet", {FIRST + row: row for row in base}, "a")]
    for number, gone in enumerate(drops):
        alive -= gone
        layers.append(
            layer(tmp / f"{number}.parquet", {FIRST + row: row * 10 + number for row in alive}, f"b{number}")
        )
    # An annotation may hold rows of other parts too.
    elsewhere = {((PART + step) << 32) + row: 0 for step in (-1, 1) for row in range(others)}
    layers.append(
        layer(tmp / "n.parquet", {FIRST + row: row * 100 for row in notes} | elsewhere, "note", optional=True)
    )
    names = ("a", *(f"b{number}" for number in range(len(drops))), "note")
    expected = [
        {"position": FIRST + row, "a": row}
        | {f"b{number}": row * 10 + number for number in range(len(drops))}
        | {"note": row * 100 if row in notes else None}
        for row in sorted(alive)
    ]
    part = PartRef(PART, tuple(layers))
    assert read(part, names) == expected
    assert [row["position"] for row in read(part, ())] == [FIRST + row for row in sorted(alive)]
    # A batch comes even where nothing is left, so that operators see the columns.
    assert next(iter(read_part(part, names))).schema.names == ["position", *names]


def test_the_latest_layer_that_has_a_column_wins(tmp_path: Path) -> None:
    old = layer(tmp_path / "old.parquet", {FIRST: 1, FIRST + 1: 2}, "a")
    new = layer(tmp_path / "new.parquet", {FIRST + 1: 9}, "a")
    assert read(PartRef(PART, (old, new)), ("a",)) == [{"position": FIRST + 1, "a": 9}]
