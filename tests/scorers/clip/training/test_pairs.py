"""Which pairs are learned from and which are held out, and where their pixels are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import drawn_pairs
import numpy as np
import pyarrow as pa
import pytest
from thresher.scorers.clip.captions import Tokenizer
from thresher.scorers.clip.pictures import shown
from thresher.scorers.clip.preprocessing import Preprocessing
from thresher.scorers.clip.training.pairs import TrainingPairs

SEEN = Preprocessing((24, 24), resize_mode="squash")


@contextmanager
def collected(
    folder: Path, open_clip: Any, batches: Sequence[pa.RecordBatch], seed: int = 0, memory: int = 1 << 30
) -> Iterator[TrainingPairs]:
    tokenizer = Tokenizer(open_clip.SimpleTokenizer(context_length=8), 8)
    with (
        ThreadPoolExecutor(2) as pool,
        closing(TrainingPairs(folder, SEEN, tokenizer, seed, 0.3, memory, pool)) as pairs,
    ):
        for batch in batches:
            pairs.add(batch)
        pairs.finish()
        yield pairs


def test_neither_the_order_of_the_input_nor_its_batches_matter(tmp_path: Path, open_clip: Any) -> None:
    batch = drawn_pairs.batch(40)
    turned = batch.take(pa.array(range(39, -1, -1)))
    found = []
    for batches in ([batch], [turned.slice(0, 7), turned.slice(7)]):
        with collected(tmp_path, open_clip, batches) as pairs:
            told = [pairs.pixels(numbers) for numbers in (pairs.learned, pairs.held_out)]
            found.append((pairs.data_sha256(), pairs.tokens[pairs.learned].tolist(), told))
    assert found[0][:2] == found[1][:2]
    for first, second in zip(found[0][2], found[1][2], strict=True):
        assert np.array_equal(first, second)
    with collected(tmp_path, open_clip, [batch], seed=1) as pairs:
        assert pairs.data_sha256() != found[0][0]


def test_copies_of_a_picture_are_on_one_side_whatever_they_are_called(tmp_path: Path, open_clip: Any) -> None:
    batch = drawn_pairs.batch(40)
    copies = batch.set_column(0, "id", pa.array([f"copy {row}" for row in range(40)]))
    with collected(tmp_path, open_clip, [batch, copies]) as pairs:
        held, learned = set(pairs.held_out.tolist()), set(pairs.learned.tolist())
    assert held
    assert held | learned == set(range(80))
    assert all((number in held) == (number + 40 in held) for number in range(40))


@pytest.mark.parametrize("kept", [0, 13, 1000])
def test_pixels_are_the_same_wherever_they_are_kept(kept: int, tmp_path: Path, open_clip: Any) -> None:
    batch = drawn_pairs.batch(30)
    encoded = batch.column("payload").to_pylist()
    with collected(tmp_path, open_clip, [batch], memory=kept * 24 * 24 * 3) as pairs:
        numbers = np.array([29, 3, 12, 13, 14, 0, 29])
        pixels = pairs.pixels(numbers)
        assert (tmp_path / "images").stat().st_size == sum(map(len, encoded[kept:]))
    for number, image in zip(numbers, pixels, strict=True):
        assert np.array_equal(image, shown(encoded[number], SEEN))


def test_what_is_no_pair_is_counted(tmp_path: Path, open_clip: Any) -> None:
    batch = drawn_pairs.batch(6).to_pydict()
    batch["text"][0], batch["text"][1] = None, " \n"
    batch["payload"][2], batch["payload"][3] = None, b"no picture"
    with collected(tmp_path, open_clip, [pa.RecordBatch.from_pydict(batch, drawn_pairs.SCHEMA)]) as pairs:
        assert (len(pairs), pairs.without_caption, pairs.without_image) == (2, 2, 2)
        assert sorted([*pairs.learned, *pairs.held_out]) == [0, 1]
