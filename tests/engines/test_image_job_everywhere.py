"""A whole image-text job is the same job on every engine: shards, ledger and totals, byte for byte."""

from __future__ import annotations

from pathlib import Path

import image_job
import pytest
from engine_settings import OPENED, Setting, local
from whole_job import Outcome

QUICK = {"local with 2 workers", "beam in process", "ray"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_job.make_input(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What one local worker leaves."""
    place = tmp_path_factory.mktemp("expected")
    with local(1, place) as setting:
        return image_job.run(image_job.job(folder, str(place / "out"), setting.new_folder(), setting))


def test_the_job_has_something_of_everything(expected: Outcome) -> None:
    totals = expected.totals
    assert totals["in"] == len(image_job.pairs())
    assert totals["dropped"]["small"] == {"small": image_job.SMALL}
    assert sum(totals["dropped"]["blank"].values()) == image_job.BLANK
    assert sum(totals["errors"].values()) == image_job.BROKEN
    assert totals["dropped"]["common"] == {"too_frequent": image_job.COMMON}
    assert totals["duplicates"] == {"exact": image_job.EXACT, "near": image_job.NEAR}
    assert totals["kept"] == image_job.SOUND
    assert len([name for name in expected.shards if name.endswith(".tar")]) > 2


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "setting",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in OPENED],
    indirect=True,
    scope="module",
)
def test_every_engine_leaves_the_same_images(
    setting: Setting, folder: Path, expected: Outcome, tmp_path: Path
) -> None:
    out = setting.new_folder() if setting.takes_output else str(tmp_path / "out")
    assert image_job.run(image_job.job(folder, out, setting.new_folder(), setting)) == expected
