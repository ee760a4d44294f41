"""The decontaminate step in whole jobs: what it finds, drops, tells and mends, and what it refuses."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import corpus
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
from inline_engine import inline_tasks
from test_whole_jobs import output_digest, shards
from thresher.jobs.problems import JobFileError
from thresher.pipeline.stage import TaskFailed

QUESTION = "Which of these seven rivers has the longest course through the northern plain, by the old survey?"
ANSWER = "It is the Lena, as every child in the valley knows from the songs of the ferrymen at dusk."


def contaminated(number: int, passage: str) -> str:
    """Prose with a passage in the middle."""
    lines = corpus.document(number).split("\n")
    return "\n".join([*lines[:3], passage, *lines[3:]])


def write_set(path: Path, items: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(item) + "\n" for item in items)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(items), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(items[0]))
            writer.writeheader()
            writer.writerows(items)
    elif path.suffix == ".txt":
        path.write_text("\n".join(value for item in items for value in item.values()))
    else:
        path.write_text(lines)
    return str(path)


def run(
    tmp_path: Path, texts: list[str], options: dict[str, Any], **step: Any
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], dict[str, Any]]:
    """The records that are left, the rows of the ledger, both by id, and the totals."""
    records = [{"id": f"r{number}", "text": text} for number, text in enumerate(texts)]
    source = tmp_path / "in.jsonl"
    job = corpus.job(
        str(source if source.exists() else corpus.write(source, records)), tmp_path / "out", part="4KB"
    )
    job["steps"] = [{"decontaminate": options, **step}]
    with inline_tasks():
        result = thresher.run(thresher.load(job))
    kept = {row["id"]: row for row in shards(tmp_path / "out")}
    ledger = {row["id"]: row for row in pq.read_table(tmp_path / "out" / "ledger").to_pylist()}
    return kept, ledger, result.totals


@pytest.mark.parametrize("name", ["quiz.jsonl", "quiz.jsonl.gz", "quiz.parquet", "quiz.csv"])
def test_a_record_with_an_item_of_an_evaluation_set_goes_and_the_ledger_says_which(
    tmp_path: Path, name: str
) -> None:
    other = {"question": "What else does one ask of a river in spring?", "answer": "Nothing."}
    eval_ = write_set(tmp_path / "eval" / name, [other, {"question": QUESTION, "answer": ANSWER}])
    shouted = f"HE SAID: {ANSWER.upper().replace(' ', '  ')}!"
    texts = [corpus.document(1), contaminated(2, shouted), corpus.document(3)]
    kept, ledger, totals = run(tmp_path, texts, {"against": eval_, "fields": ["question", "answer"]})
    assert sorted(kept) == ["r0", "r2"]
    assert ledger["r1"]["reason"] == "contaminated"
    assert ledger["r1"]["step"] == "decontaminate:ngram"
    expected = " ".join(ANSWER.upper().removesuffix(".").split())
    assert ledger["r1"]["value"] == f"quiz:2 {expected}"
    assert totals["dropped"] == {"decontaminate:ngram": {"contaminated": 1}}


def test_a_text_file_is_one_item(tmp_path: Path) -> None:
    eval_ = write_set(tmp_path / "eval" / "book.txt", [{"text": QUESTION + "\n" + ANSWER}])
    kept, ledger, _ = run(tmp_path, [corpus.document(1), contaminated(2, ANSWER)], {"against": eval_})
    assert sorted(kept) == ["r0"]
    assert ledger["r1"]["value"].startswith("book:1 It is the Lena, as every")


def test_a_report_keeps_the_record_and_says_what_was_found(tmp_path: Path) -> None:
    eval_ = write_set(tmp_path / "eval" / "quiz.jsonl", [{"choices": ["none", {"text": ANSWER}]}])
    texts = [corpus.document(1), contaminated(2, ANSWER), contaminated(3, " ".join(ANSWER.split()[:14]))]
    options = {"against": eval_, "fields": "choices", "action": "report", "min_matches": 2}
    kept, ledger, totals = run(tmp_path, texts, options)
    assert not ledger
    words = len(ANSWER.split())
    assert {id_: row["contaminated_ngrams"] for id_, row in kept.items()} == {
        "r0": 0,
        "r1": words - 12,
        "r2": 2,
    }
    assert kept["r0"]["contaminated_by"] is None
    assert kept["r1"]["contaminated_by"] == f"quiz:1 {ANSWER.removesuffix('.')}"
    (step,) = [step for step in totals["steps"] if step["step"] == "decontaminate:ngram"]
    assert step["figures"] == {"contaminated_records": 2}


def test_the_columns_of_a_report_take_the_name_of_the_step(tmp_path: Path) -> None:
    eval_ = write_set(tmp_path / "eval" / "quiz.jsonl", [{"text": ANSWER}])
    options = {"against": eval_, "action": "report"}
    kept, _, _ = run(tmp_path, [corpus.document(1)], options, **{"as": "quiz"})
    assert kept["r0"]["quiz_ngrams"] == 0


def test_gpt3_takes_the_passage_out_with_its_window_and_leaves_common_phrases(tmp_path: Path) -> None:
    common = "all rights are reserved by the owners of this page and may not be copied at all"
    eval_ = write_set(tmp_path / "eval" / "quiz.jsonl", [{"text": ANSWER}, {"text": common}])
    before, after = "b" * 150 + " " + "c" * 300, "d" * 300 + " " + "e" * 150
    texts = [contaminated(number, common) for number in range(11)]
    texts += [f"{before} {ANSWER} {after}", f"{ANSWER} {after[:250]}"]
    kept, ledger, totals = run(tmp_path, texts, {"against": eval_, "method": "gpt3"})
    # The phrase is in eleven records, one more than GPT-3's rule looks at.
    assert {id_: row["text"] for id_, row in kept.items() if id_ != "r11"} == {
        f"r{number}": texts[number] for number in range(11)
    }
    removed = f"{before[:-199]}\n\n{after[199:]}"
    assert kept["r11"]["text"] == removed
    assert {id_: row["reason"] for id_, row in ledger.items()} == {"r12": "no_piece_left"}
    assert ledger["r12"]["value"].startswith("quiz:1 It is the Lena")
    (step,) = [step for step in totals["steps"] if step["step"] == "decontaminate:gpt3"]
    cut = len(texts[11].encode()) - len(removed.encode())
    assert step["figures"] == {"edited_records": 1, "removed_bytes": cut}


def test_a_phrase_that_ten_records_have_is_no_common_one_to_gpt3(tmp_path: Path) -> None:
    eval_ = write_set(tmp_path / "eval" / "quiz.jsonl", [{"text": ANSWER}])
    texts = [f"{ANSWER} {ANSWER}" for _ in range(10)]
    kept, ledger, _ = run(tmp_path, texts, {"against": eval_, "method": "gpt3"})
    assert not kept
    assert len(ledger) == 10


def test_a_record_in_too_many_pieces_goes_as_a_whole(tmp_path: Path) -> None:
    eval_ = write_set(tmp_path / "eval" / "quiz.jsonl", [{"text": ANSWER}])
    texts = [f" {ANSWER} ".join(["f" * 700] * pieces) for pieces in (10, 11)]
    kept, ledger, _ = run(tmp_path, texts, {"against": eval_, "method": "gpt3", "max_records": 0})
    assert kept["r0"]["text"].count("\n\n") == 9
    assert {id_: row["reason"] for id_, row in ledger.items()} == {"r1": "too_many_pieces"}


def test_datatrove_passes_over_what_is_in_the_question_alone(tmp_path: Path) -> None:
    eval_ = write_set(tmp_path / "eval" / "quiz.jsonl", [{"question": QUESTION, "answer": ANSWER}])
    options = {"against": eval_, "query": "question", "fields": "answer"}
    texts = [
        contaminated(1, QUESTION),
        contaminated(2, " ".join(QUESTION.split()[-6:] + ANSWER.split()[:6])),
        contaminated(3, ANSWER),
    ]
    kept, _, _ = run(tmp_path, texts, {**options, "method": "datatrove"})
    assert sorted(kept) == ["r0"]


def test_steps_after_a_removal_see_the_text_that_is_left(tmp_path: Path) -> None:
    eval_ = write_set(tmp_path / "eval" / "quiz.jsonl", [{"text": ANSWER}])
    texts = [corpus.document(1), f"{ANSWER} {' '.join(['word'] * 60)}"]
    records = [{"id": f"r{number}", "text": text} for number, text in enumerate(texts)]
    job = corpus.job(str(corpus.write(tmp_path / "in.jsonl", records)), tmp_path / "out")
    job["steps"] = [
        {"rule": "word_count > 70"},
        {"decontaminate": {"against": eval_, "action": "remove", "window": 100, "min_piece": 10}},
        {"rule": "word_count > 70", "name": "still_long"},
    ]
    with inline_tasks():
        result = thresher.run(thresher.load(job))
    assert [row["id"] for row in shards(tmp_path / "out")] == ["r0"]
    assert result.totals["dropped"] == {"still_long": {"still_long": 1}}


def test_the_output_depends_neither_on_workers_nor_on_a_second_run(tmp_path: Path) -> None:
    eval_ = write_set(
        tmp_path / "eval" / "quiz.jsonl", [{"text": corpus.document(n)} for n in range(0, 60, 9)]
    )
    records = [{"id": f"r{n}", "text": corpus.document(n)} for n in range(60)] * 2
    source = str(corpus.write(tmp_path / "in.jsonl", records))
    digests = []
    for workers in (1, 2, 2):
        job = corpus.job(source, tmp_path / "out", workers=workers, part="4KB")
        job["run"]["work"] = str(tmp_path / f"work-{workers}")
        job["steps"] = [{"decontaminate": {"against": eval_, "method": "gpt3", "max_records": 3}}]
        thresher.run(thresher.load(job))
        (tmp_path / "out" / "job.yaml").unlink()
        digests.append(output_digest(tmp_path / "out"))
    assert digests[0] == digests[1] == digests[2]


def commits(tmp_path: Path) -> dict[str, int]:
    """When each manifest entry of the run was made."""
    found = (tmp_path / "out-work" / "stages").glob("*/[0-9]*.json")
    return {str(path): path.stat().st_mtime_ns for path in found}


def test_a_changed_evaluation_file_is_searched_anew_and_a_touched_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "eval" / "quiz.jsonl"
    eval_ = write_set(path, [{"text": ANSWER}])
    texts = [contaminated(1, ANSWER), contaminated(2, QUESTION), corpus.document(3)]
    kept, _, _ = run(tmp_path, texts, {"against": eval_})
    assert sorted(kept) == ["r1", "r2"]
    committed = commits(tmp_path)
    path.touch()
    run(tmp_path, texts, {"against": eval_})
    assert commits(tmp_path) == committed
    write_set(path, [{"text": QUESTION}])
    kept, ledger, _ = run(tmp_path, texts, {"against": eval_})
    assert sorted(kept) == ["r0", "r2"]
    assert ledger["r1"]["value"].startswith("quiz:1 Which of these seven")


def refusal(tmp_path: Path, options: dict[str, Any]) -> str:
    job = corpus.job(str(corpus.write(tmp_path / "in.jsonl", corpus.rows(3))), tmp_path / "out")
    job["steps"] = [{"decontaminate": options}]
    with pytest.raises(JobFileError) as refused:
        thresher.load(job)
    return str(refused.value)


def test_an_evaluation_set_that_cannot_be_used_is_refused_before_work(tmp_path: Path) -> None:
    good = write_set(tmp_path / "eval" / "good.jsonl", [{"question": QUESTION, "answer": ANSWER}])
    (tmp_path / "eval" / "empty.jsonl").write_text("\n\n")
    (tmp_path / "eval" / "broken.jsonl").write_text('{"question": "one"}\n{"question": \n')
    (tmp_path / "eval" / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"question": "one"}\n' * 99)[:40])
    (tmp_path / "eval" / "page.html").write_text("<p>one</p>")
    (tmp_path / "eval" / "no.parquet").write_text("no Parquet")
    folder = f"{tmp_path}/eval"
    for name, message in {
        "missing.jsonl": "no file matches",
        "empty.jsonl": "has no items",
        "broken.jsonl": "broken.jsonl:2: invalid_json",
        "cut.jsonl.gz": "truncated",
        "page.html": "html holds no evaluation set",
        "no.parquet": "no.parquet: cannot be read",
    }.items():
        told = refusal(tmp_path, {"against": [good, f"{folder}/{name}"], "fields": "question"})
        assert message in told, (name, told)
    assert "the first item has question, answer" in refusal(tmp_path, {"against": good})
    told = refusal(tmp_path, {"against": good, "fields": ["question", "anwser"]})
    assert "no item has a text in anwser" in told


def test_sets_whose_items_are_all_too_short_are_told(tmp_path: Path) -> None:
    eval_ = write_set(
        tmp_path / "eval" / "quiz.jsonl", [{"text": "nine short words are too few for an n-gram"}]
    )
    with pytest.raises(TaskFailed, match="short: whole"):
        run(tmp_path, [corpus.document(1)], {"against": eval_})


def test_short_items_are_looked_for_as_a_whole_where_the_job_says_so(tmp_path: Path) -> None:
    items = [{"text": "Nine short words, they say, make a fine riddle."}, {"text": "too short to look for"}]
    eval_ = write_set(tmp_path / "eval" / "quiz.jsonl", items)
    texts = [contaminated(1, items[0]["text"]), contaminated(2, items[1]["text"])]
    kept, ledger, _ = run(tmp_path, texts, {"against": eval_, "short": "whole"})
    assert sorted(kept) == ["r1"]
    assert ledger["r0"]["value"] == "quiz:1 Nine short words, they say, make a fine riddle"
