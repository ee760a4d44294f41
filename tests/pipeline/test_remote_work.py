"""Work directories in an S3 store: the output is that of a local one, whatever the store does meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import corpus
import pytest
import thresher
import yaml
from inline_engine import inline_tasks
from s3_server import Bucket
from store_proxy import ANSWERED, CUT_AFTER, REFUSE, Handler
from test_remote_output import files
from test_whole_jobs import split_input
from thresher.pipeline.disk import DiskFull
from thresher.pipeline.ingest import JobRefused
from thresher.pipeline.stage import TaskFailed
from thresher.pipeline.storage import RemotePath
from thresher.pipeline.store import PartFile

pytestmark = pytest.mark.slow

WORK = "s3://data/work"
OUT = "s3://data/out"


@pytest.fixture
def inline() -> Iterator[None]:
    """Tasks run in this process."""
    with inline_tasks():
        yield


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, of this process and those that it starts; its name is short, as that
    of a socket in it has to be."""
    with tempfile.TemporaryDirectory() as folder, monkeypatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return split_input(corpus.rows(45), tmp_path_factory.mktemp("source"), 3)


@pytest.fixture(scope="module")
def expected(source: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the job leaves where everything is local."""
    folder = tmp_path_factory.mktemp("local")
    with inline_tasks():
        run(job(source, folder / "out", folder / "work"))
    return without_job(files(folder / "out"))


def job(source: str, out: Path | str, work: Path | str, shard: str = "5KB") -> dict[str, Any]:
    return {
        "name": "remote",
        "input": [{"path": source}],
        "steps": [
            {"filter": {"gopher_quality": {"min_words": 60}}},
            {"dedup": {"exact": {"on": "text", "save_keys": True}}},
        ],
        "output": {"path": str(out), "shard": shard, "shuffle": "global"},
        "run": {"part": "20KB", "workers": 2, "work": str(work)},
    }


def run(made: dict[str, Any], **options: Any) -> Any:
    return thresher.run(thresher.load(made), **options)


def without_job(found: dict[str, bytes]) -> dict[str, bytes]:
    """All but the job, which names its output."""
    assert found.pop("job.yaml")
    return found


@pytest.mark.usefixtures("inline")
def test_a_local_output_of_remote_work_is_that_of_local_work_byte_for_byte(
    s3: Bucket, tmp_path: Path, source: str, expected: dict[str, bytes]
) -> None:
    run(job(source, tmp_path / "out", WORK))
    found = without_job(files(tmp_path / "out"))
    assert found == expected
    assert len([name for name in found if name.startswith("shard-")]) > 3
    assert {name.partition("/")[0] for name in found if "/" in name} == {"ledger", "keys"}


@pytest.mark.usefixtures("inline")
def test_a_remote_output_of_remote_work_is_copied_by_the_store_itself(
    s3: Bucket, tmp_path: Path, source: str, expected: dict[str, bytes]
) -> None:
    sent: dict[str, bool] = {}

    def note(handler: Handler, number: int) -> None:
        if handler.command == "PUT" and handler.path.startswith("/data/out/"):
            sent[handler.path.removeprefix("/data/out/")] = "x-amz-copy-source" in handler.headers

    s3.proxy.fault = note
    run(job(source, OUT, WORK))
    s3.proxy.fault = None
    found = without_job(s3.objects("out/"))
    assert found == expected
    copied = {name for name in found if re.match(r"shard-|ledger/|keys/.*parquet", name)}
    assert {name for name, by_copy in sent.items() if by_copy} == copied


@pytest.mark.usefixtures("inline")
def test_an_output_in_another_store_than_the_work_holds_the_same(
    s3: Bucket, tmp_path: Path, source: str, expected: dict[str, bytes]
) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    run(job(source, "memory://elsewhere/out", WORK))
    found = {name.removeprefix("/elsewhere/out/"): store.cat(name) for name in store.find("/elsewhere/out")}
    store.rm("/elsewhere", recursive=True)
    assert without_job(found) == expected


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    "at", ["-export-", *(pytest.param(at, marks=pytest.mark.slow) for at in ("/stages/0[0-9]-", "-ledger-"))]
)
def test_a_run_that_ended_early_goes_on_from_what_is_in_the_store(
    s3: Bucket, tmp_path: Path, at: str, source: str, expected: dict[str, bytes]
) -> None:
    def give_up(handler: Handler, number: int) -> str | None:
        entry = re.search(rf"{at}.*/00001\.json", handler.path)
        return REFUSE if handler.command == "PUT" and entry else None

    s3.proxy.fault = give_up
    with pytest.raises(TaskFailed, match="given up after 4 attempts"):
        run(job(source, tmp_path / "out", WORK))
    assert not (tmp_path / "out" / "manifest.json").exists()
    s3.proxy.fault = None
    before = {name for name in s3.objects("work/stages/") if re.search(r"/\d{5}\.json$", name)}
    assert before
    s3.proxy.requests.clear()
    run(job(source, tmp_path / "out", WORK))
    assert not before & {path.removeprefix("/data/work/stages/") for path in s3.proxy.puts(r"/\d{5}\.json")}
    assert without_job(files(tmp_path / "out")) == expected


@pytest.mark.usefixtures("inline")
def test_a_second_run_finds_all_that_the_first_has_committed(s3: Bucket, tmp_path: Path, source: str) -> None:
    first = run(job(source, OUT, WORK))
    before = s3.objects("")
    s3.proxy.requests.clear()
    second = run(job(source, OUT, WORK))
    assert (second.totals, second.shards) == (first.totals, first.shards)
    assert not s3.proxy.puts(r"/work/stages/.*/\d{5}\.|/out/")
    assert s3.objects("out/") == {
        name.removeprefix("out/"): data for name, data in before.items() if name.startswith("out/")
    }


def answering(found: bytes) -> Callable[[Handler, int], str | None]:
    """A store whose listings show what they showed at some time: nothing, or what has long been removed."""

    def answer(handler: Handler, number: int) -> str | None:
        if handler.command == "GET" and "list-type=2" in handler.path:
            handler.answer(200, found)
            return ANSWERED
        return None

    return answer


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    "listed",
    [
        "",
        "".join(
            f"<Contents><Key>{key}</Key><Size>3</Size><ETag>x</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in ("out/shard-00900.parquet", "out/manifest.json", "work/stages/00-read/00000.json")
        ),
    ],
    ids=["empty", "of things that are gone"],
)
def test_listings_that_are_stale_change_no_result(
    s3: Bucket, tmp_path: Path, listed: str, source: str, expected: dict[str, bytes]
) -> None:
    found = f'<?xml version="1.0"?><ListBucketResult><Name>data</Name>{listed}</ListBucketResult>'
    run(job(source, OUT, WORK, shard="3KB"))  # whose shards have to go
    s3.proxy.fault = answering(found.encode())
    for _ in range(2):
        run(job(source, OUT, WORK))
    s3.proxy.fault = None
    assert without_job(s3.objects("out/")) == expected


@pytest.mark.usefixtures("inline")
def test_nothing_of_a_remote_work_directory_is_ever_listed(
    s3: Bucket, tmp_path: Path, source: str, expected: dict[str, bytes]
) -> None:
    def forbid(handler: Handler, number: int) -> str | None:
        if "list-type=2" in handler.path:
            handler.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return ANSWERED
        return None

    s3.proxy.fault = forbid
    for _ in range(2):
        run(job(source, tmp_path / "out", WORK))
    assert without_job(files(tmp_path / "out")) == expected


def no_conditions(handler: Handler, number: int) -> str | None:
    if "If-None-Match" not in handler.headers:
        return None
    told = b"<Error><Code>NotImplemented</Code><Message>A header implies what is not there</Message></Error>"
    handler.answer(501, told)
    return ANSWERED


def ignored_conditions(handler: Handler, number: int) -> None:
    del handler.headers["If-None-Match"]


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize(
    ("store", "told"),
    [
        (no_conditions, "cannot refuse to replace a file"),
        (ignored_conditions, "replaces a file that is there"),
    ],
)
def test_a_store_that_does_not_keep_what_was_there_first_is_refused_before_any_work(
    s3: Bucket, tmp_path: Path, store: Any, told: str, source: str
) -> None:
    s3.proxy.fault = store
    with pytest.raises(JobRefused, match=told):
        run(job(source, tmp_path / "out", WORK))
    assert not s3.objects("work/sources.json")
    assert not s3.proxy.puts("/work/stages/.*/")
    assert len(s3.proxy.requests) < 10, "what will not change is not asked again"
    assert not files(tmp_path / "out")


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("fault", [CUT_AFTER, pytest.param(REFUSE, marks=pytest.mark.slow)])
def test_requests_that_fail_once_or_whose_answers_are_lost_change_nothing(
    s3: Bucket, tmp_path: Path, fault: str, source: str, expected: dict[str, bytes]
) -> None:
    s3.proxy.fault = lambda handler, number: fault if number == 0 and handler.command != "HEAD" else None
    run(job(source, tmp_path / "out", WORK))
    s3.proxy.fault = None
    assert without_job(files(tmp_path / "out")) == expected


@pytest.mark.usefixtures("inline")
def test_a_quick_look_works_below_the_remote_work_directory(s3: Bucket, tmp_path: Path, source: str) -> None:
    look = run(job(source, OUT, WORK), limit=10)
    assert (look.output, look.totals["in"]) == (f"{OUT}/limit-10", 10)
    assert all(name.startswith(("limit-10/", "stages/owner")) for name in s3.objects("work/"))


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_every_further_part_costs_a_few_requests_for_each_task(
    s3: Bucket, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task asks twice whether it is done, gets each layer that it reads in one piece where that is small,
    and puts its streams and its entry."""
    asked, parts = [], (2, 12)
    monkeypatch.setattr("thresher.pipeline.ingest._grouped", lambda slices, size: ([one] for one in slices))
    for count in parts:
        made = job(source, tmp_path / f"out-{count}", f"{WORK}-{count}", shard="1MB")
        made["input"] = [{"path": split_input(corpus.rows(40), tmp_path / f"in-{count}", count)}]
        made["steps"] = [{"filter": "gopher_repetition"}, {"dedup": "exact"}]
        made["output"]["shuffle"] = "none"
        s3.proxy.requests.clear()
        run(made)
        asked.append(len(s3.proxy.requests))
    each = (asked[1] - asked[0]) / (parts[1] - parts[0])
    assert each < 45, f"{each} requests for each part"


@pytest.mark.usefixtures("inline")
def test_the_disk_for_temporary_files_counts_where_the_work_is_remote(
    s3: Bucket, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    import shutil

    asked: list[Path] = []
    usage = shutil.disk_usage

    def full_there(folder: Path) -> Any:
        asked.append(folder)
        return usage(folder)._replace(free=10 if folder == temporary else 10**15)

    monkeypatch.setattr("shutil.disk_usage", full_there)
    with pytest.raises(DiskFull, match=rf"{temporary}: .*TMPDIR names another"):
        run(job(source, OUT, WORK))
    assert set(asked) == {temporary}
    run(job(source, tmp_path / "out", tmp_path / "work"))


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_run_leaves_nothing_among_the_temporary_files(
    s3: Bucket,
    tmp_path: Path,
    temporary: Path,
    interrupted: bool,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
) -> None:
    if interrupted:

        def interrupt(*_: Any, **__: Any) -> None:
            assert list(temporary.iterdir()), "by now the run has a folder there"
            raise KeyboardInterrupt

        monkeypatch.setattr("thresher.pipeline.runner.put_together", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(job(source, OUT, WORK))
    else:
        run(job(source, OUT, WORK))
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("interrupted", [False, True])
def test_worker_processes_leave_nothing_among_the_temporary_files_either(
    s3: Bucket, tmp_path: Path, temporary: Path, interrupted: bool, source: str, expected: dict[str, bytes]
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job(source, tmp_path / "out", WORK)))
    process = start(file)
    if interrupted:
        wait_for(lambda: len(s3.proxy.puts(r"/work/stages/.*/\d{5}\.json")) > 4, process)
        assert [path for path in temporary.iterdir() if path.name.startswith("thresher-scratch-")]
        os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=180)
    assert process.returncode == (130 if interrupted else 0), error.decode()
    assert [path.name for path in temporary.iterdir() if "thresher" in path.name] == []
    if interrupted:
        resumed = start(file)
        _, error = resumed.communicate(timeout=180)
        assert resumed.returncode == 0, error.decode()
    with inline_tasks():
        assert without_job(files(tmp_path / "out")) == expected


def start(file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "thresher", "run", str(file), "--quiet"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("size", [1, 1000, (256 << 10) - 1, 256 << 10, 700_000])
def test_a_part_is_read_by_ranges_and_a_small_one_in_one_piece(s3: Bucket, size: int) -> None:
    data = os.urandom(size)
    s3.put("part", data)
    file = PartFile(RemotePath("s3://data/part"))
    assert file.size == size
    for start, length in ((0, 1), (size // 2, 1000), (size - 1, 5), (size + 3, 1), (0, -1)):
        file.seek(start)
        stop = size if length < 0 else start + length
        assert file.read(length) == data[start:stop]
    file.seek(-1, os.SEEK_END)
    assert (file.read(), file.tell()) == (data[-1:], size)
    if size < 256 << 10:
        assert [method for method, _ in s3.proxy.requests] == ["GET"]


def test_a_part_that_is_not_there_is_a_missing_file(s3: Bucket) -> None:
    with pytest.raises(FileNotFoundError):
        PartFile(RemotePath("s3://data/nothing"))
