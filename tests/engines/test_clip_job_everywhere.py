"""A job that a CLIP model chooses for leaves the same pairs on every engine, and after it was killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import clip_job
import numpy as np
import pytest
from clip_job import Outcome
from engine_settings import OPENED, Setting, local
from thresher.schemas.contracts import AssetError
from thresher.scorers.clip.packages import import_open_clip
from thresher.scorers.clip.scorer import TOLERANCE

pytest.importorskip("torch", reason="CLIP models need torch")

QUICK = ("semantic", "best")
MOST_SECONDS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        import_open_clip()
    except AssetError as error:
        pytest.skip(str(error))
    return clip_job.make_input(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def chosen(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What one local worker leaves of a job without the steps that take longest."""
    place = tmp_path_factory.mktemp("chosen")
    with local(1, place) as setting:
        return clip_job.run(clip_job.job(folder, str(place / "out"), setting.new_folder(), setting, QUICK))


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What two local workers leave of the whole job, each with a model of its own."""
    place = tmp_path_factory.mktemp("expected")
    with local(2, place) as setting:
        return clip_job.run(clip_job.job(folder, str(place / "out"), setting.new_folder(), setting))


def assert_same(found: Outcome, expected: Outcome) -> None:
    """The same records, decisions and accounts; scores and embeddings within the scorer's tolerance."""
    assert found.kept == expected.kept
    assert found.exact == expected.exact
    assert found.ledger == expected.ledger
    assert found.totals == expected.totals
    assert found.close.keys() == expected.close.keys()
    for name, values in found.close.items():
        half = np.finfo(np.float16).eps if name == "img" else 0  # embeddings are rounded once more
        np.testing.assert_allclose(values, expected.close[name], rtol=0, atol=TOLERANCE + half)


def test_some_pairs_are_copies_and_of_the_others_the_best_are_kept(chosen: Outcome) -> None:
    totals = chosen.totals
    copies = totals["duplicates"]["semantic"]
    assert totals["in"] == clip_job.PICTURES + clip_job.COPIES
    assert 5 < copies < clip_job.COPIES
    assert totals["kept"] == len(chosen.kept) == (totals["in"] - copies) * 3 // 10
    assert chosen.close["clip_similarity"].max() - chosen.close["clip_similarity"].min() > 0.1
    np.testing.assert_allclose(np.linalg.norm(chosen.close["img"], axis=1), 1, atol=0.002)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("setting", ["ray"], indirect=True, scope="module")
def test_actors_of_ray_choose_the_same_pairs(
    setting: Setting, folder: Path, chosen: Outcome, tmp_path: Path
) -> None:
    described = clip_job.job(folder, str(tmp_path / "out"), setting.new_folder(), setting, QUICK)
    assert_same(clip_job.run(described), chosen)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_step_of_the_whole_job_decides_something(expected: Outcome) -> None:
    duplicates = expected.totals["duplicates"]
    alone = expected.totals["in"] - sum(duplicates.values())
    assert min(duplicates["semantic"], duplicates["near"]) > 5
    assert clip_job.PICTURES - 3 < alone <= clip_job.PICTURES
    assert expected.totals["kept"] == len(expected.kept) == alone * 3 // 10
    assert len(set(expected.exact["cluster"])) > 2
    assert set(expected.exact["curated"]) == {True, False}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "setting", [name for name in OPENED if name != "local with 2 workers"], indirect=True, scope="module"
)
def test_every_engine_chooses_the_same_pairs(
    setting: Setting, folder: Path, expected: Outcome, tmp_path: Path
) -> None:
    out = setting.new_folder() if setting.takes_output else str(tmp_path / "out")
    assert_same(clip_job.run(clip_job.job(folder, out, setting.new_folder(), setting)), expected)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_killed_while_it_scores_goes_on_and_chooses_the_same_pairs(
    folder: Path, expected: Outcome, tmp_path: Path
) -> None:
    with local(1, tmp_path) as setting:
        described = clip_job.job(folder, str(tmp_path / "out"), setting.new_folder(), setting)
    (tmp_path / "job.yaml").write_text(json.dumps(described))
    code = "import sys, thresher; thresher.run(thresher.load(sys.argv[1]))"
    driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "job.yaml")])
    stages = Path(described["run"]["work"]) / "stages"
    try:
        give_up = time.monotonic() + MOST_SECONDS
        while not (scored := committed(stages)):
            assert driver.poll() is None, "the job ended before it could be killed"
            assert time.monotonic() < give_up, "no part was scored"
            time.sleep(0.01)
    finally:
        driver.kill()
        driver.wait()
    before = {path: path.read_bytes() for path in scored}
    assert_same(clip_job.run(described), expected)
    assert len(committed(stages)) > len(before)
    assert all(path.read_bytes() == content for path, content in before.items())


def committed(stages: Path) -> list[Path]:
    """The manifest entries of parts that have been scored."""
    return sorted(stages.glob("*-score-clip-*/[0-9]*[0-9].json"))
