from __future__ import annotations

from thresher.pipeline.sources import ContainerCounts
from thresher.schemas.records import CONTAINERS


def test_accounts_balance_when_each_container_has_one_outcome() -> None:
    counts = ContainerCounts()
    for _ in range(3):
        counts.meet("warc_record")
    counts.read("warc_record")
    counts.skip("warc_record", "request")
    assert not counts.balanced
    counts.fail("warc_record", "corrupt", "a.warc:7", "bad \ud800 byte")
    assert counts.balanced
    assert counts.met == {"warc_record": 3}
    assert counts.outcomes == {
        ("warc_record", "error:corrupt"): 1,
        ("warc_record", "read"): 1,
        ("warc_record", "skipped:request"): 1,
    }


def test_an_outcome_without_a_container_does_not_balance() -> None:
    counts = ContainerCounts()
    counts.meet("file")
    counts.read("warc_record")
    assert not counts.balanced


def test_errors_are_rows_of_the_contract() -> None:
    counts = ContainerCounts()
    assert counts.errors().schema == CONTAINERS
    counts.fail("file", "truncated", "a.gz", "bad \ud800 byte")
    assert counts.errors().to_pylist() == [
        {"kind": "file", "source": "a.gz", "reason": "truncated", "detail": "bad ? byte"}
    ]


def test_accounts_tell_the_outcomes_of_each_kind() -> None:
    counts = ContainerCounts()
    for _ in range(4):
        counts.meet("warc_record")
    counts.meet("file")
    counts.read("warc_record")
    counts.skip("warc_record", "request")
    counts.skip("warc_record", "request")
    counts.fail("warc_record", "corrupt", "a:7")
    counts.fail("file", "corrupt", "a")
    assert counts.accounts() == {
        "file": {"in": 1, "read": 0, "skipped": {}, "errors": {"corrupt": 1}},
        "warc_record": {"in": 4, "read": 1, "skipped": {"request": 2}, "errors": {"corrupt": 1}},
    }
