"""The step that edits text: what it drops, what it counts, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from thresher.filters.text.edits import EditError
from thresher.pipeline.accounts import Accounts
from thresher.pipeline.operator import Output
from thresher.pipeline.stage import OperatorRef, StreamRef
from thresher.pipeline.steps.refining import Refine

PLUGIN = '''
import pyarrow as pa
from thresher.schemas.contracts import EDIT, Refiner

class Cut(Refiner):
    """Deletes the bytes before `to`, or those that the column `until` says."""
    version = 1
    inputs = ("text",)

    def __init__(self, to, column=None):
        self.to, self.column = to, column
        if column:
            self.inputs = (column,)

    def open(self, assets):
        self.opened = True

    def edits(self, batch):
        assert self.opened and batch.schema.names == list(self.inputs)
        stops = batch.column(self.column).to_pylist() if self.column else [
            text and min(self.to, len(text.encode())) for text in batch.column("text").to_pylist()]
        return pa.array(
            [[{"start": 0, "stop": stop, "replacement": ""}] if stop else [] for stop in stops],
            pa.list_(EDIT),
        )
'''


class Ledger(Output):
    """Keeps the ledger's rows."""

    def __init__(self) -> None:
        self.accounts, self.rows = Accounts(), []

    def emit(self, stream: str, batch: pa.RecordBatch) -> None:
        assert stream == "ledger"
        self.rows += [(row["id"], row["reason"], row["value"]) for row in batch.to_pylist()]

    def new_file(self, name: str) -> Path:
        raise AssertionError("an edit writes no file")

    def attach(self, stream: str, file: StreamRef) -> None:
        raise AssertionError("an edit attaches no file")


def batch_of(texts: list[str | None], **columns: Any) -> pa.RecordBatch:
    ids = [str(number) for number in range(len(texts))]
    return pa.RecordBatch.from_pydict(
        {
            "position": pa.array(range(len(texts)), pa.uint64()),
            "id": pa.array(ids, pa.string()),
            "source": pa.array(ids, pa.string()),
            "text": pa.array(texts, pa.string()),
            **columns,
        }
    )


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    (tmp_path / "cutting.py").write_text(PLUGIN, encoding="utf-8")
    return tmp_path


def step(folder: Path, refiner: str, max_removed: float | None = None, **arguments: Any) -> Refine:
    operator = Refine("edit", refiner, arguments, max_removed, str(folder), allow_code=True)
    operator.open()
    return operator


def test_texts_are_edited_and_records_without_edits_pass_as_they_are(plugin: Path) -> None:
    out, batch = Ledger(), batch_of(["ab cd ef", "", None, "éxy "])
    after = step(plugin, "cutting:Cut", to=2).apply(batch, out)
    assert after.column("text").to_pylist() == [" cd ef", "", None, "xy "]
    assert after.schema == batch.schema
    assert out.rows == []
    assert out.accounts.step("edit")["figures"] == {"edited_records": 2, "edits": 2, "removed_bytes": 4}


def test_a_record_of_which_only_white_space_is_left_is_dropped(plugin: Path) -> None:
    out = Ledger()
    after = step(plugin, "cutting:Cut", 0.0, to=2).apply(batch_of(["ab \n", "ab", "  ", " x"]), out)
    assert after.column("text").to_pylist() == []
    assert out.rows == [(str(row), "empty_after_edit", None) for row in range(4)]
    assert out.accounts.step("edit")["figures"] == {"edited_records": 0, "edits": 0, "removed_bytes": 0}
    assert out.accounts.step("edit")["dropped"] == {"empty_after_edit": 4}


def test_a_record_that_loses_more_than_the_limit_is_dropped_with_its_share(plugin: Path) -> None:
    words = "x " * 19
    out = Ledger()
    texts = ["a " + words, "a b " + words[2:], "a b c", None]
    after = step(plugin, "cutting:Cut", 0.05, to=3).apply(batch_of(texts), out)
    assert out.rows == [
        ("0", "too_much_removed", "0.1"),
        ("1", "too_much_removed", "0.1"),
        ("2", "too_much_removed", "0.666667"),
    ]
    assert after.column("id").to_pylist() == ["3"]
    passing = step(plugin, "cutting:Cut", 0.05, to=1).apply(batch_of(["a " + words, " b"]), Ledger())
    assert passing.column("text").to_pylist() == [" " + words, "b"]


def test_the_refiner_sees_the_columns_that_it_asks_for(plugin: Path) -> None:
    arguments = {"to": 0, "column": "until"}
    batch = batch_of(["abc", "abc"], until=pa.array([1, 0]))
    after = step(plugin, "cutting:Cut", **arguments).apply(batch, Ledger())
    assert after.column("text").to_pylist() == ["bc", "abc"]
    ref = OperatorRef.of(
        Refine,
        step="edit",
        refiner="cutting:Cut",
        arguments=arguments,
        max_removed=None,
        directory=str(plugin),
        allow_code=True,
    )
    assert Refine.columns(ref) == ("text", "until")


def test_edits_that_do_not_fit_name_the_step(plugin: Path) -> None:
    batch = batch_of(["é"], until=pa.array([1]))
    with pytest.raises(EditError, match="step edit: row 0: the edit of bytes 0 to 1 cuts a character"):
        step(plugin, "cutting:Cut", to=0, column="until").apply(batch, Ledger())


def test_a_batch_without_rows_keeps_its_schema(plugin: Path) -> None:
    out, batch = Ledger(), batch_of(["a"]).slice(0, 0)
    assert step(plugin, "cutting:Cut", 0.05, to=1).apply(batch, out).schema == batch.schema
    assert out.accounts.step("edit")["figures"] == {"edited_records": 0, "edits": 0, "removed_bytes": 0}


@pytest.mark.parametrize("name", ["c4_lines", "refinedweb_lines"])
def test_line_refiners_are_found_by_name(tmp_path: Path, name: str) -> None:
    text = "This line is kept by every rule.\nMenu\n"
    after = step(tmp_path, name).apply(batch_of([text, None]), Ledger())
    assert after.column("text").to_pylist() == ["This line is kept by every rule.", None]
