"""A tiny CLIP model learns from drawn pairs, and open_clip reads what comes out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import drawn_pairs
import numpy as np
import pytest
from PIL import Image
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.clip.model import load_clip
from thresher.scorers.clip.training.card import TrainedClip
from thresher.scorers.clip.training.loop import Progress
from thresher.scorers.clip.training.trainer import ClipTrainer

torch = pytest.importorskip("torch")

TINY: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
QUICK: dict[str, Any] = {"batch": 64, "steps": 120, "lr": 3e-3, "crop": 1.0, "threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, open_clip: Any) -> str:
    path = tmp_path_factory.mktemp("configured") / "tiny.json"
    settings = {"model_cfg": TINY, "preprocess_cfg": {"resize_mode": "squash", "std": [0.3, 0.3, 0.2]}}
    path.write_text(json.dumps(settings))
    return str(path)


@pytest.fixture(scope="module")
def trained(config: str, tmp_path_factory: pytest.TempPathFactory) -> TrainedClip:
    return train(tmp_path_factory.mktemp("trained") / "filter", config)


def train(out: Path, config: str | None, seed: int = 0, count: int = 200, **changed: Any) -> TrainedClip:
    trainer = ClipTrainer(**{"model": config, **QUICK, **changed})
    return trainer.train([drawn_pairs.batch(count)], out, seed, sources=["drawn"])


def test_it_learns_which_captions_belong_to_pictures_that_it_has_not_seen(trained: TrainedClip) -> None:
    assert trained.auc is not None
    assert trained.auc > 0.8
    assert trained.pairs + trained.held_out == 200
    assert trained.held_out > 10


def test_open_clip_loads_the_folder_and_gives_the_same_embeddings(
    trained: TrainedClip, open_clip: Any
) -> None:
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{trained.folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{trained.folder}")
    captions, images = zip(*map(drawn_pairs.draw, range(500, 520)), strict=True)
    with torch.no_grad():
        pictures = torch.stack([transform(Image.open(io.BytesIO(image))) for image in images])
        shown = theirs.eval().encode_image(pictures, normalize=True).numpy()
        said = theirs.encode_text(tokenizer(list(captions)), normalize=True).numpy()
    ours = load_clip(str(trained.folder), None, LocalAssets(), device="cpu", precision="fp32")
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image)).resize((16, 16), 3)) for image in images])
    np.testing.assert_allclose(ours.encode_images(pixels), shown, atol=1e-5)
    np.testing.assert_allclose(ours.encode_texts(ours.tokenize(list(captions))), said, atol=1e-5)


def test_a_word_that_it_has_never_seen_is_an_unknown_one(trained: TrainedClip) -> None:
    ours = load_clip(str(trained.folder), None, LocalAssets(), device="cpu", precision="fp32")
    one, other, known = ours.encode_texts(ours.tokenize(["zebra above red", "ocean above red", "red"]))
    np.testing.assert_array_equal(one, other)
    assert np.abs(one - known).max() > 0.01


def test_the_same_seed_and_threads_write_the_same_files(config: str, tmp_path: Path) -> None:
    files = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        made = train(tmp_path / name / "filter", config, seed, steps=12, count=80)
        files.append({path.name: path.read_bytes() for path in sorted(made.folder.iterdir())})
    assert files[0] == files[1]
    weights = "open_clip_model.safetensors"
    assert set(files[0]) == {"README.md", "open_clip_config.json", weights}
    assert files[0][weights] != files[2][weights]


def test_where_pixels_are_kept_changes_nothing(config: str, tmp_path: Path) -> None:
    digests = {
        train(tmp_path / str(memory), config, steps=6, count=60, memory=memory).weights.sha256
        for memory in (0, 20 * 16 * 16 * 3, 10**9)
    }
    assert len(digests) == 1


def test_training_from_a_model_begins_with_what_it_knows(trained: TrainedClip, tmp_path: Path) -> None:
    further = train(tmp_path / "further", None, start=str(trained.folder), steps=3, lr=1e-5)
    assert further.start_auc == pytest.approx(trained.auc, abs=1e-6)
    assert further.auc is not None
    assert further.auc >= further.start_auc
    weights = str(trained.folder / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match="name their architecture"):
        train(tmp_path / "nameless", None, start=weights, steps=3)


def test_an_ensemble_is_the_mean_of_the_weights_before_and_after(
    trained: TrainedClip, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    further = {"start": str(trained.folder), "steps": 3, "lr": 1e-3, "held_out": 0.0}
    states = [load_file(trained.folder / "open_clip_model.safetensors")]
    for name, share in (("all", None), ("quarter", 0.25)):
        made = train(tmp_path / name, None, ensemble=share, **further)
        states.append(load_file(made.folder / "open_clip_model.safetensors"))
    before, after, mean = states
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, 0.75 * before[name] + 0.25 * after[name], atol=1e-6, rtol=1e-4)
    assert any(not torch.equal(after[name], before[name]) for name in before)


def test_a_model_with_a_bias_is_trained_with_the_loss_of_siglip(tmp_path: Path, open_clip: Any) -> None:
    path = tmp_path / "sigmoid.json"
    path.write_text(json.dumps({**TINY, "init_logit_bias": -10, "init_logit_scale": 2.3}))
    made = train(tmp_path / "filter", str(path))
    assert made.auc is not None
    assert made.auc > 0.7
    assert load_clip(str(made.folder), None, LocalAssets()).logit_bias != -10


def test_ctrl_c_keeps_the_best_so_far(config: str, tmp_path: Path) -> None:
    seen: list[Progress] = []

    def report(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 3:
            raise KeyboardInterrupt

    trainer = ClipTrainer(model=config, **QUICK)
    made = trainer.train([drawn_pairs.batch(120)], tmp_path / "filter", 0, report=report)
    assert made.ending == "interrupted"
    assert made.auc == max(progress.auc for progress in seen if progress.auc is not None)
    assert made.best_step == [progress.step for progress in seen if progress.best][-1]
    assert "interrupted" in made.card.read_text()
    assert load_clip(str(made.folder), None, LocalAssets()).dimensions == 32


def test_it_ends_when_it_gets_no_better(config: str, tmp_path: Path) -> None:
    seen: list[Progress] = []
    # Steps so small that the second evaluation finds what the first one did.
    trainer = ClipTrainer(model=config, **{**QUICK, "steps": 1000, "lr": 1e-30}, evaluations=500, patience=2)
    made = trainer.train([drawn_pairs.batch(80)], tmp_path / "filter", 0, report=seen.append)
    assert made.ending == "no better"
    assert [progress.best for progress in seen] == [True, False, False]


def test_without_pairs_held_out_the_last_weights_are_kept(config: str, tmp_path: Path) -> None:
    made = train(tmp_path / "filter", config, held_out=0.0, steps=5, count=40)
    assert (made.auc, made.held_out, made.best_step) == (None, 0, 5)
    assert "Nothing was measured" in made.card.read_text()


def test_the_card_tells_what_it_was_made_from(trained: TrainedClip) -> None:
    card = trained.card.read_text()
    assert "From: drawn." in card
    assert f"{trained.auc:.4f}" in card
    assert trained.data_sha256 in card
    assert trained.weights.sha256 in card


def test_too_few_pairs_are_refused(config: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two with different captions"):
        train(tmp_path / "filter", config, count=1)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"batch": 1}, "batch"),
        ({"steps": 0}, "steps"),
        ({"lr": 0.0}, "lr"),
        ({"held_out": 1.0}, "held_out"),
        ({"ensemble": 0.5}, "ensemble"),
        ({"precision": "fp16"}, "precision"),
        ({"crop": 0.0}, "crop"),
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ClipTrainer(**wrong)


def test_an_architecture_that_open_clip_lacks_is_refused(tmp_path: Path, open_clip: Any) -> None:
    with pytest.raises(AssetError, match="no architecture"):
        train(tmp_path / "filter", "ViT-Q-99", count=4)
