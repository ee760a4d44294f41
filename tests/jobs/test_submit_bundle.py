"""What travels with a job, and what is told of the places that it names and a cluster does not see."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from thresher.jobs.problems import JobFileError
from thresher.jobs.submit import Submission
from thresher.jobs.submit_bundle import MOST_BYTES, Bundle, BundleError, check_places


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    for name in ("docs/a.jsonl", "docs/deep/b.jsonl", "docs/__pycache__/c.pyc", "lists/bad.txt", ".venv/d"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"text": "some words"}\n')
    return folder


def written(folder: Path, input_: str, output: str = "/shared/out", more: str = "") -> Path:
    job = folder / "job.yaml"
    job.write_text(f"name: small\ninput: {input_}\noutput: {{path: {output}}}\n{more}")
    return job


def refused(job: Path, there: Path, *overrides: str, more: tuple[Path, ...] = ()) -> str:
    there.mkdir()
    with pytest.raises(JobFileError) as caught:
        check_places(Bundle.of(job, more), overrides, there)
    return str(caught.value)


def test_what_is_named_travels_under_its_name_beside_the_job_file_and_nothing_else_does(
    mine: Path, tmp_path: Path
) -> None:
    bundle = Bundle.of(written(mine, "docs/*.jsonl"), [mine / "docs"])
    bundle.write(tmp_path / "first.zip")
    with zipfile.ZipFile(tmp_path / "first.zip") as packed:
        assert sorted(packed.namelist()) == ["docs/a.jsonl", "docs/deep/b.jsonl", "job.yaml"]
        assert packed.read("docs/a.jsonl") == b'{"text": "some words"}\n'


def test_the_same_files_are_packed_into_the_same_bytes_so_that_they_are_sent_once(
    mine: Path, tmp_path: Path
) -> None:
    job = written(mine, "docs/*.jsonl")
    Bundle.of(job, [mine / "docs", mine / "lists"]).write(tmp_path / "first.zip")
    (mine / "docs" / "a.jsonl").touch()
    Bundle.of(job, [mine / "lists", mine / "docs"]).write(tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_a_file_that_is_linked_from_beside_the_job_travels_as_its_content(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    (mine / "hq.bin").symlink_to(tmp_path / "model.bin")
    Bundle.of(written(mine, "docs/*.jsonl"), [mine / "hq.bin"]).write(tmp_path / "packed.zip")
    assert zipfile.ZipFile(tmp_path / "packed.zip").read("hq.bin") == b"weights"


@pytest.mark.parametrize(
    ("path", "told"),
    [("../elsewhere", "lies outside of .*/mine, the folder of the job file"), ("gone.bin", "no such file")],
)
def test_what_cannot_travel_is_refused(mine: Path, path: str, told: str) -> None:
    with pytest.raises(BundleError, match=told):
        Bundle.of(written(mine, "docs/*.jsonl"), [mine / path])


def test_more_than_a_cluster_takes_is_refused_by_the_name_of_the_largest_file(
    mine: Path, tmp_path: Path
) -> None:
    import random

    with (mine / "hq.bin").open("wb") as file:
        for _ in range(MOST_BYTES // (1 << 20) + 1):
            file.write(random.randbytes(1 << 20))
    with pytest.raises(BundleError, match=r"a cluster takes 104,857,600; put hq\.bin where all machines"):
        Bundle.of(written(mine, "docs/*.jsonl"), [mine / "hq.bin"]).write(tmp_path / "packed.zip")


def test_inputs_that_stay_behind_are_refused_with_the_option_that_takes_them(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine)
    job = written(mine, "docs/*.jsonl")
    told = refused(job, tmp_path / "there")
    assert told.startswith(
        f"{job}:2: input[0].path: docs/*.jsonl does not travel with the job; add --with docs, or name "
    )
    assert str(tmp_path / "there") not in told


def test_inputs_that_travel_are_right(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    bundle = Bundle.of(written(mine, "docs/*.jsonl"), [mine / "docs"])
    job, shared = check_places(bundle, (), tmp_path / "there")
    assert job.name == "small"
    assert shared == ["/shared/out", "/shared/out/.work"]


def test_places_that_only_the_cluster_sees_are_left_to_it_and_named(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    job = written(mine, "[/mnt/corpus/*.jsonl, s3://no-such-bucket/x.jsonl]")
    _, shared = check_places(Bundle.of(job), ("run.work=/mnt/work",), tmp_path / "there")
    assert shared == ["/mnt/corpus/*.jsonl", "/shared/out", "/mnt/work"]


def test_an_override_is_read_as_it_will_be_there(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine)
    told = refused(written(mine, "/mnt/x.jsonl"), tmp_path / "there", "input.0.path=docs/a.jsonl")
    assert told.startswith("--set input.0.path=docs/a.jsonl: input[0].path: docs/a.jsonl does not travel")
    assert Path.cwd() == mine


@pytest.mark.parametrize(
    ("output", "more", "told"),
    [
        ("out", "", "output.path: out is relative, and the folder in which the job starts"),
        ("/shared/out", "run: {work: work}\n", "run.work: work is relative; write an absolute path"),
        ("s3://bucket/out", "", r"run.work: left out, .* --set run.work=s3://bucket/out-work"),
    ],
)
def test_places_that_a_run_writes_to_and_that_would_be_lost_are_refused(
    mine: Path, tmp_path: Path, output: str, more: str, told: str
) -> None:
    job = written(mine, "docs/*.jsonl", output, more)
    assert re.search(told, refused(job, tmp_path / "there", more=(mine / "docs",)))


def test_a_job_that_is_wrong_anywhere_is_told_by_the_line_of_its_own_file(mine: Path, tmp_path: Path) -> None:
    job = written(mine, "docs/*.jsonl", more="steps:\n  - filter: gopher_qualiti\n")
    told = refused(job, tmp_path / "there", more=(mine / "docs",))
    assert told == (
        f'{job}:5: steps[0].filter: unknown rule set "gopher_qualiti"; did you mean "gopher_quality"?'
    )
    job = written(mine, "docs/*.jsonl", more="colour: green\n")
    assert f"{job}:4: colour" in refused(job, tmp_path / "again", more=(mine / "docs",))


def test_a_model_beside_the_job_that_stays_behind_is_named(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine)
    (mine / "lists" / "hq.bin").write_bytes(b"no model")
    job = written(
        mine, "/mnt/x.jsonl", more="steps:\n  - score: {fasttext: {model: lists/hq.bin, label: hq}}\n"
    )
    assert "lists/hq.bin does not travel with the job; add --with lists/hq.bin" in refused(
        job, tmp_path / "there"
    )


def test_options_of_the_run_follow_ours_so_that_they_win() -> None:
    submission = Submission(
        Path("mine/job.yaml"), overrides=["run.engine=local", "name=a b"], limit=10, allow_code=True
    )
    assert submission.command == [
        "python", "-m", "thresher.jobs.submit_entrypoint", "run", "job.yaml", "--set", "run.engine=ray",
        "--set", "run.ray.address=auto", "--set", "run.engine=local", "--set", "name=a b", "--limit", "10",
        "--allow-code",
    ]  # fmt: skip
