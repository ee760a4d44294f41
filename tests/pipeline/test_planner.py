"""Steps become passes and corpus steps; signals are computed once, and only what is read later is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import thresher
from thresher.pipeline.planner import Plan, describe, plan
from thresher.schemas.job import Job

RECORD = {"date", "id", "meta", "source", "text", "url"}


def job(folder: Path, *steps: Any, source: str = "in.jsonl", **more: Any) -> Job:
    (folder / source).touch()
    described = {
        "name": "planned",
        **more,
        "input": str(folder / source),
        "steps": list(steps),
        "output": {"path": str(folder / "out")},
    }
    return thresher.load(described)


def planned(folder: Path, *steps: Any, source: str = "in.jsonl", **more: Any) -> Plan:
    return plan(job(folder, *steps, source=source, **more))


def operators(found: Plan) -> list[list[str]]:
    """The operators of each pass; of Signals the names that it computes."""
    return [
        [
            " ".join(json.loads(ref.arguments)["names"])
            if ref.name.endswith(":Signals")
            else ref.name.partition(":")[2]
            for ref in phase.operators
        ]
        for phase in found.all_phases
    ]


def corpus_steps(found: Plan) -> list[list[str]]:
    return [[step.name for step in phase.corpus] for phase in found.all_phases]


def rule(expression: str) -> dict[str, str]:
    return {"rule": expression}


def test_a_job_without_steps_is_one_pass_that_reads(tmp_path: Path) -> None:
    found = planned(tmp_path)
    assert (operators(found), corpus_steps(found), found.steps) == ([[]], [[]], ())
    assert set(found.all_phases[0].keeps) == RECORD


def test_steps_of_single_records_are_one_pass(tmp_path: Path) -> None:
    found = planned(tmp_path, {"language": {"keep": ["en"]}}, {"sample": 0.5}, rule("word_count > 1"))
    assert operators(found) == [["Language", "Sample", "word_count", "Rules"]]
    assert found.all_phases[0].name == "language-to-rule-word_count_gt_1"


def test_corpus_steps_in_a_row_follow_one_pass_and_a_later_step_begins_another(tmp_path: Path) -> None:
    found = planned(
        tmp_path,
        {"sample": 0.5},
        {"dedup": "exact"},
        {"dedup": {"exact": {"on": "url"}}},
        {"limit": 5},
        {"sample": 0.9},
        {"select": {"top": 0.5, "by": "word_count"}},
    )
    assert corpus_steps(found) == [
        ["dedup:exact", "dedup:exact_2", "limit"],
        ["select:word_count"],
    ]
    assert operators(found) == [["Sample", "Keys", "Keys"], ["Sample", "word_count"]]


def test_a_bar_needs_no_corpus(tmp_path: Path) -> None:
    found = planned(tmp_path, {"select": {"min": 3, "by": "word_count"}})
    assert (operators(found), corpus_steps(found)) == ([["word_count", "Rules"]], [[]])


def test_signals_are_computed_once_before_the_first_step_that_needs_any(tmp_path: Path) -> None:
    found = planned(
        tmp_path,
        {"sample": 0.5},
        rule("length(url) > 3"),
        rule("word_count > 1"),
        rule("line_count > 1 and word_count < 9"),
        {"select": {"top": 0.5, "by": "mean_word_length", "unit": "characters"}},
    )
    assert operators(found) == [
        ["Sample", "Rules", "char_count line_count mean_word_length word_count", "Rules", "Rules"]
    ]
    assert found.all_phases[0].signal_streams == ("signals",)


def test_signals_that_only_a_corpus_step_reads_are_computed_for_those_that_reach_it(tmp_path: Path) -> None:
    best = {"dedup": {"exact": {"keep": {"best": "digit_char_ratio"}}}}
    assert operators(planned(tmp_path, {"sample": 0.5}, best)) == [["Sample", "Keys", "digit_char_ratio"]]


def test_signals_behind_a_corpus_step_are_computed_for_its_survivors_unless_known(tmp_path: Path) -> None:
    found = planned(
        tmp_path, rule("word_count > 1"), {"dedup": "exact"}, rule("word_count < 9 and line_count > 1")
    )
    assert operators(found) == [["word_count", "Rules", "Keys"], ["line_count", "Rules"]]
    assert found.all_phases[1].reads == ("id", "source", "text", "word_count")


def test_text_is_not_read_again_where_all_signals_are_known(tmp_path: Path) -> None:
    found = planned(tmp_path, rule("word_count > 1"), {"dedup": "exact"}, rule("word_count < 9"))
    assert operators(found)[1] == ["Rules"]
    assert found.all_phases[1].reads == ("id", "source", "word_count")


def test_another_kind_of_words_is_another_signal(tmp_path: Path) -> None:
    unicode = {"filter": {"fineweb": {"words": "unicode"}}}
    found = planned(tmp_path, rule("newline_word_ratio < 9"), unicode)
    (names,) = [names.split() for names in operators(found)[0] if " " in names]
    assert {"newline_word_ratio", "newline_word_ratio@words=unicode"} <= set(names)
    # How short lines are does not depend on what a word is.
    assert "short_line_fraction" in names


def test_signals_come_after_the_text_is_extracted(tmp_path: Path) -> None:
    found = planned(tmp_path, {"extract": "resiliparse"}, rule("word_count > 1"), source="in.warc.gz")
    assert operators(found) == [["Extract", "word_count", "Rules"]]


def test_what_later_phases_and_the_output_read_is_kept_and_no_more(tmp_path: Path) -> None:
    found = planned(
        tmp_path,
        {"dedup": {"minhash": {"keep": "longest"}}},
        {"language": {"keep": ["en"]}},
        {"dedup": {"exact": {"on": "url", "keep": "first"}}},
        {"select": {"top": 0.5, "by": "lang_score", "within": "lang"}},
    )
    first, second = found.all_phases
    assert set(first.keeps) - RECORD == {"dedup_0_keys", "dedup_0_length", "dedup_0_hash"}
    # Keys in order of the input need no rank; the payload is not written again.
    assert set(second.keeps) == {"dedup_2_keys", "dedup_2_low", "lang", "lang_score"}
    assert second.reads == ("id", "source", "text", "url")
    assert found.output == ("id", "text", "url", "source", "date", "lang", "lang_score", "meta")


def test_scores_are_kept_for_the_output_and_for_the_steps_that_use_them(tmp_path: Path) -> None:
    (tmp_path / "planned_marks.py").write_text(
        "import pyarrow as pa\n"
        "from thresher.scorers import Scorer\n"
        "class Both(Scorer):\n"
        "    version, inputs = 1, ('text', 'url')\n"
        "    outputs = {'a': pa.float32(), 'b': pa.int64()}\n"
        "    def score(self, batch): raise NotImplementedError\n"
    )
    described = {
        "name": "planned",
        "input": str(tmp_path / "in.jsonl"),
        "steps": [
            {"dedup": "exact"},
            {"score": {"planned_marks:Both": {}}, "as": "mark"},
            rule("mark_a > 0.5"),
            {"limit": 3},
            {"select": {"top": 0.5, "by": "mark_b"}},
        ],
        "output": {"path": str(tmp_path / "out")},
        "run": {"directory": str(tmp_path)},
    }
    (tmp_path / "in.jsonl").touch()
    found = plan(thresher.load(described, allow_code=True), allow_code=True)
    assert found.scores == ("mark_a", "mark_b")
    assert found.output[-2:] == ("mark_a", "mark_b")
    assert found.all_phases[1].keeps == ("mark_a", "mark_b")
    assert found.all_phases[1].reads == ("id", "source", "text", "url")


def test_the_kernels_of_the_operators_are_known_before_workers_start(tmp_path: Path) -> None:
    assert planned(tmp_path, {"sample": 0.5}).kernels == ()
    found = planned(tmp_path, rule("word_count > 1"), {"dedup": "minhash"}, {"dedup": "exact"})
    assert "thresher.filters.text.measure" in found.kernels
    assert "thresher.filters.dedup.minhash" in found.kernels
    assert len(set(found.kernels)) == len(found.kernels)


def test_stage_names_are_short_and_fit_a_folder(tmp_path: Path) -> None:
    steps = [rule(f"word_count > {number} and length(url) < 100") for number in range(9)]
    (phase,) = planned(tmp_path, *steps).all_phases
    assert len(phase.name) <= 60
    assert not set(phase.name) & set(':/\\ "<>')


@pytest.mark.parametrize("named", ["a:b", "x.y-z", "a" * 80])
def test_the_names_of_steps_are_those_of_the_job(tmp_path: Path, named: str) -> None:
    found = planned(tmp_path, {"sample": 0.5, "name": named}, {"limit": 3})
    assert found.branches[0].steps == (named, "limit")


def test_a_plan_is_described_stage_by_stage(tmp_path: Path) -> None:
    described = describe(
        job(
            tmp_path,
            rule("word_count > 1"),
            {"dedup": {"exact": {"keep": "first"}}},
            {"sample": 0.5},
            {"select": {"top": 0.1, "by": "word_count"}},
        )
    )
    record = sorted(RECORD)
    assert described == [
        {
            "stage": "rule-word_count_gt_1",
            "kind": "map",
            "steps": ["rule:word_count_gt_1"],
            "operators": ["Signals", "Rules", "Keys"],
            "reads": ["the source"],
            "keeps": ["date", "dedup_1_keys", "dedup_1_low", *record[1:]],
        },
        {
            "stage": "dedup:exact",
            "kind": "exchange",
            "steps": ["dedup:exact"],
            "operators": [],
            "reads": ["dedup_1_keys", "dedup_1_low"],
            "keeps": [],
        },
        {
            "stage": "sample",
            "kind": "map",
            "steps": ["sample"],
            "operators": ["Sample"],
            "reads": ["id", "source"],
            "keeps": [],
        },
        {
            "stage": "select:word_count",
            "kind": "summary",
            "steps": ["select:word_count"],
            "operators": [],
            "reads": ["word_count"],
            "keeps": [],
        },
        {
            "stage": "export",
            "kind": "map",
            "steps": [],
            "operators": ["ReadShard", "WriteShard"],
            "reads": ["id", "text", "url", "source", "date", "meta"],
            "keeps": [],
        },
    ]


IMAGES = {"source": "shard.tar", "modality": "image-text"}


def test_signals_of_images_are_computed_anew_behind_what_changes_images(tmp_path: Path) -> None:
    found = planned(
        tmp_path, rule("width > 100 and word_count > 2"), {"resize": {}}, rule("width > 10"), **IMAGES
    )
    assert operators(found) == [["width word_count", "Rules", "Resize", "width", "Rules"]]


def test_signals_of_captions_and_addresses_outlive_a_change_of_the_image(tmp_path: Path) -> None:
    steps = [rule("word_count > 2"), {"resize": {}}, rule("word_count > 3 and url_length < 100")]
    found = planned(tmp_path, *steps, **IMAGES)
    assert operators(found) == [["url_length word_count", "Rules", "Resize", "Rules"]]


def test_signals_of_addresses_outlive_an_edit_of_the_text(tmp_path: Path) -> None:
    steps = [rule("url_length < 100 and word_count > 2"), {"edit": "pii"}, rule("word_count > url_length")]
    assert operators(planned(tmp_path, *steps)) == [
        ["url_length word_count", "Rules", "Refine", "word_count", "Rules"]
    ]


def test_images_are_kept_for_the_output_with_what_resizing_adds(
    tmp_path: Path,
) -> None:
    (first,) = planned(tmp_path, rule("width > 100"), **IMAGES).all_phases
    assert "image" in first.keeps
    assert planned(tmp_path, {"resize": {}}, **IMAGES).output[-2:] == ("original_width", "original_height")


def test_keys_that_read_what_a_corpus_step_makes_wait_for_it(tmp_path: Path) -> None:
    found = planned(tmp_path, {"frequency": {"of": "url"}, "as": "a"}, {"frequency": {"of": "a"}})
    assert corpus_steps(found) == [["frequency:url"], ["frequency:a"]]
    apart = planned(tmp_path, {"frequency": {"of": "url"}}, {"frequency": {"of": "text"}})
    assert corpus_steps(apart) == [["frequency:url", "frequency:text"]]
