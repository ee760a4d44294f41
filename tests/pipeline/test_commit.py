"""Streams depend on rows alone; entries belong to the first; leftovers of the dead are swept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.pipeline import scratch
from thresher.pipeline.commit import PartOutput, StreamWriter, read_entry
from thresher.pipeline.row_groups import RowGroups
from thresher.pipeline.store import UNFINISHED, RunLock, alone, put_new


def batch(values: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"text": pa.array(values, pa.string())})


@settings(deadline=None)
@given(
    st.lists(st.text(max_size=40), min_size=1, max_size=60), st.sets(st.integers(1, 59)), st.integers(1, 60)
)
def test_row_groups_do_not_depend_on_how_batches_were_cut(
    texts: list[str], cuts: set[int], most: int
) -> None:
    def groups(edges: list[int]) -> list[list[str]]:
        cutter = RowGroups(batch([]).schema, rows=7, size=most)
        found = []
        for start, stop in pairwise(edges):
            found += [g.column("text").to_pylist() for g in cutter.add(batch(texts[start:stop]))]
        return found + [g.column("text").to_pylist() for g in cutter.rest()]

    whole = groups([0, len(texts)])
    assert groups([0, *sorted(c for c in cuts if c < len(texts)), len(texts)]) == whole
    assert [t for group in whole for t in group] == texts
    sizes = [[len(t.encode()) + 4 for t in group] for group in whole]
    assert all(len(s) <= 7 and (len(s) == 1 or sum(s) <= most) for s in sizes)


def test_a_stream_has_the_same_bytes_however_its_batches_were_cut(tmp_path: Path) -> None:
    texts = [f"text {n}" * (n % 7) for n in range(500)]
    checksums = set()
    for name, step in (("a", 500), ("b", 33), ("c", 1)):
        writer = StreamWriter(tmp_path / name, batch(texts).schema)
        for start in range(0, 500, step):
            writer.write(batch(texts[start : start + step]))
        checksums.add(writer.close().checksum)
        assert pq.read_table(tmp_path / name).column("text").to_pylist() == texts
    assert len(checksums) == 1


def test_the_first_commit_of_a_task_wins_and_the_loser_leaves_nothing(tmp_path: Path) -> None:
    outputs = [PartOutput(tmp_path, 4, run) for run in ("one", "two")]
    for output, text in zip(outputs, ("first", "second"), strict=True):
        output.emit("rows", batch([text]))
        output.accounts.figures["n"] += 1
    first = outputs[0].commit(1, 0)
    second = outputs[1].commit(1, 0)
    assert second.streams == first.streams
    entry = read_entry(tmp_path, 4)
    assert entry is not None
    assert entry.streams == first.streams
    assert pq.read_table(entry.streams["rows"].path).column("text").to_pylist() == ["first"]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_abandoned_part_leaves_nothing(tmp_path: Path) -> None:
    output = PartOutput(tmp_path, 0, "run")
    output.emit("rows", batch(["x"]))
    output.abandon()
    assert list(tmp_path.iterdir()) == []
    assert read_entry(tmp_path, 0) is None


def test_put_new_creates_a_file_once(tmp_path: Path) -> None:
    assert put_new(tmp_path / "entry", b"mine", "a")
    assert not put_new(tmp_path / "entry", b"yours", "b")
    assert (tmp_path / "entry").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_sweep_removes_what_dead_runs_left_and_nothing_of_those_alive(tmp_path: Path) -> None:
    script = "from pathlib import Path; from thresher.pipeline.store import RunLock; import os, sys\n"
    script += "lock = RunLock(Path(sys.argv[1])); print(lock.run, flush=True); os.kill(os.getpid(), 9)"
    dead = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True
    ).stdout.strip()
    alive = RunLock(tmp_path)
    for run in (dead, alive.run):
        (tmp_path / f"{UNFINISHED}{run}-1-rows.parquet").touch()
    mine = RunLock(tmp_path)
    assert mine.sweep(tmp_path) == 1
    assert [path.name for path in tmp_path.glob(f"{UNFINISHED}*")] == [
        f"{UNFINISHED}{alive.run}-1-rows.parquet"
    ]
    alive.close()
    mine.close()


@pytest.mark.parametrize("name", ["position", "text"])
def test_only_columns_that_are_searched_by_carry_statistics(tmp_path: Path, name: str) -> None:
    schema = pa.schema([("position", pa.uint64()), ("text", pa.string())])
    writer = StreamWriter(tmp_path / "s", schema)
    writer.write(
        pa.RecordBatch.from_pydict({"position": pa.array([1], pa.uint64()), "text": ["a"]}, schema=schema)
    )
    writer.close()
    column = pq.ParquetFile(tmp_path / "s").metadata.row_group(0).column(schema.names.index(name))
    assert column.is_stats_set == (name == "position")


def test_one_at_a_time_passes_a_lock_and_the_last_one_leaves_nothing(tmp_path: Path) -> None:
    lock, inside, most, waited = tmp_path / "lock", [], [], []

    def go(number: int) -> None:
        with alone(lock, lambda: waited.append(number)):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(go, range(24)))
    assert (len(most), max(most)) == (24, 1)
    assert waited
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_free_when_the_process_that_holds_it_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom thresher.pipeline.store import alone\n"
        "with alone(Path(sys.argv[1]), lambda: None):\n print('held', flush=True)\n time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "lock")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    waiting = threading.Event()
    with ThreadPoolExecutor(1) as pool:

        def wait() -> bool:
            with alone(tmp_path / "lock", waiting.set):
                return True

        passed = pool.submit(wait)
        assert waiting.wait(20)
        assert not passed.done()
        holder.kill()
        assert passed.result(20)
    holder.communicate()


def test_a_sweep_does_not_mind_folders_that_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{UNFINISHED}dead-1-rows").touch()
    scan = os.scandir

    def vanishing(path: str) -> object:
        if str(path).endswith("b"):
            shutil.rmtree(path)
        return scan(path)

    lock = RunLock(tmp_path)
    monkeypatch.setattr("os.scandir", vanishing)
    assert lock.sweep(tmp_path) == 2
    lock.close()


def test_the_scratch_folder_goes_when_the_last_of_its_users_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch.close()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = tmp_path / "thresher-scratch-dead"
    with scratch.in_use():
        with scratch.in_use():
            folder = scratch.scratch()
            (folder / "file").touch()
        assert (folder / "file").exists()
        dead.mkdir()
        (dead / "alive").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_ends_by_itself_removes_its_scratch_folder(tmp_path: Path) -> None:
    script = """
import multiprocessing
from thresher.pipeline.scratch import scratch
def child():
    scratch().joinpath("file").touch()
if __name__ == "__main__":
    folder = scratch()
    started = multiprocessing.get_context("fork").Process(target=child)
    started.start()
    started.join()
    assert folder.exists() and len(list(folder.parent.glob("thresher-*"))) == 1
"""
    (tmp_path / "script.py").write_text(script)
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, str(tmp_path / "script.py")]
    subprocess.run(command, check=True, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}, timeout=60)
    assert list((tmp_path / "tmp").iterdir()) == []
