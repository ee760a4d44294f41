"""The demo of image-text jobs: its pictures show what their captions say, and what is planted is caught."""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest
import thresher
import yaml

DEMO = Path(thresher.__file__).parent / "docs" / "demo"
ROWS = 300

pytest.importorskip("PIL", reason="the demo draws with pillow")
pytest.importorskip("aiohttp", reason="the demo serves with aiohttp")


def _load(name: str) -> ModuleType:
    """A module of the demo, which imports its neighbours by their bare names."""
    spec = importlib.util.spec_from_file_location(name, DEMO / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


scenes, defects, filtering, images = (_load(name) for name in ("scenes", "defects", "filtering", "images"))


def test_the_same_seed_draws_the_same_scene() -> None:
    first, again, other = (scenes.draw(Random(seed)) for seed in (7, 7, 8))
    assert first.caption == again.caption
    assert first.picture.tobytes() == again.picture.tobytes()
    assert other.picture.tobytes() != first.picture.tobytes()


@pytest.mark.parametrize("seed", range(60))
def test_what_a_caption_says_is_where_it_says(seed: int) -> None:
    scene = scenes.draw(Random(seed))
    found = re.fullmatch(
        r"(?:an?|two|three|four|five) (\w+) \w+ (left of|right of|above|below) an? (\w+) \w+ "
        r"on a \w+ (\w+) background",
        scene.caption,
    )
    assert found is not None
    first, place, second, behind = found.groups()
    assert len({first, second, behind}) == 3
    pixels = np.asarray(scene.picture)
    many, one = (np.argwhere((pixels == scenes.COLOURS[name]).all(2)) for name in (first, second))
    assert len(many) > 100
    assert len(one) > 100
    axis = 1 if place in ("left of", "right of") else 0
    before, after = (many, one) if place in ("left of", "above") else (one, many)
    assert before[:, axis].max() <= after[:, axis].min() + 1


@pytest.mark.parametrize("rows", [300, 999, 2000, 5000])
def test_every_row_is_of_one_kind(rows: int) -> None:
    counts = defects.counts(rows)
    assert sum(counts.values()) == rows
    assert min(counts.values()) > 0


def test_a_list_too_short_for_every_kind_is_refused() -> None:
    with pytest.raises(SystemExit, match="too few"):
        defects.counts(80)


def test_every_kind_that_is_caught_names_a_step_of_the_job() -> None:
    described = yaml.safe_load((DEMO / "images.yaml").read_text())
    names = {step["name"] for step in described["steps"]}
    assert {kind.step for kind in defects.KINDS.values()} - {""} <= names


def test_a_defect_that_comes_through_and_a_sound_pair_that_does_not_are_told() -> None:
    rows = [
        defects.Row(kind, f"/{kind}", "", number) for number, kind in enumerate(["tiny", "sound", "sound"])
    ]
    _, wrong = images.judge(rows, {1, 2}, {0: images.Fate("datacomp_basic", "small")})
    assert wrong == []
    lines, wrong = images.judge(rows, {0}, {n: images.Fate("resize", "odd") for n in (1, 2)})
    assert wrong == ["tiny: 0 of 1 caught by datacomp_basic", "sound: 2 of 2 lost"]
    assert any("resize: odd 2" in line for line in lines)


def test_a_copy_counts_as_caught_whichever_of_the_two_is_left() -> None:
    rows = [defects.Row(kind, f"/{kind}", "", 0) for kind in ("sound", "exact copy")]
    for kept in (0, 1):
        lost = {1 - kept: images.Fate("same_image", "duplicate")}
        assert images.judge(rows, {kept}, lost)[1] == []
    assert images.judge(rows, {0, 1}, {})[1] == ["exact copy: 0 of 1 caught by same_image"]


def test_the_filter_is_judged_by_the_swapped_captions_that_it_drops() -> None:
    swapped = range(0, 100, 10)
    rows = [
        defects.Row(filtering.SWAPPED if number in swapped else "sound", f"/{number}", "", number)
        for number in range(100)
    ]
    kept = set(range(100)) - {90}
    found = filtering.Found(0.93, frozenset({0, 10, 20, 30, 40, 50, 1, 2}))
    lines, wrong = filtering.judge(rows, kept, found)
    assert wrong == []
    assert "AUC of 0.930" in lines[0]
    assert lines[1].endswith(
        "8 of 99 pairs, and with them 6 of 9 swapped captions: recall 67%, precision 75%"
    )
    missed = filtering.Found(0.6, frozenset({0, 1, 2, 3}))
    assert filtering.judge(rows, kept, missed)[1] == [
        "AUC is 0.60, below 0.85",
        "recall of swapped captions is 0.11, below 0.6",
        "precision of what is dropped is 0.25, below 0.4",
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_filter_network_finds_swapped_captions(tmp_path: Path) -> None:
    pytest.importorskip("open_clip", reason="needs the package open_clip_torch")
    command = [sys.executable, str(DEMO / "images.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert re.search(r"an AUC of 0\.\d{3}\n", done.stdout)
    assert re.search(r"of 60 swapped captions: recall \d+%, precision \d+%", done.stdout)
    assert (tmp_path / "filter" / "README.md").is_file()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_catches_what_it_has_planted(tmp_path: Path) -> None:
    command = [sys.executable, str(DEMO / "images.py"), str(tmp_path), "--rows", str(ROWS), "--no-filter"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "drawn by a program" in done.stdout
    totals = json.loads((tmp_path / "output" / "manifest.json").read_text())["totals"]
    assert totals["in"] == ROWS
    assert f"{totals['kept']} drawn pictures" in done.stdout
    addresses = pq.read_table(tmp_path / "input" / "urls.parquet")
    assert addresses.column_names == ["URL", "TEXT"]
    assert len(addresses) == ROWS


class Web:
    """The demo's server, and the first path of each kind."""

    def __init__(self, port: int, truth: list[dict[str, str]]) -> None:
        self._port = port
        self.paths = {row["kind"]: row["path"] for row in truth}

    def get(self, kind: str, read: bool = True) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        connection.request("GET", self.paths[kind])
        response = connection.getresponse()
        body = response.read() if read else response.read(2)
        connection.close()
        return response.status, dict(response.getheaders()), body


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("served")
    # In a process of its own: it starts others, which would run this one's main module again.
    code = "import pathlib, sys, defects; defects.plant(pathlib.Path(sys.argv[1]), defects.FEWEST)"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd=DEMO)
    with images.serving(folder) as port:
        yield Web(port, json.loads((folder / "truth.json").read_text())["rows"])


def test_the_server_is_busy_once(web: Web) -> None:
    for kind, status in (("503 at first", 503), ("429 at first", 429)):
        assert [web.get(kind)[0] for _ in range(3)] == [status, 200, 200]


def test_the_server_sends_elsewhere(web: Web) -> None:
    status, headers, _ = web.get("redirect loop")
    assert (status, headers["Location"]) == (302, web.paths["redirect loop"])
    status, headers, _ = web.get("moved")
    assert (status, headers["Location"]) == (301, web.paths["moved"].removeprefix("/old"))
    status, headers, _ = web.get("redirect to a private address")
    assert status == 302
    assert headers["Location"] in defects.PRIVATE


def test_what_never_ends_comes_a_byte_at_a_time(web: Web) -> None:
    began = time.monotonic()
    _, headers, body = web.get("never ends", read=False)
    assert headers["Transfer-Encoding"] == "chunked"
    assert len(body) == 2
    assert time.monotonic() - began > 0.2


def test_the_server_answers_with_what_is_planted(web: Web) -> None:
    assert web.get("not found")[0] == 404
    assert b"<html>" in web.get("page instead of picture")[2]
    _, headers, _ = web.get("opted out")
    assert {"X-Robots-Tag", "TDM-Reservation"} & headers.keys()
    huge = web.get("25,000 x 25,000 pixels")[2]
    assert len(huge) < 200_000
    assert huge[16:24] == (25_000).to_bytes(4, "big") * 2
