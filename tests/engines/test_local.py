"""The local engine: map-only stages, exchanges, and workers that die."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest
from thresher.pipeline.engines.local import LocalEngine
from thresher.pipeline.stage import Committed, Input, OperatorRef, PartRef, Stage, TaskFailed


def load_operators() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "engine_test_operators", Path(__file__).with_name("operators.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


operators = load_operators()


@pytest.fixture(params=[1, 2])
def engine(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[LocalEngine]:
    # Workers import the operators by name.
    (tmp_path / "modules").mkdir()
    source = Path(__file__).with_name("operators.py").read_text()
    (tmp_path / "modules" / "engine_test_operators.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    engine = LocalEngine(request.param, "run")
    yield engine
    engine.close()


def parts(count: int, rows: int = 250, distinct: int = 10, hot: float = 0.0) -> tuple[PartRef, ...]:
    reader = OperatorRef.of(operators.Numbers, rows=rows, distinct=distinct, hot=hot)
    return tuple(PartRef(index, reader=reader) for index in range(count))


def run(engine: LocalEngine, stage: Stage) -> dict[int, Committed]:
    return {committed.task: committed for committed in engine.run(stage, stage.tasks)}


def test_a_map_only_stage_commits_every_part(engine: LocalEngine, tmp_path: Path) -> None:
    stage = Stage("map", str(tmp_path / "s"), {"in": Input(parts(5), (OperatorRef.of(operators.Emit),))})
    commits = run(engine, stage)
    assert sorted(commits) == [0, 1, 2, 3, 4]
    numbers = [pq.read_table(commits[i].streams["rows"].path).column("number").to_pylist() for i in range(5)]
    assert [n for part in numbers for n in part] == list(range(1250))
    assert all(commits[i].rows_in == 250 for i in commits)


@pytest.mark.parametrize("combine", [False, True])
@pytest.mark.parametrize("hot", [0.0, 0.5])
def test_an_exchange_brings_the_rows_of_a_key_together(
    engine: LocalEngine, tmp_path: Path, combine: bool, hot: float
) -> None:
    stage = Stage(
        "sum",
        str(tmp_path / "s"),
        {"left": Input(parts(4, hot=hot), (), "key"), "right": Input(parts(2, rows=0), (), "key")},
        partitions=4,
        reduce=OperatorRef.of(operators.SumByKey),
        combine=OperatorRef.of(operators.SumEarly) if combine else None,
    )
    commits = run(engine, stage)
    found: dict[int, tuple[int, int]] = {}
    for task in sorted(commits):
        assert commits[task].streams["sums-right"].rows == 0
        for row in pq.read_table(commits[task].streams["sums-left"].path).to_pylist():
            found[row["key"]] = (row["count"], row["sum"])
    expected: dict[int, tuple[int, int]] = {}
    for part in range(4):
        for row in range(250):
            number = part * 250 + row
            bucket = 0 if row < int(hot * 250) else number % 10
            key = bucket * 0x9E3779B97F4A7C15 % 2**64
            count, total = expected.get(key, (0, 0))
            expected[key] = (count + 1, total + number)
    assert found == expected


def test_a_killed_worker_is_replaced_and_nothing_is_lost_or_done_twice(
    engine: LocalEngine, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    maps = (
        OperatorRef.of(operators.KillOnce, part=2, directory=str(marks), times=2),
        OperatorRef.of(operators.Emit),
    )
    stage = Stage("map", str(tmp_path / "s"), {"in": Input(parts(6), maps)})
    commits = run(engine, stage)
    assert sorted(commits) == list(range(6))
    assert len(list(marks.iterdir())) == 2
    assert sum(c.streams["rows"].rows for c in commits.values()) == 1500


def test_a_part_that_always_kills_its_worker_is_given_up_and_named(
    engine: LocalEngine, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    maps = (
        OperatorRef.of(operators.KillOnce, part=1, directory=str(marks), times=99),
        OperatorRef.of(operators.Emit),
    )
    stage = Stage("map", str(tmp_path / "s"), {"in": Input(parts(4), maps)})
    seen = []
    with pytest.raises(TaskFailed) as failure:
        seen.extend(engine.run(stage, stage.tasks))
    assert list(failure.value.failures) == [1]
    assert "worker process died" in str(failure.value)


def test_a_part_that_raises_is_given_up_after_all_others_have_committed(
    engine: LocalEngine, tmp_path: Path
) -> None:
    maps = (OperatorRef.of(operators.Fail, part=0), OperatorRef.of(operators.Emit))
    stage = Stage("map", str(tmp_path / "s"), {"in": Input(parts(4), maps)})
    done: list[Committed] = []
    with pytest.raises(TaskFailed, match="part 0: ValueError: this part is poison"):
        done.extend(engine.run(stage, stage.tasks))
    assert sorted(committed.task for committed in done) == [1, 2, 3]
    assert not [path for path in (tmp_path / "s").iterdir() if path.name.startswith(".unfinished")]


def test_the_same_stage_gives_the_same_bytes_with_one_and_two_workers(
    tmp_path: Path, engine: LocalEngine
) -> None:
    reference = LocalEngine(1, "other")
    stages = [
        Stage("map", str(tmp_path / name), {"in": Input(parts(5), (OperatorRef.of(operators.Emit),))})
        for name in ("a", "b")
    ]
    one, two = run(reference, stages[0]), run(engine, stages[1])
    reference.close()
    checksums = [{task: c.streams["rows"].checksum for task, c in commits.items()} for commits in (one, two)]
    assert checksums[0] == checksums[1]
