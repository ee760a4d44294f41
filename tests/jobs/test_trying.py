"""One step on one text says what decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from thresher.filters.rule_sets import RULE_SETS
from thresher.jobs.cli import cli
from thresher.jobs.problems import JobFileError
from thresher.jobs.trying import NeedsCorpusError, told, try_step

LONG = "The quick brown fox and the lazy dog have to be of use with that. " * 12
PAGE = b"<html><head><title>A page</title></head><body><p>%s</p></body></html>" % LONG.encode()


def test_a_short_text_fails_the_gopher_rules_with_its_word_count() -> None:
    answer = try_step("filter: gopher_quality", b"Too short, too bad.")
    assert (answer["verdict"], answer["value"]) == ("dropped", "4")
    assert answer["columns"]["word_count"] == 4
    rules = {rule["reason"]: rule["holds"] for rule in answer["rules"]}
    assert rules[answer["reason"]] is False
    assert len(rules) == len(RULE_SETS["gopher_quality"].rules)
    assert "FAILS" in told(answer)


def test_a_parameter_of_the_step_changes_the_decision() -> None:
    assert try_step("filter: gopher_quality", LONG.encode())["verdict"] == "kept"
    answer = try_step("filter: {gopher_quality: {min_words: 5000}}", LONG.encode())
    assert (answer["verdict"], answer["reason"]) == ("dropped", "too_few_words")
    assert answer["parameters"]["min_words"] == 5000


def test_a_rule_is_tried_with_the_value_that_decides() -> None:
    answer = try_step('rule: "word_count < 3"\nname: brief', b"one two three")
    assert (answer["verdict"], answer["reason"], answer["value"]) == ("dropped", "brief", "3")
    assert try_step("rule: \"contains(url, 'example')\"", b"", url="https://example.com")["verdict"] == "kept"


def test_a_language_is_identified() -> None:
    answer = try_step("language: {keep: [en]}", "Das ist ein deutscher Satz über das Wetter.".encode())
    assert (answer["verdict"], answer["reason"], answer["columns"]["lang"]) == (
        "dropped",
        "other_language",
        "de",
    )
    assert try_step("language: {keep: [en]}", LONG.encode())["verdict"] == "kept"


@pytest.mark.parametrize("method", ["resiliparse", "resiliparse_plain", "trafilatura"])
def test_text_is_extracted_from_a_page(method: str) -> None:
    answer = try_step(f"extract: {method}", PAGE)
    assert answer["verdict"] == "computed"
    assert "quick brown fox" in answer["columns"]["text"]
    assert try_step(f"extract: {method}", b"<html></html>")["verdict"] == "dropped"


def test_an_address_is_checked_against_lists(tmp_path: Path) -> None:
    (tmp_path / "adult").mkdir()
    (tmp_path / "adult" / "domains").write_text("example.com\n")
    step = f"url: {{lists: {tmp_path}}}"
    assert try_step(step, b"https://www.example.com/a")["verdict"] == "dropped"
    assert try_step(step, b"https://www.example.org/a")["verdict"] == "kept"


@pytest.mark.parametrize(
    "step", ["dedup: minhash", "select: {top: 10%, by: word_count}", "sample: 0.1", "limit: 3"]
)
def test_what_needs_a_corpus_says_so(step: str) -> None:
    with pytest.raises(NeedsCorpusError, match="cannot be tried on one record"):
        try_step(step, b"a")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("filter: gopher_qualty", 'did you mean "gopher_quality"'),
        ("filtr: c4", 'did you mean "filter"'),
        ("rule: quality > 1", "unknown column"),
        ("rule: 'word_count <'", "rule"),
        ("rule: word_count", "`word_count` does not fit the columns"),
        ("rule: 1 < 2", "reads no column"),
        ("filter: [c4", "not valid YAML"),
        ("", "step"),
        ("score: {my.module:Class: {}}", "--allow-code"),
    ],
)
def test_a_wrong_step_is_told_as_in_a_job(step: str, message: str) -> None:
    with pytest.raises(JobFileError, match=message):
        try_step(step, b"a")


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xff\xfe", "\u2028\u0301".encode(), b"a" * 1_000_000])
def test_no_text_is_too_odd_to_be_tried(payload: bytes) -> None:
    for step in ("filter: gopher_quality", "filter: gopher_repetition", "filter: c4", "filter: fineweb"):
        assert try_step(step, payload)["verdict"] in ("kept", "dropped")
    assert try_step("language: {keep: [en]}", payload)["verdict"] in ("kept", "dropped")
    assert try_step("extract: resiliparse", payload)["verdict"] in ("computed", "dropped", "error")


def test_a_rule_that_does_not_fit_is_told_without_a_traceback() -> None:
    done = CliRunner().invoke(cli, ["try", "rule: word_count", "--text", "x"])
    assert done.exit_code == 2
    assert done.stderr == (
        "step: rule: `word_count` does not fit the columns (word_count: int64): int64 is not a condition\n"
    )


def test_try_reads_text_files_and_standard_input(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(PAGE)
    runner = CliRunner()
    by_file = runner.invoke(
        cli, ["try", "extract: resiliparse", "--file", str(tmp_path / "page.html"), "--json"]
    )
    assert json.loads(by_file.stdout)["columns"]["title"] == "A page"
    by_pipe = runner.invoke(cli, ["try", "rule: word_count > 2", "--file", "-"], input="one two three")
    assert (by_pipe.exit_code, "kept" in by_pipe.stdout) == (0, True)
    neither = runner.invoke(cli, ["try", "rule: word_count > 2"])
    assert (neither.exit_code, "--text and --file" in neither.stderr) == (2, True)


def test_an_edit_is_tried_and_shows_the_text_that_is_left() -> None:
    answer = try_step("edit: {pii: {kinds: [email]}}", b"mail bob@example.org now")
    assert (answer["verdict"], answer["columns"]) == ("computed", {"text": "mail <EMAIL> now"})


def test_an_edit_that_leaves_nothing_drops_the_record() -> None:
    answer = try_step("edit: c4_lines", b"no full stop")
    assert (answer["verdict"], answer["reason"]) == ("dropped", "empty_after_edit")


def test_signals_are_tried_on_a_text_and_its_address() -> None:
    answer = try_step("signals: [word_count, domain]", b"a b c", url="https://www.example.co.uk/x")
    assert answer["columns"] == {"signal_word_count": 3, "signal_domain": "example.co.uk"}
