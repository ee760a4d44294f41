"""Q16: the softmax over two learned prompts."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from thresher.filters.embeddings.matrix import column_of
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.clip.q16 import Q16Scorer
from thresher.scorers.heads.file import Prompts, read_prompts, write_prompts
from thresher.scorers.testing import check_scorer

pytest.importorskip("safetensors")

VECTORS = np.array([[2, 0, 0], [0, 0.1, 0]], np.float32)


@pytest.fixture
def assets(tmp_path: Path) -> LocalAssets:
    write_prompts(Prompts(VECTORS, 100.0, {"model": "tiny"}), tmp_path / "q16.safetensors")
    return LocalAssets([tmp_path])


def batch_of(rows: list[list[float] | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"clip_image": pa.array(rows, pa.list_(pa.float32()))})


def scored(assets: LocalAssets, rows: list[list[float] | None]) -> list[float | None]:
    scorer = Q16Scorer("clip_image", "q16.safetensors")
    scorer.open(assets)
    return scorer.score(batch_of(rows))["inappropriate"].to_pylist()  # type: ignore[no-any-return]


def test_the_score_is_a_logistic_function_of_a_hundred_times_the_difference_of_cosines(
    assets: LocalAssets,
) -> None:
    angles = np.linspace(0.7, 0.87, 9)
    rows = np.stack([3 * np.cos(angles), 3 * np.sin(angles), 0 * angles], axis=1)
    wanted = 1 / (1 + np.exp(-100 * (np.sin(angles) - np.cos(angles))))
    assert scored(assets, rows.tolist()) == pytest.approx(wanted, abs=1e-5)
    assert wanted[3] < 0.1 < 0.9 < wanted[5]


def test_an_image_equally_near_both_prompts_is_at_one_half_and_none_has_no_score(assets: LocalAssets) -> None:
    assert scored(assets, [[1, 1, 5], None, [0, 0, 0]]) == [0.5, None, None]


def test_the_scorer_keeps_its_promises(assets: LocalAssets) -> None:
    has = np.array([True, True, True, False, True, True, True])
    rows = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
    batch = pa.RecordBatch.from_pydict({"clip_image": column_of(rows, has)})
    check_scorer(
        functools.partial(Q16Scorer, embedding="clip_image", prompts="q16.safetensors"), batch, assets=assets
    )


def test_prompts_and_what_they_were_made_from_come_back_from_the_file(
    assets: LocalAssets, tmp_path: Path
) -> None:
    found = read_prompts(tmp_path / "q16.safetensors")
    assert (found.vectors == VECTORS).all()
    assert (found.scale, found.about) == (100.0, {"model": "tiny"})


def test_a_file_without_two_prompts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q16.safetensors"
    write_prompts(Prompts(np.ones((3, 4), np.float32)), path)
    with pytest.raises(AssetError, match=r"q16\.safetensors: holds prompts \(3, 4\)"):
        read_prompts(path)
    write_prompts(Prompts(np.zeros((2, 4), np.float32)), path)
    with pytest.raises(AssetError, match="a prompt is zero"):
        read_prompts(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(AssetError, match="no file of safetensors"):
        read_prompts(path)
