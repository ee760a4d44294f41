"""A scorer that a person wrote beside the job: allowed by name, several scores, nulls, and what is reused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corpus
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
import yaml
from inline_engine import inline_tasks
from thresher.jobs.problems import JobFileError
from thresher.pipeline.planner import describe
from thresher.pipeline.stage import TaskFailed
from thresher.schemas.progress import Silent

MODULE = '''\
import pyarrow as pa
import pyarrow.compute as pc
from thresher.scorers import Scorer

OFFSET = 0


class Praise(Scorer):
    """`good`: how many words of the text are on a list; `share`: of all its words, null where it has none."""

    version = 1
    inputs = ("text", "word_count")

    def __init__(self, words):
        self._file = words
        self.assets = (words,)

    @property
    def outputs(self):
        return {"good": pa.int64(), "share": pa.float32()}

    def open(self, assets):
        self._words = set(assets.locate(self._file).read_text().split())

    def score(self, batch):
        good = [sum(w in self._words for w in t.split()) + OFFSET for t in batch.column("text").to_pylist()]
        count = batch.column("word_count")
        share = pc.divide(pa.array(good, pa.float64()), pc.if_else(pc.equal(count, 0), None, count))
        return {"good": pa.array(good, pa.int64()), "share": share.cast(pa.float32())}
'''
RECORDS = [
    {"id": "a", "text": "fine fine words"},
    {"id": "b", "text": "FINE fine words"},
    {"id": "c", "text": "plain words and no praise"},
    {"id": "d", "text": " "},
    {"id": "e", "text": "good"},
    {"id": "f", "text": "good and fine and fine and good"},
]
GOOD = {"a": 2, "b": 1, "c": 0, "d": 0, "e": 1, "f": 4}
SHARE = {"a": 2 / 3, "b": 1 / 3, "c": 0.0, "d": None, "e": 1.0, "f": 4 / 7}


@pytest.fixture
def _inline() -> Iterator[None]:
    with inline_tasks():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with records in two files, a scorer and its list of words."""
    corpus.write(tmp_path / "in-0.jsonl", RECORDS[:3])
    corpus.write(tmp_path / "in-1.jsonl", RECORDS[3:])
    (tmp_path / "praise.py").write_text(MODULE)
    (tmp_path / "praised.txt").write_text("good fine")
    return tmp_path


def job(folder: Path, *steps: dict[str, Any], on_null: str = "keep") -> dict[str, Any]:
    score = {"score": {"praise:Praise": {"words": "praised.txt"}}, "as": "praise", "on_null": on_null}
    return {
        "name": "praised",
        "input": str(folder / "in-*.jsonl"),
        "steps": [score, *steps],
        "output": {"path": str(folder / "out")},
        "run": {"workers": 2, "directory": str(folder)},
    }


class Heard(Silent):
    """Notes how many tasks of each stage were done already."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int, int]] = []

    def stage_started(self, name: str, tasks: int, done: int, bytes: int) -> None:
        self.stages.append((name, tasks, done))

    @property
    def reused(self) -> bool:
        return all(tasks == done for _, tasks, done in self.stages)


def run(described: dict[str, Any], listener: Any = None) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The records that were kept, and the ledger."""
    result = thresher.run(thresher.load(described, allow_code=True), allow_code=True, listener=listener)
    shards = [pq.read_table(Path(result.output) / shard.path) for shard in result.shards]
    return pa.concat_tables(shards), pq.read_table(Path(result.output) / "ledger").to_pylist()


def columns(table: pa.Table, *names: str) -> dict[str, Any]:
    values = [table.column(name).to_pylist() for name in names]
    rows = values[0] if len(names) == 1 else list(zip(*values, strict=True))
    return dict(zip(table.column("id").to_pylist(), rows, strict=True))


def test_every_output_becomes_a_column_of_the_shards(folder: Path) -> None:
    kept, ledger = run(job(folder))
    assert ledger == []
    assert kept.schema.field("praise_good").type == pa.int64()
    assert kept.schema.field("praise_share").type == pa.float32()
    assert columns(kept, "praise_good") == GOOD
    shares = columns(kept, "praise_share")
    assert shares == {id_: None if s is None else pytest.approx(s) for id_, s in SHARE.items()}


