"""The command line: what it answers, how it ends, and that help is instant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result
from thresher.filters.expressions import ExpressionError
from thresher.jobs import problems
from thresher.jobs.cli import cli
from thresher.pipeline.accounts import AccountsError
from thresher.pipeline.ingest import JobRefused
from thresher.pipeline.sources.containers import ContainerCounts
from thresher.pipeline.sources.files import expand
from thresher.pipeline.sources.reader import read
from thresher.pipeline.sources.split import plan_splits
from thresher.pipeline.stage import TaskFailed

PYTHON = [sys.executable, "-c", "from thresher.jobs.cli import main; main()"]


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="thresher")


def in_process(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTHON, *arguments], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
    )


@dataclass
class FakeResult:
    totals: dict[str, Any]
    output: str
    shards: list[Any] = field(default_factory=list)
    seconds: float = 2.0
    failed: dict[int, str] = field(default_factory=dict)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, finished_job: Path) -> Callable[[Callable[..., Any]], list[Any]]:
    """Puts a runner in place of the pipeline's; it finds the output of `finished_job` already there."""

    def install(act: Callable[..., Any], **found: Any) -> list[Any]:
        calls: list[Any] = []

        def run_job(job: Any, **options: Any) -> FakeResult:
            calls.append((job, options))
            act(options["listener"])
            return FakeResult({}, str(finished_job.parent / "out"), **found)

        fake = ModuleType("thresher.pipeline.runner")
        fake.run_job = run_job  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "thresher.pipeline.runner", fake)
        (finished_job.parent / "docs.jsonl").write_text('{"text": "a"}\n')
        return calls

    return install


def one_stage(listener: Any) -> None:
    listener.stage_started("read", tasks=1, done=0, bytes=10)
    listener.task_done("read", records_in=10, records_out=4, bytes=10)
    listener.stage_finished("read")


def raising(error: BaseException) -> Callable[..., None]:
    def act(listener: Any) -> None:
        raise error

    return act


