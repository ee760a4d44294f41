"""Recipes that choose pictures by embeddings or by class, beside open_clip, timm, Pillow and numpy."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import thresher
from click.testing import CliRunner
from inline_engine import inline_tasks
from PIL import Image
from thresher.jobs import recipe_book
from thresher.jobs.cli import cli

pytest.importorskip("faiss")
pytestmark = pytest.mark.slow

NEAR = 2e-3  # what float16 may change in a cosine at most
EXACT = 2e-4  # what it changes in one of 192 numbers

Values = npt.NDArray[np.float64]


def test_q16_drops_what_two_learned_prompts_call_inappropriate(
    run: Callable[..., Any],
    by_hand: Any,
    clip_model: Path,
    draw: Callable[..., list[Any]],
    pool: list[Any],
    tmp_path: Path,
) -> None:
    from safetensors.numpy import load_file

    judged = by_hand.images(clip_model, draw([20] * 8, first=1000)).astype(np.float32)
    np.save(tmp_path / "fine.npy", judged[:80])
    np.save(tmp_path / "not.npy", judged[80:])
    places = ["--acceptable", f"{tmp_path}/fine.npy", "--inappropriate", f"{tmp_path}/not.npy"]
    made = ["--model", str(clip_model), "--out", f"{tmp_path}/q16.safetensors", "--epochs", "20"]
    trained = CliRunner().invoke(cli, ["train", "q16", *places, *made])
    assert trained.exit_code == 0, trained.output
    found = run("q16", pool, models=[clip_model])

    prompts = load_file(tmp_path / "q16.safetensors")["prompts"].astype(np.float64)
    prompts /= np.linalg.norm(prompts, axis=1, keepdims=True)
    cosines = by_hand.images(clip_model, pool) @ prompts.T
    chance = 1 / (1 + np.exp(-100 * (cosines[:, 1] - cosines[:, 0])))
    for pair, value, margin in zip(pool, chance, cosines[:, 1] - cosines[:, 0], strict=True):
        if abs(margin) > NEAR:
            assert (pair.uid in found.kept) == (value < 0.5)
        if pair.uid in found.kept:
            assert found.kept[pair.uid]["inappropriate"] == pytest.approx(value, abs=0.05)
    assert min(len(found.kept), len(found.lost)) > 30
    assert found.of_step("called_inappropriate") == found.lost.keys()


def lloyd(rows: Values, centres: Values) -> Values:
    """Centres of length one that spherical k-means ends at."""
    for _ in range(100):
        nearest = (rows @ centres.T).argmax(axis=1)
        centres = np.stack([rows[nearest == number].sum(axis=0) for number in range(len(centres))])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return centres


def test_semdedup_drops_what_is_near_an_image_farther_from_the_centre(
    run: Callable[..., Any], by_hand: Any, clip_model: Path, draw: Callable[..., list[Any]]
) -> None:
    pairs = [*draw([40, 40], noise=40), *draw([10, 10], first=300, noise=3)]
    found = run("semdedup", pairs, ("clusters: 50000", "clusters: 2"), models=[clip_model])
    images = by_hand.images(clip_model, pairs)
    family = np.array([0] * 40 + [1] * 40 + [0] * 10 + [1] * 10)
    starts = np.stack([images[family == number].mean(axis=0) for number in range(2)])
    centres = lloyd(images, starts / np.linalg.norm(starts, axis=1, keepdims=True))
    to_centre = images @ centres.T
    cluster, nearness = to_centre.argmax(axis=1), to_centre.max(axis=1)
    alike = images @ images.T
    decided = 0
    for number, pair in enumerate(pairs):
        others = np.flatnonzero((cluster == cluster[number]) & (np.arange(len(pairs)) != number))
        cosines, order = alike[number, others], nearness[others] - nearness[number]
        if np.any((cosines > 0.95 - NEAR) & (np.abs(order) < NEAR)) or np.any(
            (np.abs(cosines - 0.95) < NEAR) & (order < NEAR)
        ):
            continue
        decided += 1
        assert (pair.uid in found.kept) == (not np.any((cosines > 0.95) & (order < 0)))
    assert decided > 70
    assert min(len(found.kept), len(found.lost)) > 10


def components(joined: npt.NDArray[np.bool_]) -> list[int]:
    """For each row the smallest that it is joined with, or what that is joined with, and so on."""
    root = np.arange(len(joined))
    while True:
        lowest = np.where(joined, root, len(joined)).min(axis=1)
        if (lowest >= root).all():
            return root.tolist()  # type: ignore[no-any-return]
        root = np.minimum(root, lowest)


def survivors(alike: Values, contaminated: Sequence[bool | None], order: Sequence[int]) -> set[int] | None:
    """The first row of each component without a contaminated one."""
    root = components(alike > 0.6)
    spoilt = {of for of, bad in zip(root, contaminated, strict=True) if bad}
    first: dict[int, int] = {}
    for row in order:
        first.setdefault(root[row], row)
    return {row for of, row in first.items() if of not in spoilt}


@pytest.mark.parametrize(
    ("queries", "of_small"), [(6, 4), (3, 0)], ids=["a taken cluster", "too few queries"]
)
def test_dinov2_drops_copies_and_evaluation_images_and_retrieves_around_curated_sets(
    queries: int,
    of_small: int,
    run: Callable[..., Any],
    by_hand: Any,
    encoder_models: Callable[[str], Path],
    draw: Callable[..., list[Any]],
    tmp_path: Path,
) -> None:
    sscd, features = encoder_models("sscd"), encoder_models("vit-h16")
    pairs = [*draw([2] * 30), *draw([1] * 20, first=100, noise=3), *draw([8, 8], 200, families=[40, 41])]
    curated = {
        "evaluation-sscd": by_hand.encoded(sscd, draw([1] * 4, first=900)),
        "imagenet-22k": by_hand.encoded(features, draw([1] * 4, 950, families=[20, 22, 24, 40])),
        "food-101": by_hand.encoded(features, draw([queries], 970, families=[41])),
    }
    for name, rows in curated.items():
        np.save(tmp_path / f"{name}.npy", rows.astype(np.float32))
    found = run(
        "dinov2",
        pairs,
        ("model: sscd", "model: sscd, precision: fp32"),
        ("model: vit-h16", "model: vit-h16, precision: fp32"),
        ("clusters: 100000", "clusters: 1"),
        ("per_cluster: 10000", "per_cluster: 5"),
        ("budget: 1000000", "budget: 4"),
        models=[sscd, features],
    )

    copies = by_hand.encoded(sscd, pairs)
    alike = copies @ copies.T
    near = (copies @ curated["evaluation-sscd"].T).max(axis=1)
    assert ((alike > 0.6).sum(axis=1) <= 64).all()
    # No pair is so near a bar that float16 could decide.
    assert np.abs(alike - 0.6).min() > EXACT
    assert np.abs(near - 0.45).min() > EXACT
    order = sorted(range(len(pairs)), key=lambda row: (row % 2, row))
    left = sorted(survivors(alike, (near > 0.45).tolist(), order))
    number = {pair.uid: row for row, pair in enumerate(pairs)}
    dropped = {number[name] for name in found.of_step("dedup:neighbours")}
    assert dropped == set(range(len(pairs))) - set(left)
    reasons = Counter(reason for step, reason, _ in found.lost.values() if step == "dedup:neighbours")
    assert reasons.keys() == {"duplicate", "contaminated"}

    cosines = by_hand.encoded(features, pairs)[left] @ curated["imagenet-22k"].T
    ranked = np.sort(cosines, axis=0)[::-1]
    assert (ranked[3] - ranked[4]).min() > EXACT
    retrieved = {left[row] for row in np.flatnonzero((cosines >= ranked[3]).any(axis=1))}
    assert 4 < len(retrieved) < len(left)
    assert {number[name] for name, row in found.kept.items() if row["near_large_set"]} == retrieved
    assert sum(row["near_small_set"] for row in found.kept.values()) == of_small
    assert all(row["near_large_set"] or row["near_small_set"] for row in found.kept.values())
    assert len(found.of_step("not_retrieved")) == len(left) - len(found.kept)


def divided(budget: int, sizes: Sequence[int], kept: Sequence[int]) -> bool:
    """Whether clusters of these sizes give as evenly as they can, some one more where it does not divide."""
    level = max(x for x in range(budget + 1) if sum(min(size, x) for size in sizes) <= budget)
    least, most = ([min(size, x) for size in sizes] for x in (level, level + 1))
    within = all(a <= b <= c for a, b, c in zip(least, kept, most, strict=True))
    return within and sum(kept) == min(budget, sum(sizes))


def test_hierarchical_kmeans_divides_the_budget_evenly_at_every_level_of_its_clusters(
    run: Callable[..., Any],
    by_hand: Any,
    encoder_models: Callable[[str], Path],
    draw: Callable[..., list[Any]],
) -> None:
    model = encoder_models("dinov2-l14")
    pairs = draw([90, 40, 30, 10, 8, 6, 4, 3, 2, 2, 2, 1, 1, 1])
    sample = "  - hierarchical_sample: {within: [cluster_4, cluster_3, cluster_2, cluster], budget: 500000}\n"
    small = [
        ("clusters: [50000, 2500, 250, 50]", "clusters: [12, 8, 5, 3]"),
        ("model: dinov2-l14", "model: dinov2-l14, precision: fp32"),
    ]
    clustered = run("hierarchical-kmeans", pairs, *small, (sample, ""), models=[model]).kept
    sampled = run("hierarchical-kmeans", pairs, *small, ("500000", "70")).kept
    assert len(sampled) == 70
    assert all(sampled[name]["cluster"] == clustered[name]["cluster"] for name in sampled)

    rows = by_hand.encoded(model, pairs)
    cluster = np.array([clustered[pair.uid]["cluster"] for pair in pairs])
    names = np.unique(cluster)
    distances = np.stack(
        [np.linalg.norm(rows - rows[cluster == name].mean(axis=0), axis=1) for name in names], 1
    )
    own = distances[np.arange(len(pairs)), np.searchsorted(names, cluster)]
    assert (own - distances.min(axis=1)).max() < NEAR
    told = [-clustered[pair.uid]["cluster_similarity"] for pair in pairs]
    np.testing.assert_allclose(told, own, atol=NEAR)

    levels = ["cluster_4", "cluster_3", "cluster_2", "cluster"]
    paths = {name: tuple(row[level] for level in levels) for name, row in clustered.items()}
    for depth in range(1, 4):
        assert len({path[depth] for path in paths.values()}) == len(
            {path[depth - 1 : depth + 1] for path in paths.values()}
        )
    for depth in range(4):
        for above in {path[:depth] for path in paths.values()}:
            below = sorted({path[: depth + 1] for path in paths.values() if path[:depth] == above})
            sizes, kept = (
                [sum(paths[name][: depth + 1] == branch for name in of) for branch in below]
                for of in (clustered, sampled)
            )
            assert divided(sum(kept), sizes, kept), (above, sizes, kept)
    assert len(names) > 8


def test_imagenet21k_keeps_large_classes_and_validates_with_the_first_fifty_of_each(tmp_path: Path) -> None:
    counts = {"n01": 501, "n02": 500, "n03": 620, "n04": 3}
    folder = tmp_path / "imagenet21k"
    folder.mkdir()
    sizes = {"small": (40, 30), "long": (400, 200), "large": (300, 420)}
    for kind, size in sizes.items():
        Image.effect_noise(size, 60).convert("RGB").save(folder / f"{kind}.png")
    lines = [
        {"file": f"{kind}.png", "name": f"{label}_{number}", "class": label}
        for label, count in counts.items()
        for number in range(count)
        for kind in [{7: "long", 9: "large"}.get(number, "small")]
    ]
    np.random.default_rng(0).shuffle(lines)  # type: ignore[arg-type]
    (folder / "images.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "job.yaml").write_text(recipe_book.read("imagenet21k").text)
    job = thresher.load(tmp_path / "job.yaml", ("output.format=parquet", "run.workers=1"))
    with inline_tasks():
        out = Path(thresher.run(job).output)
    kept = {
        row["id"]: row
        for path in out.glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
        if "id" in row
    }

    assert Counter(name.partition("_")[0] for name in kept) == {"n01": 501, "n03": 620}
    first = {
        name
        for label in ("n01", "n03")
        for name in sorted(f"{label}_{number}" for number in range(counts[label]))[:50]
    }
    assert {name for name, row in kept.items() if row["validation"]} == first
    lost = pq.read_table(out / "ledger").to_pylist()
    assert Counter(row["step"] for row in lost) == {"small_class": 503}
    wanted = {"n01_7": (400, 200), "n01_9": (256, round(420 * 256 / 300)), "n03_8": (40, 30)}
    for name, size in wanted.items():
        assert Image.open(io.BytesIO(kept[name]["image"])).size == size
        assert kept[name]["text"] == name[:3]
