"""A whole text job is the same job on every engine: the same shards, ledger and totals, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import whole_job
from engine_settings import OPENED, Setting, local
from whole_job import Outcome

QUICK = {"local with 2 workers", "beam in process", "ray"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_job.make_input(tmp_path_factory.mktemp("input"))


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What one local worker leaves."""
    place = tmp_path_factory.mktemp("expected")
    with local(1, place) as setting:
        return whole_job.run(whole_job.job(folder, str(place / "out"), setting.new_folder(), setting))


def test_the_job_has_something_of_everything(expected: Outcome) -> None:
    totals = expected.totals
    assert len(expected.shards) > 3
    assert totals["duplicates"]["dedup:exact"] > 20
    assert totals["duplicates"]["dedup:minhash"] > 20
    assert totals["dropped"]["filter:gopher_quality"]["too_few_words"] > 5
    assert sum(totals["dropped"]["select:plainness"].values()) > 50
    assert totals["kept"] > 50
    assert sum(step["in"] for step in totals["steps"] if step["step"].startswith("score")) > 100


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "setting",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in OPENED],
    indirect=True,
    scope="module",
)
def test_every_engine_leaves_the_same_output(
    setting: Setting, folder: Path, expected: Outcome, tmp_path: Path
) -> None:
    out = setting.new_folder() if setting.takes_output else str(tmp_path / "out")
    assert whole_job.run(whole_job.job(folder, out, setting.new_folder(), setting)) == expected


def real_job(folder: Path, shared_data: Path, out: str, work: str, setting: Setting) -> dict[str, Any]:
    described = whole_job.job(folder, out, work, setting)
    filter_, exact, minhash, score, _ = described["steps"]
    described["input"] = [
        {"name": "pages", "path": str(shared_data / "web" / "warc" / "*.warc.gz")},
        {"name": "texts", "path": str(shared_data / "web" / "warc" / "*.wet.gz")},
        {"name": "lines", "path": str(shared_data / "text" / "*.jsonl.gz")},
    ]
    best = {"select": {"top": "70%", "by": "plainness", "within": "input", "unit": "characters"}}
    language = {"language": {"keep": ["en"], "min_score": 0.65}}
    described["steps"] = [{"extract": "resiliparse"}, language, filter_, exact, minhash, score, best]
    described["output"]["shard"] = "20KB"
    described["run"]["part"] = "1MB"
    return described


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_text_leaves_the_same_checksums_everywhere(shared_data: Path, tmp_path: Path) -> None:
    whole_job.make_scorer(tmp_path)
    found: dict[str, Outcome] = {}
    for number, (name, opened) in enumerate(OPENED.items()):
        place = tmp_path / str(number)
        place.mkdir()
        try:
            with opened(place) as setting:
                out = setting.new_folder() if setting.takes_output else str(place / "out")
                described = real_job(tmp_path, shared_data, out, setting.new_folder(), setting)
                found[name] = whole_job.run(described)
        except pytest.skip.Exception as missing:
            print(f"{name}: {missing}")
    print(f"\n{'engine':32}{'shards':18}{'ledger':18}{'totals':18}")
    for name, outcome in found.items():
        print(f"{name:32}" + "".join(f"{digest:18}" for digest in outcome.digests()))
    first, *others = found.values()
    assert first.totals["kept"] > 10
    assert sum(first.totals["duplicates"].values()) > 0
    assert all(other == first for other in others)