def test_help_imports_nothing_heavy_and_answers_at_once() -> None:
    code = (
        "import sys\nfrom thresher.jobs.cli import cli\n"
        "try: cli(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('pyarrow', 'numpy', 'numba', 'pydantic', 'rich', 'yaml') if m in sys.modules])"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    # The promise is 0.4 s on an idle machine; the bound leaves room for a busy one.
    assert time.monotonic() - began < 4
    assert "Curate pretraining data" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_has_a_help_text_with_an_example() -> None:
    names = list(cli.commands)
    assert names[:4] == ["run", "try", "plan", "status"]
    for name in names:
        answer = command(name, "--help")
        assert answer.exit_code == 0
        assert "Example" in answer.output
        assert f"thresher {name}" in answer.output


def test_importing_thresher_is_light_and_its_functions_come_when_asked_for() -> None:
    code = (
        "import sys, thresher\nassert 'pyarrow' not in sys.modules and 'pydantic' not in sys.modules\n"
        "print(callable(thresher.load), callable(thresher.run), thresher.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split()[:2] == ["True", "True"]


def test_a_run_ends_with_the_funnel_and_where_the_shards_are(finished_job: Path, runner: Any) -> None:
    calls = runner(one_stage)
    done = command("run", str(finished_job), "--limit", "5", "--workers", "3", "--set", "run.seed=9")
    assert (done.exit_code, done.stderr.splitlines()[0]) == (0, "read: 1 task, 10 B to read")
    assert "10 in = 4 kept + 4 dropped + 1 duplicates + 1 errors; 4 written" in done.stdout
    assert f"4 records in 2 shards (200 B) in {finished_job.parent / 'out'}, 2 s" in done.stdout
    job, options = calls[0]
    assert (job.run.workers, job.run.seed, options["limit"], options["allow_code"]) == (3, 9, 5, False)
    manifest = json.loads((finished_job.parent / "out" / "manifest.json").read_text())
    described = options["describe"](manifest)
    assert described["report.md"].startswith(b"# Report")
    assert b"4 records" in described["README.md"]


def test_quiet_says_nothing_and_json_says_everything_in_json(finished_job: Path, runner: Any) -> None:
    runner(one_stage)
    quiet = command("run", str(finished_job), "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    events = [json.loads(line) for line in command("run", str(finished_job), "--json").stdout.splitlines()]
    assert [event["event"] for event in events] == [
        "stage_started",
        "task_done",
        "stage_finished",
        "finished",
    ]
    assert events[-1]["totals"]["kept"] == 4
    assert len(events[-1]["shards"]) == 2


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (JobRefused("docs.jsonl has changed"), 2, "docs.jsonl has changed"),
        (AccountsError("step a: in 3"), 3, "the accounts do not add up: step a: in 3"),
        (
            TaskFailed("read", {4: "docs.jsonl: disk error"}, of_parts=True),
            4,
            "part 4: docs.jsonl: disk error",
        ),
        (ExpressionError("`url > 3` does not fit"), 2, "`url > 3` does not fit"),
        (KeyboardInterrupt(), 130, "goes on from here"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (PermissionError(13, "Permission denied", "/srv/out"), 2, "/srv/out: Permission denied"),
    ],
)
def test_each_way_to_end_has_its_status_and_no_traceback(
    finished_job: Path, runner: Any, error: BaseException, status: int, told: str
) -> None:
    runner(raising(error))
    done = command("run", str(finished_job))
    assert (done.exit_code, "Traceback" in done.output) == (status, False)
    assert told in done.stderr


@pytest.mark.parametrize("key", ["output.path", "run.work"])
def test_a_folder_that_cannot_be_made_is_named_with_its_key(
    finished_job: Path, runner: Any, key: str
) -> None:
    calls = runner(one_stage)
    taken = finished_job.parent / "docs.jsonl"
    done = command("run", str(finished_job), "--set", f"{key}={taken}/x")
    assert (done.exit_code, calls) == (2, [])
    assert done.stderr == f"{key}: the folder {taken}/x cannot be made: Not a directory\n"


INTERRUPTED_IMPORT = {
    "at_once": "raise KeyboardInterrupt",
    "in_compiled_code": "try: raise KeyboardInterrupt\n"
    "except BaseException as error: raise ImportError('torn') from error",
}


@pytest.mark.parametrize(
    ("module", "how"), [("click", "at_once"), ("yaml", "at_once"), ("yaml", "in_compiled_code")]
)
@pytest.mark.parametrize("start", [["-m", "thresher"], PYTHON[1:]])
def test_an_interrupt_while_modules_are_imported_shows_no_traceback(
    tmp_path: Path, module: str, how: str, start: list[str]
) -> None:
    # The module stands before the real one on the path and is interrupted as a slow import would be.
    (tmp_path / f"{module}.py").write_text(INTERRUPTED_IMPORT[how] + "\n")
    (tmp_path / "job.yaml").write_text("{name: a, input: a.jsonl, output: {path: out}}")
    done = subprocess.run(
        [sys.executable, *start, "run", "job.yaml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (130, False), done.stderr


def test_the_help_of_run_says_where_a_quick_look_goes(finished_job: Path, runner: Any) -> None:
    assert "OUTPUT/limit-N" in " ".join(command("run", "--help").stdout.split())


def test_the_id_in_the_help_of_why_is_written_as_a_crawl_stores_ids(tmp_path: Path) -> None:
    record = next(
        word for word in command("why", "--help").stdout.split() if word.startswith(("urn:uuid", "<urn"))
    )
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>A page.</p>"
    head = f"WARC-Record-ID: <{record.strip('<>')}>\r\nContent-Length: {len(body)}\r\n"
    (tmp_path / "page.warc").write_bytes(
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://example.com/\r\n"
        b"WARC-Date: 2024-01-01T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n"
        + head.encode() + b"\r\n" + body + b"\r\n\r\n"
    )  # fmt: skip
    (file,) = expand(str(tmp_path / "page.warc"))
    (split,) = plan_splits(file, "warc", {})
    (batch,) = read(split, ContainerCounts())
    assert batch.column("id").to_pylist() == [record]


def test_parts_that_a_job_may_lose_are_named_after_the_funnel(finished_job: Path, runner: Any) -> None:
    runner(one_stage, failed={3: "docs.jsonl: torn"})
    done = command("run", str(finished_job))
    assert (done.exit_code, "4 written" in done.stdout) == (4, True)
    assert "1 part could not be processed\n  part 3: docs.jsonl: torn" in done.stderr


def test_a_mistake_of_ours_is_not_hidden(finished_job: Path, runner: Any) -> None:
    runner(raising(ZeroDivisionError("ours")))
    done = command("run", str(finished_job))
    assert isinstance(done.exception, ZeroDivisionError)


def test_a_wrong_job_is_told_line_by_line_and_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: a\nsteps:\n  - filtr: c4\n  - limit: 0\noutput: {path: out}\n")
    done = in_process("run", "job.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        'job.yaml:1: "input" is missing',
        'job.yaml:3: steps[0].filtr: unknown verb "filtr"; did you mean "filter"?',
        'job.yaml:4: steps[1].limit: "0" is not a whole number of at least 1',
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "nowhere.yaml"),
        ("run", "nowhere.yaml", "--limit", "0"),
        ("nonsense",),
        ("status", "nowhere.yaml"),
        ("inspect", "nowhere.parquet"),
        ("why", "x", "--output", "nowhere"),
        ("clean", "nowhere.yaml"),
        ("plan", "nowhere.yaml"),
        ("try", "dedup: minhash", "--text", "a"),
        ("try", "filter: [", "--text", "a"),
        ("try", "limit: 5"),
    ],
)
def test_mistakes_on_the_command_line_end_with_2(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*arguments)
    assert (done.exit_code, "Traceback" in done.output) == (2, False)
    assert done.stderr.strip()


def test_the_schema_is_printed_as_json() -> None:
    assert "steps" in json.loads(command("schema").stdout)["properties"]


def test_status_why_and_inspect_answer_from_the_command_line(finished_job: Path) -> None:
    output = str(finished_job.parent / "out")
    assert "finished" in command("status", str(finished_job)).stdout
    assert json.loads(command("status", output, "--json").stdout)["state"] == "finished"
    assert "too_few_words (12)" in command("why", "short", "--output", output).stdout
    assert json.loads(command("why", "short", "--output", output, "--json").stdout)["id"] == "short"
    shard = os.path.join(output, "shard-00000.parquet")
    assert 'id = "kept-1"' in command("inspect", shard, "--rows", "1").stdout
    assert "kept-1" not in command("inspect", shard, "--columns").stdout
    nobody = command("why", "nobody", "--output", output)
    assert (nobody.exit_code, "no record of this run" in nobody.stderr) == (2, True)


def test_clean_asks_before_it_removes(finished_job: Path) -> None:
    work = finished_job.parent / "out" / ".work"
    answer = CliRunner().invoke(cli, ["clean", str(finished_job)], input="n\n")
    assert (answer.exit_code, "nothing was removed" in answer.stdout, work.exists()) == (0, True, True)
    answer = command("clean", str(finished_job), "--yes")
    assert (answer.exit_code, "freed" in answer.stdout, work.exists()) == (0, True, False)


def test_an_interrupted_question_ends_with_130(finished_job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.confirm", interrupt)
    assert command("clean", str(finished_job)).exit_code == 130


def test_a_closed_pipe_is_no_error_of_the_job(finished_job: Path) -> None:
    first = subprocess.Popen([*PYTHON, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stderr is not None
    first.stdout.close()
    assert b"Traceback" not in first.stderr.read()
    first.stderr.close()
    first.wait(timeout=60)


def test_a_problem_without_a_suggestion_ends_with_its_message() -> None:
    assert problems.Problem(("steps", 3, "select", "top"), "wrong", line=14).told("job.yaml") == (
        "job.yaml:14: steps[3].select.top: wrong"
    )
