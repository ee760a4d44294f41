"""Recipes that choose pairs by a CLIP model, beside open_clip and numpy."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from PIL import Image
from thresher.jobs.cli import cli

pytest.importorskip("faiss")
pytestmark = pytest.mark.slow

NEAR = 1e-4  # cosines may differ by less than that from open_clip's
RESIZED = 0.02  # and by that where pictures are made smaller, which Pillow does otherwise
GERMAN = "Ein alter Mann mit einem Hut sitzt auf der Bank vor dem Haus und liest die Zeitung"
DETECTOR = '''\
import io

import numpy as np
import pyarrow as pa
from PIL import Image
from thresher.scorers import Scorer


class TextBoxes(Scorer):
    """Black bars are what looks like text here; no mosaic has black in it."""

    version = 1
    inputs = ("image",)
    outputs = {"boxes": pa.list_(pa.list_(pa.float32()))}

    def score(self, batch):
        found = []
        for data in batch.column("image").to_pylist():
            pixels = np.array(Image.open(io.BytesIO(data)))
            rows, columns = np.nonzero(pixels.max(axis=2) == 0)
            high, wide = pixels.shape[:2]
            box = [columns.min(initial=wide) / wide, rows.min(initial=high) / high,
                   (columns.max(initial=-1) + 1) / wide, (rows.max(initial=-1) + 1) / high]
            found.append([box] if len(rows) else [])
        return {"boxes": pa.array(found, self.outputs["boxes"])}
'''

Values = npt.NDArray[np.float64]


def uids_of(path: Path) -> list[str]:
    """The ids of a DataComp subset."""
    return [f"{high:016x}{low:016x}" for high, low in np.load(path).tolist()]


def above(
    values: Values, bar: float, pairs: Sequence[Any], margin: float = NEAR
) -> tuple[set[str], set[str]]:
    """The ids of pairs that are surely above the bar, and of those so near it that they may be below."""
    ids = np.array([pair.uid for pair in pairs])
    near = np.abs(values - bar) < margin
    return set(ids[(values >= bar) & ~near]), set(ids[near])


def best(values: Values, share: float, pairs: Sequence[Any]) -> tuple[set[str], set[str]]:
    """The same of the largest values, so many as the share says."""
    return above(values, float(np.sort(values)[::-1][int(len(values) * share) - 1]), pairs)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_datacomp_clip_score_keeps_all_from_the_cosine_behind_the_share(
    run: Callable[..., Any], by_hand: Any, clip_model: Path, pool: list[Any]
) -> None:
    found = run("datacomp-clip-score", pool, models=[clip_model], overrides=())
    cosines = by_hand.cosines(clip_model, pool)
    surely, perhaps = above(cosines, -np.sort(-cosines)[int(len(pool) * 0.3)], pool)
    chosen = uids_of(found.folder / "subset.npy")
    assert chosen == sorted(chosen)
    assert surely <= set(chosen) <= surely | perhaps
    assert len(chosen) == 1 + int(len(pool) * 0.3)
    assert {reason for _, reason, _ in found.lost.values()} == {"below_cut"}


def test_datacomp_clip_score_chooses_clip_art_as_open_clip_does(
    run: Callable[..., Any], by_hand: Any, clip_model: Path, clip_art: list[Any]
) -> None:
    found = run("datacomp-clip-score", clip_art, models=[clip_model], overrides=())
    cosines = by_hand.cosines(clip_model, clip_art)
    bar = -np.sort(-cosines)[int(len(clip_art) * 0.3)]
    surely, perhaps = above(cosines, bar, clip_art, margin=RESIZED)
    assert len(perhaps) < len(clip_art) / 4
    chosen = set(uids_of(found.folder / "subset.npy"))
    assert surely <= chosen <= surely | perhaps
    assert len(chosen) == 1 + int(len(clip_art) * 0.3)


def lloyd(rows: Values, centres: Values) -> Values:
    """Centres that k-means ends at."""
    for _ in range(100):
        nearest = ((rows[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        centres = np.stack([rows[nearest == number].mean(axis=0) for number in range(len(centres))])
    return centres


def test_datacomp_image_based_keeps_english_pairs_of_clusters_with_curated_images_that_score_high(
    run: Callable[..., Any], by_hand: Any, clip_model: Path, draw: Callable[..., list[Any]], tmp_path: Path
) -> None:
    pairs = draw([70, 70])
    for number, wrong in enumerate([GERMAN, "house", "a bc", "Houses"]):
        for at in range(number, 60, 8):
            pairs[at] = replace(pairs[at], caption=wrong)
            pairs[70 + at] = replace(pairs[70 + at], caption=wrong)
    curated = by_hand.images(clip_model, draw([0, 8], first=500))
    np.save(tmp_path / "imagenet-1k.npy", curated.astype(np.float32))
    found = run(
        "datacomp-image-based", pairs, ("clusters: 100000", "clusters: 2"), models=[clip_model], overrides=()
    )

    english = np.array([pair.caption.startswith("This is") for pair in pairs])
    images = by_hand.images(clip_model, pairs)
    centres = lloyd(images[english], np.stack([images[:70].mean(axis=0), images[70:].mean(axis=0)]))
    products = images @ centres.T
    taken = set((curated @ centres.T).argmax(axis=1).tolist())
    assert len(taken) == 1
    assert np.abs(products[:, 0] - products[:, 1]).min() > 0.01
    like = np.isin(products.argmax(axis=1), list(taken))
    cosines = by_hand.cosines(clip_model, pairs)
    surely, perhaps = above(cosines, -np.sort(-cosines)[int(len(pairs) * 0.3)], pairs)

    chosen = set(uids_of(found.folder / "subset.npy"))
    wanted = {pair.uid for pair, good in zip(pairs, english & like, strict=True) if good}
    assert surely & wanted <= chosen <= (surely | perhaps) & wanted
    assert chosen
    lost = {name: step for name, (step, _, _) in found.lost.items()}
    for pair, of_cluster in zip(pairs, like, strict=True):
        if pair.caption == GERMAN:
            assert lost[pair.uid] == "language"
        elif not pair.caption.startswith("This is"):
            # What of these two is told as another language goes a step before.
            step = "too_few_chars" if pair.caption == "a bc" else "too_few_words"
            assert lost[pair.uid] in (step, "language")
        elif not of_cluster:
            assert lost[pair.uid] == "image_based"
        elif pair.uid not in chosen:
            assert lost[pair.uid] == "below_cut"
    assert Counter(lost.values()).keys() >= {"language", "too_few_words", "image_based", "below_cut"}


def test_dfn_keeps_the_best_by_a_network_that_was_trained_on_clean_pairs(
    run: Callable[..., Any],
    by_hand: Any,
    clip_config: dict[str, Any],
    draw: Callable[..., list[Any]],
    pool: list[Any],
    write_tar: Callable[..., None],
    tmp_path: Path,
) -> None:
    write_tar(tmp_path / "clean" / "0.tar", draw([20] * 8, first=1000))
    (tmp_path / "tiny.json").write_text(json.dumps(clip_config))
    options = ["--epochs", "3", "--batch", "32", "--threads", "1", "--device", "cpu", "--precision", "fp32"]
    places = ["--pairs", f"{tmp_path}/clean/*.tar", "--out", f"{tmp_path}/filter"]
    trained = CliRunner().invoke(
        cli, ["train", "clip", *places, "--model", f"{tmp_path}/tiny.json", *options]
    )
    assert trained.exit_code == 0, trained.output
    found = run("dfn", pool, ("model: filter", "model: filter, precision: fp32"), overrides=())
    surely, perhaps = best(by_hand.cosines(tmp_path / "filter", pool), 0.15, pool)
    chosen = set(uids_of(found.folder / "subset.npy"))
    assert surely <= chosen <= surely | perhaps
    assert len(chosen) == int(len(pool) * 0.15)


def with_bar(pair: Any, top: int, left: int) -> Any:
    """The pair with a black bar, four pixels high and twelve wide, in its picture."""
    pixels = pair.pixels
    pixels[top : top + 4, left : left + 12] = 0
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return replace(pair, picture=out.getvalue())


def painted(pair: Any) -> Any:
    """The pair with its bar in the mean colour of the two pixels around it."""
    pixels = pair.pixels
    black = pixels.max(axis=2) == 0
    if not black.any():
        return pair
    (top, left), (bottom, right) = np.argwhere(black).min(axis=0), np.argwhere(black).max(axis=0)
    around = np.zeros_like(black)
    around[max(0, top - 2) : bottom + 3, max(0, left - 2) : right + 3] = True
    pixels[black] = np.round(pixels[around & ~black].astype(np.float64).mean(axis=0))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return replace(pair, picture=out.getvalue())


def test_t_mars_keeps_the_half_that_fits_best_without_the_text_in_the_image(
    run: Callable[..., Any], by_hand: Any, clip_model: Path, pool: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "text_detector.py").write_text(DETECTOR)
    places = np.random.default_rng(3).integers(0, [28, 20], (len(pool), 2)).tolist()
    pairs = [
        with_bar(pair, *place) if number % 2 else pair
        for number, (pair, place) in enumerate(zip(pool, places, strict=True))
    ]
    found = run("t-mars", pairs, models=[clip_model])
    cosines = by_hand.cosines(clip_model, [painted(pair) for pair in pairs])
    surely, perhaps = best(cosines, 0.5, pairs)
    assert surely <= found.kept.keys() <= surely | perhaps
    assert len(found.kept) == len(pairs) // 2
    told = {pair.uid: value for pair, value in zip(pairs, cosines, strict=True)}
    for name, record in found.kept.items():
        assert record["masked_clip"] == pytest.approx(told[name], abs=NEAR)
    unmasked, unsure = best(by_hand.cosines(clip_model, pairs), 0.5, pairs)
    assert len(surely - unmasked - unsure) > 3


ENTITIES = [
    {"id": "Q1", "names": ["house", "cottage"], "description": "a building to live in"},
    {"id": "Q2", "names": ["house"], "description": "a kind of music"},
    {"id": "Q3", "names": ["river"], "description": "water that flows"},
    {"id": "Q4", "names": ["old house"], "description": "a building of another time"},
    {"id": "Q5", "names": ["arbour"], "description": "a place in a garden"},
    {"id": "Q6", "names": ["station", "bus stop"], "description": "where trains wait"},
]


def test_mofi_lists_the_entities_that_captions_name_in_the_order_of_their_cosines(
    run: Callable[..., Any], by_hand: Any, clip_model: Path, pool: list[Any], tmp_path: Path
) -> None:
    write_lines(tmp_path / "entities.jsonl", ENTITIES)
    found = run("mofi", pool, models=[clip_model])
    texts = by_hand.texts(clip_model, [f"{one['names'][0]}, {one['description']}" for one in ENTITIES])
    cosines = by_hand.images(clip_model, pool) @ texts.T
    several = 0
    for pair, values in zip(pool, cosines, strict=True):
        named = {
            one["id"]: float(value)
            for one, value in zip(ENTITIES, values, strict=True)
            if any(re.search(rf"\b{name}\b", pair.caption) for name in one["names"])
        }
        if not named:
            assert found.lost[pair.uid][:2] == ("score:entities", "null_score")
            continue
        record = found.kept[pair.uid]
        shown = dict(zip(record["shown_entities"], record["shown_scores"], strict=True))
        assert shown == pytest.approx(named, abs=1e-3)  # float16 on the way
        assert list(shown.values()) == sorted(shown.values(), reverse=True)
        several += len(named) > 1
    assert several > 10
    assert found.lost