@pytest.mark.usefixtures("_inline")
def test_a_record_without_a_score_is_dropped_unless_the_step_says_otherwise(folder: Path) -> None:
    kept, ledger = run(job(folder, on_null="drop"))
    assert columns(kept, "praise_good") == {id_: n for id_, n in GOOD.items() if id_ != "d"}
    (row,) = ledger
    assert (row["id"], row["step"], row["verdict"], row["reason"]) == (
        "d",
        "score:Praise",
        "dropped",
        "null_score",
    )


@pytest.mark.usefixtures("_inline")
def test_a_record_without_a_score_ends_the_run_where_the_step_says_so(folder: Path) -> None:
    with pytest.raises(TaskFailed, match=r"in-0\.jsonl and 1 more: .*Praise: record d has no score"):
        run(job(folder, on_null="fail"))
    assert not (folder / "out" / "manifest.json").exists()


@pytest.mark.usefixtures("_inline")
def test_rules_dedup_and_select_use_the_scores(folder: Path) -> None:
    steps = [
        {"rule": "praise_good > 0", "name": "praised"},
        {"dedup": {"exact": {"normalize": "lower", "keep": {"best": "praise_share"}}}},
        {"select": {"top": 0.67, "by": "praise_share"}},
    ]
    kept, ledger = run(job(folder, *steps))
    # The copy of three words with the larger share stays; then two of the three that are left.
    assert sorted(kept.column("id").to_pylist()) == ["a", "e"]
    assert {row["id"]: (row["step"], row["reason"], row["value"]) for row in ledger if row["id"] != "f"} == {
        "c": ("praised", "praised", "0"),
        "d": ("praised", "praised", "0"),
        "b": ("dedup:exact", "duplicate", "a"),
    }
    (last,) = [row for row in ledger if row["id"] == "f"]
    assert (last["step"], last["reason"]) == ("select:praise_share", "below_cut")
    assert float(last["value"]) == pytest.approx(4 / 7)


@pytest.mark.usefixtures("_inline")
def test_scores_made_behind_a_dedup_are_those_of_its_survivors(folder: Path) -> None:
    described = job(folder, {"select": {"min": 0.5, "by": "praise_share"}})
    described["steps"].insert(0, {"dedup": {"exact": {"normalize": "lower"}}})
    kept, ledger = run(described)
    assert columns(kept, "praise_good") == {"a": 2, "e": 1, "f": 4}
    assert {row["id"]: (row["step"], row["reason"], row["value"]) for row in ledger} == {
        "b": ("dedup:exact", "duplicate", "a"),
        "c": ("select:praise_share", "below_min", "0.0"),
        "d": ("select:praise_share", "below_min", "null"),
    }


@pytest.mark.usefixtures("_inline")
def test_nothing_is_computed_again_where_nothing_has_changed(folder: Path) -> None:
    first, second = Heard(), Heard()
    before = run(job(folder), first)
    assert run(job(folder), second) == before
    assert (first.reused, second.reused) == (False, True)


@pytest.mark.parametrize("changed", ["source", "asset", "argument"])
def test_a_change_of_the_scorer_its_asset_or_its_arguments_is_noticed(folder: Path, changed: str) -> None:
    described = job(folder)
    run(described)
    expected = {id_: n + 10 for id_, n in GOOD.items()}
    if changed == "source":
        (folder / "praise.py").write_text(MODULE.replace("OFFSET = 0", "OFFSET = 10"))
    elif changed == "asset":
        (folder / "praised.txt").write_text("plain")
        expected = dict.fromkeys(GOOD, 0) | {"c": 1}
    else:
        (folder / "other.txt").write_text("words")
        described["steps"][0]["score"]["praise:Praise"]["words"] = "other.txt"
        expected = dict.fromkeys(GOOD, 0) | {"a": 1, "b": 1, "c": 1}
    heard = Heard()
    kept, _ = run(described, heard)
    assert not heard.reused
    assert columns(kept, "praise_good") == expected


