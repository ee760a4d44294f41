"""The funnel and the report say what the totals say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thresher.jobs.report import closing, funnel, losses, report


def test_the_funnel_shows_each_step_with_its_reasons_most_frequent_first(totals: dict[str, Any]) -> None:
    lines = funnel({"totals": totals}).splitlines()
    assert [line.split() for line in lines[:5]] == [
        ["step", "in", "kept", "why", "the", "rest", "did", "not", "pass"],
        ["input", "10", "9", "90.0", "%", "error:", "invalid_json", "1", "(10.0", "%)"],
        ["filter:gopher_quality", "9", "5", "55.6", "%", "too_few_words", "3", "(33.3", "%)"],
        ["too_many_words", "1", "(11.1", "%)"],
        ["dedup:minhash", "5", "4", "80.0", "%", "duplicate", "1", "(20.0", "%)"],
    ]
    assert lines[6:] == [
        "containers, file: 3 in, 1 read, 1 skipped: empty, 1 failed: truncated",
        "10 in = 4 kept + 4 dropped + 1 duplicates + 1 errors; 4 written",
        "2 records share their id with an earlier one",
    ]


def test_what_a_step_lost_is_what_entered_less_what_it_kept(totals: dict[str, Any]) -> None:
    for step in totals["steps"]:
        assert sum(n for _, n in losses(step)) == step["in"] - step["kept"]


def test_a_run_of_nothing_has_a_funnel_too(totals: dict[str, Any]) -> None:
    empty = {"step": "input", "in": 0, "added": 0, "kept": 0, "dropped": {}, "duplicates": 0, "errors": {}}
    nothing = totals | {"in": 0, "kept": 0, "written": 0, "dropped": {}, "duplicates": {}, "errors": {}}
    told = funnel(nothing | {"steps": [empty], "containers": {}, "repeated_ids": 0})
    assert "0 in = 0 kept + 0 dropped + 0 duplicates + 0 errors; 0 written" in told


def test_the_report_names_every_reason_and_shard_and_holds_no_time(finished_job: Path) -> None:
    output = finished_job.parent / "out"
    manifest = json.loads((output / "manifest.json").read_text())
    first = report(manifest)
    assert report(manifest) == first
    for wanted in ("| filter:gopher_quality | too_few_words | 3 | 33.3 % |", "shard-00001.parquet", "1" * 64):
        assert wanted in first


def test_a_name_cannot_break_the_table_of_the_report(totals: dict[str, Any]) -> None:
    totals["steps"][1]["step"] = "a|b\n# heading <b>"
    assert "| a\\|b # heading &lt;b> | 9 |" in report({"totals": totals, "shards": []})


def test_the_last_line_says_how_much_where_and_how_long(totals: dict[str, Any]) -> None:
    shards = [{"bytes": 1_500_000}]
    assert closing(totals, shards, "out", 65) == "4 records in 1 shard (1.5 MB) in out, 1 min 5 s"
