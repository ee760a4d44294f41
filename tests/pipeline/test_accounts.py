"""Accounts add up part by part, and an imbalance of any kind is told with the step and the figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.pipeline.accounts import Accounts, AccountsError, Order, balance, totals

STEPS = ("input", "rule", "dedup")
ORDER = Order((STEPS,))


def balanced() -> Accounts:
    """Ten lines: one broken, two dropped by a rule, three duplicates."""
    accounts = Accounts()
    accounts.count("input", 10, strings("error"), strings("invalid_json"))
    accounts.count("rule", 9, strings("dropped", "dropped"), strings("too_few_words", "too_long"))
    accounts.count("dedup", 7, strings(*["duplicate"] * 3), strings(*["duplicate"] * 3))
    accounts.add(
        {"containers": {"file": {"in": 3, "read": 1, "skipped": {"empty": 1}, "errors": {"cut": 1}}}}
    )
    return accounts


def strings(*values: str) -> pa.Array:
    return pa.array(values, pa.string())


def test_counts_go_where_their_verdict_says() -> None:
    steps = balanced().as_dict()["steps"]
    empty = {"in": 0, "added": 0, "kept": 0, "dropped": {}, "duplicates": 0, "errors": {}}
    assert steps == {
        "input": {**empty, "in": 10, "kept": 9, "errors": {"invalid_json": 1}},
        "rule": {**empty, "in": 9, "kept": 7, "dropped": {"too_few_words": 1, "too_long": 1}},
        "dedup": {**empty, "in": 7, "kept": 4, "duplicates": 3},
    }


def test_accounts_that_add_up_are_accepted() -> None:
    balance(balanced(), ORDER, ledger_rows=6)
    balance(balanced(), ORDER, ledger_rows=None)


def test_a_step_that_no_record_reached_adds_up_too() -> None:
    accounts = balanced()
    accounts.count("select", 4, strings(*["dropped"] * 4), strings(*["below_cut"] * 4))
    balance(accounts, Order(((*STEPS, "select", "limit"),)), ledger_rows=10)


def changed(step: str, field: str, by: int) -> Callable[[Accounts], None]:
    def change(accounts: Accounts) -> None:
        accounts.step(step)[field] += by

    return change


def one_more(step: str, field: str, reason: str) -> Callable[[Accounts], None]:
    def change(accounts: Accounts) -> None:
        accounts.step(step)[field][reason] += 1

    return change


def one_more_file(accounts: Accounts) -> None:
    accounts.containers["file"]["in"] += 1


def one_more_unreadable(accounts: Accounts) -> None:
    accounts.containers["file"]["errors"]["cut"] += 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("rule", "in", 1), r"^step rule: in 10 \+ added 0 is not kept 7 \+ not kept 2$"),
        (changed("rule", "added", 1), r"^step rule: in 9 \+ added 1 is not kept 7 \+ not kept 2$"),
        (changed("rule", "kept", -1), r"^step rule: in 9 \+ added 0 is not kept 6 \+ not kept 2$"),
        (changed("dedup", "duplicates", 1), r"^step dedup: in 7 \+ added 0 is not kept 4 \+ not kept 4$"),
        (one_more("rule", "dropped", "x"), r"^step rule: in 9 \+ added 0 is not kept 7 \+ not kept 3$"),
        (one_more("input", "errors", "x"), r"^step input: in 10 \+ added 0 is not kept 9 \+ not kept 2$"),
        (one_more_file, r"^containers of kind file: in 4, accounted for 3$"),
        (one_more_unreadable, r"^containers of kind file: in 3, accounted for 4$"),
    ],
)
def test_an_imbalance_names_the_step_and_its_figures(
    change: Callable[[Accounts], None], message: str
) -> None:
    accounts = balanced()
    change(accounts)
    with pytest.raises(AccountsError, match=message):
        balance(accounts, ORDER, ledger_rows=6)


@pytest.mark.parametrize("difference", [-1, 1])
def test_records_lost_or_made_between_two_steps_are_noticed(difference: int) -> None:
    accounts = balanced()
    accounts.step("dedup")["in"] += difference
    accounts.step("dedup")["kept"] += difference
    with pytest.raises(AccountsError, match=rf"step dedup saw {7 + difference} records, but rule let 7 pass"):
        balance(accounts, ORDER, ledger_rows=6)


@pytest.mark.parametrize("rows", [0, 5, 7])
def test_a_ledger_of_too_few_or_too_many_rows_is_noticed(rows: int) -> None:
    with pytest.raises(AccountsError, match=f"the ledger has {rows} rows for 6 records that were not kept"):
        balance(balanced(), ORDER, ledger_rows=rows)


COUNTS = st.lists(
    st.tuples(
        st.sampled_from(STEPS),
        st.integers(0, 5),
        st.lists(
            st.tuples(st.sampled_from(["dropped", "duplicate", "error"]), st.sampled_from("abc")), max_size=4
        ),
    ),
    max_size=8,
)


@given(COUNTS, st.integers(0, 8))
def test_parts_added_up_are_the_whole(counts: list[tuple[str, int, list[tuple[str, str]]]], cut: int) -> None:
    def counted(some: list[tuple[str, int, list[tuple[str, str]]]]) -> Accounts:
        accounts = Accounts()
        for step, kept, lost in some:
            verdicts, reasons = strings(*(v for v, _ in lost)), strings(*(r for _, r in lost))
            accounts.count(step, kept + len(lost), verdicts, reasons)
            accounts.figures[f"seen_{step}"] += 1
        return accounts

    parts = Accounts()
    for part in (counted(counts[:cut]), counted(counts[cut:])):
        parts.add(json.loads(json.dumps(part.as_dict())))
    assert json.dumps(parts.as_dict()) == json.dumps(counted(counts).as_dict())


def test_containers_of_parts_are_added_up_by_kind_and_reason() -> None:
    accounts = balanced()
    accounts.add(
        {
            "containers": {
                "file": {"in": 2, "read": 1, "skipped": {}, "errors": {"cut": 1}},
                "warc_record": {"in": 1, "read": 1, "skipped": {}, "errors": {}},
            }
        }
    )
    assert accounts.as_dict()["containers"] == {
        "file": {"in": 5, "read": 2, "skipped": {"empty": 1}, "errors": {"cut": 2}},
        "warc_record": {"in": 1, "read": 1, "skipped": {}, "errors": {}},
    }


def test_the_totals_are_those_of_the_manifest() -> None:
    accounts = balanced()
    accounts.figures["repeated_ids"] = 2
    found: dict[str, Any] = totals(accounts, ORDER, written=4)
    steps = found.pop("steps")
    assert [step["step"] for step in steps] == list(STEPS)
    assert [step["kept"] for step in steps] == [9, 7, 4]
    assert found == {
        "in": 10,
        "added": 0,
        "kept": 4,
        "written": 4,
        "dropped": {"rule": {"too_few_words": 1, "too_long": 1}},
        "duplicates": {"dedup": 3},
        "errors": {"invalid_json": 1},
        "repeated_ids": 2,
        "containers": {"file": {"in": 3, "read": 1, "skipped": {"empty": 1}, "errors": {"cut": 1}}},
    }
