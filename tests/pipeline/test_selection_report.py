"""What a selection says of records that it does not drop, and records that are in several groups at once."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fields import Record, field, run
from thresher.jobs.problems import JobFileError
from thresher.pipeline.stage import TaskFailed

CHOICES: list[Record] = [
    {"top": "30%"},
    {"top": "30%", "ties": "keep"},
    {"top": "40%", "within": "label"},
    {"cap": 4, "within": "label"},
    {"budget": 300, "unit": "characters", "within": "label"},
    {"min": 0.25},
]


def scored(count: int, seed: int = 0) -> list[Record]:
    draw = random.Random(seed)
    return [
        {
            "id": f"r{number:03d}",
            "text": "x" * draw.randrange(5, 60),
            "quality": draw.choice([None, *(step / 8 for step in range(9))]),
            "label": draw.choice("abc"),
        }
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("choice", "on_null"),
    [*((choice, "drop") for choice in CHOICES), *((choice, "keep") for choice in CHOICES[1::2])],
)
def test_a_report_says_of_each_record_whether_the_same_choice_would_keep_it(
    tmp_path: Path, choice: Record, on_null: str
) -> None:
    records = scored(60)
    columns = [field("quality", "float"), field("label", "string")]
    step = {"select": {**choice, "by": "quality"}, "name": "choice", "on_null": on_null}
    kept, _ = run(tmp_path, records, [*columns, step], out="drop")
    reported = {**step, "select": {**step["select"], "action": "report"}, "as": "chosen"}
    for files, part in ((3, "1MB"), (5, "500B")):
        told, lost = run(
            tmp_path, records, [*columns, reported], files=files, part=part, out=f"report-{files}"
        )
        assert {id_ for id_, row in told.items() if row["chosen"]} == set(kept)
        assert {row["chosen"] for row in told.values()} == {True, False}
        assert len(told) == 60
        assert not lost


def test_random_choices_are_reported_alike_and_the_column_is_called_selected(tmp_path: Path) -> None:
    for number, choice in enumerate(({"top": "25%"}, {"budget": 9}, {"cap": 3, "within": "label"})):
        step = {"select": choice, "name": "choice"}
        kept, _ = run(tmp_path, scored(40), [field("label", "string"), step], out=f"drop-{number}")
        report = {"select": {**choice, "action": "report"}, "name": "choice"}
        told, _ = run(tmp_path, scored(40), [field("label", "string"), report], out=f"report-{number}")
        assert {id_ for id_, row in told.items() if row["selected"]} == set(kept)


def test_a_report_fails_where_a_record_has_no_score_and_the_step_says_so(tmp_path: Path) -> None:
    for choice in ({"min": 0.5}, {"cap": 3, "within": "label"}, {"top": "10%"}):
        step = {"select": {**choice, "by": "quality", "action": "report"}, "on_null": "fail"}
        columns = [field("quality", "float"), field("label", "string")]
        with pytest.raises(TaskFailed, match="has no quality"):
            run(tmp_path, scored(40), [*columns, step], out="-".join(choice))


def test_an_intersection_of_two_choices_over_the_whole_pool_is_a_rule(tmp_path: Path) -> None:
    draw = random.Random(5)
    records = [
        {"id": f"r{n:02d}", "text": "t", "one": draw.random(), "other": draw.random()} for n in range(50)
    ]
    steps = [
        field("one", "double"),
        field("other", "double"),
        {"select": {"top": "40%", "by": "one", "action": "report"}, "as": "by_one"},
        {"select": {"top": "40%", "by": "other", "action": "report"}, "as": "by_other"},
        {"rule": "by_one and by_other", "name": "both"},
    ]
    kept, lost = run(tmp_path, records, steps)
    best = [sorted(records, key=lambda r: -r[of])[:20] for of in ("one", "other")]
    wanted = {r["id"] for r in best[0]} & {r["id"] for r in best[1]}
    assert set(kept) == wanted
    assert set(lost.values()) == {("dropped", "both")}
    assert 0 < len(wanted) < 20


def bar_of_datacomp(scores: list[float], fraction: float) -> set[int]:
    values = np.array(scores, np.float32)
    n = int(len(values) * fraction)
    threshold = -np.sort(-values)[n]
    return set(np.flatnonzero(values >= threshold).tolist())


def test_ties_of_many_values_and_of_groups_are_kept_in_a_job(tmp_path: Path) -> None:
    draw = random.Random(8)
    records = [
        {"id": f"r{n:03d}", "text": "t", "clip": draw.randrange(6) / 5, "label": draw.choice("ab")}
        for n in range(80)
    ]
    step = {"select": {"top": "30%", "by": "clip", "ties": "keep", "within": "label"}}
    kept, lost = run(tmp_path, records, [field("clip", "float"), field("label", "string"), step], part="600B")
    wanted = set()
    for label in "ab":
        mine = [record for record in records if record["label"] == label]
        wanted |= {mine[n]["id"] for n in bar_of_datacomp([record["clip"] for record in mine], 0.3)}
    assert set(kept) == wanted
    assert set(lost.values()) == {("dropped", "below_cut")}


def labelled(count: int, seed: int = 0) -> list[Record]:
    """Records with labels and how probable each is; some labels come twice, some records have none."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        labels = draw.choices("abcdef", [9, 5, 3, 2, 1, 1], k=draw.randrange(5))
        probable = [draw.choice([None, *range(1, 8)]) for _ in labels]
        made.append(
            {
                "id": f"r{number:03d}",
                "text": "t" * draw.randrange(1, 9),
                "labels": None if draw.random() < 0.05 else labels,
                "probable": [p and p / 8 for p in probable],
                "quality": draw.random(),
            }
        )
    return made