PREPARING = '''\
import pyarrow as pa
import pyarrow.compute as pc
from thresher.scorers import Scorer


class Longest(Scorer):
    """Letters of the longest word, and how many words there are; words are split ahead of `score`."""

    version = 1
    inputs = ("text",)
    outputs = {"letters": pa.int32(), "words": pa.int32()}

    def prepare(self, batch):
        return pa.record_batch({"words": pc.utf8_split_whitespace(batch.column("text"))})

    def score(self, batch):
        words = batch.column("words").to_pylist()
        letters = pa.array([max(map(len, found)) for found in words], pa.int32())
        return {"letters": letters, "words": pa.array(map(len, words), pa.int32())}
'''


@pytest.mark.usefixtures("_inline")
def test_what_a_scorer_prepares_is_scored_beside_its_own_record_over_many_pieces(tmp_path: Path) -> None:
    texts = {
        f"r{n}": " ".join("x" * (1 + (n * 7 + word) % 23) for word in range(1 + n % 5)) for n in range(700)
    }
    corpus.write(tmp_path / "in-0.jsonl", [{"id": id_, "text": text} for id_, text in texts.items()])
    (tmp_path / "longest.py").write_text(PREPARING)
    described = job(tmp_path) | {"steps": [{"score": {"longest:Longest": {}}, "as": "long"}]}
    kept, ledger = run(described)
    assert ledger == []
    expected = {id_: (max(map(len, text.split())), len(text.split())) for id_, text in texts.items()}
    assert columns(kept, "long_letters", "long_words") == expected


def test_six_scores_are_made_in_one_pass_over_the_source(folder: Path) -> None:
    scores = [
        {"score": {"praise:Praise": {"words": "praised.txt"}}, "as": f"praise_{number}", "on_null": "keep"}
        for number in range(6)
    ]
    loaded = thresher.load(job(folder) | {"steps": scores}, allow_code=True)
    stages = describe(loaded, allow_code=True)
    reading = [stage for stage in stages if stage["reads"] == ["the source"]]
    assert [len(stage["steps"]) for stage in reading] == [6]
    assert [stage["stage"] for stage in stages if stage not in reading] == ["export"]


@pytest.mark.usefixtures("_inline")
def test_a_scorer_may_be_a_link_to_a_file_elsewhere_whose_changes_are_noticed(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    target = (folder / "praise.py").rename(folder / "elsewhere" / "shared.py")
    (folder / "praise.py").symlink_to(target)
    kept, _ = run(job(folder))
    assert columns(kept, "praise_good") == GOOD
    target.write_text(MODULE.replace("OFFSET = 0", "OFFSET = 10"))
    kept, _ = run(job(folder))
    assert columns(kept, "praise_good") == {id_: n + 10 for id_, n in GOOD.items()}


def test_code_beside_a_job_is_refused_unless_it_is_allowed(folder: Path) -> None:
    (folder / "praise.py").write_text("raise SystemExit('this code ran')")
    with pytest.raises(JobFileError, match="allow it with --allow-code"):
        thresher.load(job(folder))
    assert not (folder / "out").exists()


def test_a_job_loaded_with_its_code_does_not_run_without_the_word(folder: Path) -> None:
    from thresher.scorers.registry import PluginError

    loaded = thresher.load(job(folder), allow_code=True)
    with pytest.raises(PluginError, match="allow it with --allow-code"):
        thresher.run(loaded)
    assert not (folder / "out" / "manifest.json").exists()


def test_the_command_line_runs_such_code_only_with_allow_code(folder: Path) -> None:
    described = job(folder)
    del described["run"]["directory"]  # the folder of the job file is where the module is looked for
    (folder / "job.yaml").write_text(yaml.safe_dump(described))

    def command(*options: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-m", "thresher", "run", str(folder / "job.yaml"), "--quiet", *options]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=240, check=False, cwd="/")

    refused = command()
    assert refused.returncode == 2
    assert "--allow-code" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (folder / "out").exists()
    allowed = command("--allow-code")
    assert allowed.returncode == 0, allowed.stderr
    assert columns(pq.read_table(folder / "out" / "shard-00000.parquet"), "praise_good") == GOOD