def best_of_labels(
    records: list[Record], cap: int, by: str, unit: str = "records"
) -> tuple[dict[str, list[str]], set[str]]:
    """The labels that each record is chosen for, and the records without any score, one label at a time."""
    pairs: dict[str, dict[str, float]] = defaultdict(dict)
    for record in records:
        labels = record["labels"]
        if labels is None:
            continue
        scores = record[by] if isinstance(record[by], list) else [record[by]] * len(labels)
        for label, score in zip(labels, scores, strict=True):
            if score is not None:
                pairs[label][record["id"]] = max(score, pairs[label].get(record["id"], 0))
    size = {r["id"]: len(r["text"]) if unit == "characters" else 1 for r in records}
    chosen: dict[str, list[str]] = defaultdict(list)
    for label, scores in pairs.items():
        room = cap
        for id_ in sorted(scores, key=lambda id_: (-scores[id_], id_)):
            room -= size[id_]
            if room < 0:
                break
            chosen[id_].append(label)
    scored_ = {id_ for scores in pairs.values() for id_ in scores}
    return chosen, {r["id"] for r in records} - scored_


@pytest.mark.parametrize(
    ("by", "unit", "cap"),
    [("probable", "records", 5), ("quality", "records", 3), ("probable", "characters", 20)],
)
def test_a_record_stays_if_it_is_among_the_best_of_any_of_its_labels(
    tmp_path: Path, by: str, unit: str, cap: int
) -> None:
    records = labelled(70)
    columns = [field("labels", "strings"), field("probable", "floats"), field("quality", "double")]
    step = {"select": {"cap": cap, "within": "labels", "by": by, "unit": unit}, "as": "chosen_for"}
    chosen, without = best_of_labels(records, cap, by, unit)
    for files, part in ((2, "1MB"), (7, "600B")):
        kept, lost = run(tmp_path, records, [*columns, step], files=files, part=part, out=f"out-{files}")
        assert {id_: sorted(row["chosen_for"]) for id_, row in kept.items()} == {
            id_: sorted(labels) for id_, labels in chosen.items()
        }
        assert {id_ for id_, why in lost.items() if why == ("dropped", "null_score")} == without
        assert {why for id_, why in lost.items() if id_ not in without} == {("dropped", "over_cap")}
    assert max(map(len, chosen.values())) > 1


def test_a_record_without_labels_may_stay_and_is_then_chosen_for_none(tmp_path: Path) -> None:
    records = labelled(40, seed=2)
    step = {"select": {"cap": 2, "within": "labels", "by": "probable"}, "on_null": "keep"}
    kept, _ = run(tmp_path, records, [field("labels", "strings"), field("probable", "floats"), step])
    chosen, without = best_of_labels(records, 2, "probable")
    assert {id_: sorted(row["selected"]) for id_, row in kept.items()} == {
        **{id_: sorted(labels) for id_, labels in chosen.items()},
        **{id_: [] for id_ in without},
    }
    assert without


def test_labels_and_probabilities_of_different_number_are_an_error_of_the_record(tmp_path: Path) -> None:
    records = labelled(30, seed=4)
    records[7] |= {"labels": ["a", "b"], "probable": [0.5]}
    records[9] |= {"labels": ["a"], "probable": []}
    sound = [r for n, r in enumerate(records) if n not in (7, 9)]
    columns = [field("labels", "strings"), field("probable", "floats")]
    chosen, _ = best_of_labels(sound, 3, "probable")
    for action in ("drop", "report"):
        step = {"select": {"cap": 3, "within": "labels", "by": "probable", "action": action}, "as": "stays"}
        kept, lost = run(tmp_path, records, [*columns, step], out=action)
        errors = {id_: why for id_, why in lost.items() if why[0] == "error"}
        assert errors == dict.fromkeys(("r007", "r009"), ("error", "uneven_lists"))
        assert {id_ for id_, row in kept.items() if row["stays"]} == set(chosen)
    assert len(kept) == 28


def test_integer_labels_are_listed_as_integers(tmp_path: Path) -> None:
    records = [{"id": f"r{n}", "text": "t", "labels": [n % 3, 7], "p": [0.5, n / 9]} for n in range(9)]
    step = {"select": {"cap": 1, "within": "labels", "by": "p"}, "as": "classes"}
    kept, _ = run(tmp_path, records, [field("labels", "integers"), field("p", "floats"), step])
    assert {id_: row["classes"] for id_, row in kept.items()} == {
        "r0": [0],
        "r1": [1],
        "r2": [2],
        "r8": [7],
    }


def test_classes_of_a_size_give_so_many_records_to_validation(tmp_path: Path) -> None:
    sizes = {0: 9, 1: 6, 2: 5, 3: 2, 4: 7}
    records = [
        {"id": f"{label}-{n}", "text": "t", "label": label}
        for label, size in sizes.items()
        for n in range(size)
    ]
    random.Random(1).shuffle(records)
    steps: list[Any] = [
        field("label", "int64"),
        {"frequency": {"of": "label", "min": 6}},
        {"select": {"cap": 2, "within": "label", "action": "report"}, "as": "validation"},
    ]
    picked = []
    for files, part in ((2, "1MB"), (6, "400B")):
        kept, lost = run(tmp_path, records, steps, files=files, part=part, out=f"out-{files}")
        assert {why[1] for why in lost.values()} == {"too_rare"}
        assert Counter(row["label"] for row in kept.values()) == {0: 9, 1: 6, 4: 7}
        assert {row["label_frequency"] for row in kept.values()} == {9, 6, 7}
        picked.append({id_ for id_, row in kept.items() if row["validation"]})
    assert Counter(id_[0] for id_ in picked[0]) == {"0": 2, "1": 2, "4": 2}
    assert picked[0] == picked[1]
    other, _ = run(tmp_path, records, steps, seed=1, out="other")
    assert {id_ for id_, row in other.items() if row["validation"]} != picked[0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"budget": 5, "ties": "keep"}, "ties goes with top"),
        ({"top": "5%", "ties": "keep", "unit": "bytes"}, "shares of records"),
        ({"cap": 5, "action": "report"}, "name the column of the groups"),
    ],
)
def test_a_choice_that_contradicts_itself_is_refused(tmp_path: Path, options: Record, told: str) -> None:
    with pytest.raises(JobFileError, match=told):
        run(tmp_path, scored(3), [{"select": options}])
