"""`thresher train head` and `thresher train q16`: from embeddings to a file that a step uses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image
from thresher.filters.embeddings.matrix import column_of
from thresher.jobs.cli import cli
from thresher.scorers.assets import LocalAssets
from thresher.scorers.clip.q16 import Q16Scorer
from thresher.scorers.heads.file import read_head, read_prompts
from thresher.scorers.heads.linear import LinearHeadScorer
from thresher.scorers.heads.training import HeadTrainer, ridge_regression, spearman

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

DIMENSIONS = 12


def embeddings(seed: int, rows: int, *, towards: float = 0.0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, DIMENSIONS))
    found[:, 0] += towards
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def command(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(cli, ["train", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(cli, ["train", *map(str, arguments)])
    assert done.exit_code == 2, done.output
    return done.stderr


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    """300 embeddings; rating is linear in them but for little noise, kind follows its sign."""
    rows = embeddings(1, 300)
    rating = 3 * rows[:, 0] - rows[:, 1] + 5 + 0.02 * np.random.default_rng(2).normal(size=300)
    has = np.ones(301, np.bool_)
    has[7] = False
    rating = np.insert(rating, 7, 9.0)
    kind = [None if row == 3 else "low" if value < 5 else "high" for row, value in enumerate(rating)]
    columns = {"id": [f"r{row}" for row in range(301)], "clip_image": column_of(rows, has)}
    pq.write_table(pa.table({**columns, "rating": rating, "kind": kind}), tmp_path / "rated.parquet")
    return tmp_path


def test_a_regression_learns_a_linear_rating_and_the_scorer_gives_it(rated: Path) -> None:
    out = rated / "head.safetensors"
    answer = command("head", "--embeddings", rated / "rated.parquet", "--target", "rating", "--out", out)
    assert answer["kind"] == "regression"
    assert answer["rows"] + answer["held_out"] == 300
    assert answer["figures"]["R²"] > 0.98
    assert answer["figures"]["Spearman"] > 0.97
    new = embeddings(8, 50)
    scorer = LinearHeadScorer("clip_image", str(out))
    scorer.open(LocalAssets())
    found = scorer.score(pa.RecordBatch.from_pydict({"clip_image": column_of(new)}))["score"].to_numpy()
    assert np.corrcoef(found, 3 * new[:, 0] - new[:, 1])[0, 1] > 0.99


def test_a_classification_learns_a_label_and_leaves_rows_without_one_out(rated: Path) -> None:
    out = rated / "head.safetensors"
    answer = command("head", "--embeddings", rated / "rated.parquet", "--target", "kind", "--out", out)
    assert (answer["kind"], answer["labels"], answer["skipped"]) == ("classification", ["high", "low"], 1)
    assert answer["figures"]["AUC"] > 0.98
    assert answer["figures"]["accuracy"] > 0.9
    assert f"{answer['figures']['AUC']:.4f}" in Path(answer["card"]).read_text()


@pytest.mark.parametrize("target", ["rating", "kind"])
def test_a_hidden_layer_learns_what_no_linear_head_can(tmp_path: Path, target: str) -> None:
    rows = embeddings(4, 600)
    size = np.abs(rows[:, 0]) * 10 + 3
    kind = ["far" if value > np.median(size) else "near" for value in size]
    table = pa.table({"clip": column_of(rows), "rating": size, "kind": kind})
    pq.write_table(table, tmp_path / "rated.parquet")
    common = ("head", "--embeddings", tmp_path / "rated.parquet", "--target", target)
    linear = command(*common, "--out", tmp_path / "linear.safetensors")
    hidden = command(*common, "--out", tmp_path / "hidden.safetensors", "--hidden", 32, "--lr", 0.01)
    figure = "Spearman" if target == "rating" else "AUC"
    assert linear["figures"][figure] < 0.7 < 0.9 < hidden["figures"][figure]
    assert read_head(tmp_path / "hidden.safetensors").layers[0][0].shape == (32, 12)


def test_numpy_files_teach_the_same_as_a_table_and_the_order_of_rows_is_nothing(tmp_path: Path) -> None:
    rows = embeddings(1, 120).astype(np.float16)
    rating = rows[:, 2].astype(np.float64) * 2
    shuffled = np.random.default_rng(0).permutation(120)
    np.save(tmp_path / "a.npy", rows)
    np.save(tmp_path / "ratings.npy", rating)
    table = pa.table({"clip": column_of(rows[shuffled]), "rating": rating[shuffled]})
    pq.write_table(table, tmp_path / "b.parquet")
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    command("head", "--embeddings", tmp_path / "a.npy", "--targets", tmp_path / "ratings.npy", "--out", first)
    command("head", "--embeddings", tmp_path / "b.parquet", "--target", "rating", "--out", second)
    one, other = read_head(first), read_head(second)
    assert one.layers[0][0].tobytes() == other.layers[0][0].tobytes()
    assert one.about["data_sha256"] == other.about["data_sha256"]


def test_ridge_regression_solves_its_normal_equations() -> None:
    rows = embeddings(3, 40)
    values = np.random.default_rng(5).normal(size=40)
    (weight, bias), share = ridge_regression(rows, values, 0.5)
    wide = np.hstack([rows.astype(np.float64), np.ones((40, 1))])
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    penalty = np.diag([share * np.trace(centred.T @ centred) / DIMENSIONS] * DIMENSIONS + [0.0])
    wanted = np.linalg.solve(wide.T @ wide + penalty, wide.T @ values)
    assert np.concatenate([weight[0], bias]) == pytest.approx(wanted, abs=1e-6)


def test_cross_validation_shrinks_noise_and_not_what_there_is_to_learn() -> None:
    rows = embeddings(3, 200)
    noise = np.random.default_rng(5).normal(size=200)
    assert ridge_regression(rows, noise)[1] > 10 * ridge_regression(rows, rows[:, 0] + 0.01 * noise)[1]


def test_logistic_regression_is_where_the_gradient_of_its_loss_vanishes(tmp_path: Path) -> None:
    rows = embeddings(3, 90)
    labels = np.where(rows[:, 0] + 0.3 * rows[:, 1] > 0, "b", "a")
    out = tmp_path / "head.safetensors"
    HeadTrainer("classification", penalty=0.01, held_out=0.0).train(rows, labels.tolist(), out, 0)
    weight, bias = (array.astype(np.float64) for array in read_head(out).layers[0])
    logits = rows @ weight.T + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    wrong = powers / powers.sum(axis=1, keepdims=True) - np.stack([labels == "a", labels == "b"], axis=1)
    assert np.abs(wrong.T @ rows / 90 + 0.01 * weight).max() < 1e-6
    assert np.abs(wrong.mean(axis=0)).max() < 1e-6


def test_rank_correlation_counts_equal_values_by_their_mean_rank() -> None:
    a, b = np.array([1.0, 2, 2, 4]), np.array([10.0, 30, 20, 40])
    ranks = np.array([1, 2.5, 2.5, 4]), np.array([1, 3, 2, 4])
    assert spearman(a, b) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert spearman(a, np.ones(4)) is None


def test_errors_name_the_file_and_the_column(rated: Path) -> None:
    common = ("head", "--out", rated / "head.safetensors", "--embeddings")
    assert "rated.parquet: has no column score" in refused(
        *common, rated / "rated.parquet", "--target", "score"
    )
    told = refused(*common, rated / "rated.parquet", "--target", "kind", "--kind", "regression")
    assert "rated.parquet: column kind: is string; a regression learns numbers" in told
    assert "what is to be learned?" in refused(*common, rated / "rated.parquet")
    np.save(rated / "a.npy", embeddings(1, 5))
    np.save(rated / "y.npy", np.ones(4))
    told = refused(*common, rated / "a.npy", "--targets", rated / "y.npy")
    assert "y.npy: has 4 values for the 5 embeddings of" in told
    np.save(rated / "y.npy", np.ones(5))
    told = refused(*common, rated / "a.npy", "--targets", rated / "y.npy")
    assert "do not have different targets" in told
    assert not (rated / "head.safetensors").exists()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model of random weights."""
    from thresher.schemas.contracts import AssetError
    from thresher.scorers.clip.packages import import_open_clip

    try:
        import_open_clip()
    except AssetError as error:
        pytest.skip(str(error))
    from thresher.scorers.clip.architecture import built
    from thresher.scorers.clip.model import write_clip

    cfg: dict[str, Any] = {
        "embed_dim": DIMENSIONS,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = built(cfg)
        for name, weights in network.named_parameters():
            if weights.ndim > 1 and "embedding" not in name:
                torch.nn.init.normal_(weights, std=0.15)
    folder = tmp_path_factory.mktemp("models") / "clip"
    write_clip(folder, cfg, {"size": 32}, network.state_dict())
    return folder


def test_prompts_learned_from_embeddings_tell_them_apart_better_than_sentences(
    tmp_path: Path, clip: Path
) -> None:
    np.save(tmp_path / "fine.npy", embeddings(1, 200, towards=-1.5))
    np.save(tmp_path / "not.npy", embeddings(2, 150, towards=3.0))
    data = ("--acceptable", tmp_path / "fine.npy", "--inappropriate", tmp_path / "not.npy")
    how = ("--model", clip, "--lr", 0.02, "--held-out", 0.2)
    answer = command("q16", *data, *how, "--out", tmp_path / "q16.safetensors")
    assert answer["figures"]["AUC"] > max(0.9, answer["before"]["AUC"])
    assert sum(answer["images"].values()) + sum(answer["held_out"].values()) == 350
    again = command("q16", *data, *how, "--out", tmp_path / "again.safetensors")
    assert again["sha256"] == answer["sha256"]
    about = read_prompts(tmp_path / "q16.safetensors").about
    assert about["sentences"][1] == "This image is about something negative"
    assert len(about["model_sha256"]) == 64
    scorer = Q16Scorer("clip_image", str(tmp_path / "q16.safetensors"))
    scorer.open(LocalAssets())
    batch = pa.RecordBatch.from_pydict({"clip_image": column_of(embeddings(9, 100, towards=3.0))})
    assert np.mean(scorer.score(batch)["inappropriate"].to_numpy() > 0.5) > 0.8


def test_prompts_that_learn_nothing_are_the_sentences_own_embeddings(tmp_path: Path, clip: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    np.save(tmp_path / "same.npy", embeddings(1, 60))
    data = ("--acceptable", tmp_path / "same.npy", "--inappropriate", tmp_path / "same.npy")
    sentences = ("a calm picture", "a cruel picture")
    out = tmp_path / "q16.safetensors"
    command(
        "q16", *data, "--model", clip, "--sentence", *sentences, "--lr", 1e-30, "--epochs", 1, "--out", out
    )
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    with torch.inference_mode():
        wanted = model.eval().encode_text(open_clip.get_tokenizer(f"local-dir:{clip}")(list(sentences)))
    wanted = torch.nn.functional.normalize(wanted, dim=1).numpy()
    assert read_prompts(out).vectors == pytest.approx(wanted, abs=1e-5)


def test_images_are_embedded_by_the_model(tmp_path: Path, clip: Path) -> None:
    chance = np.random.default_rng(1)
    for name, low in (("fine", 0), ("not", 130)):
        images = []
        for _ in range(30):
            out = io.BytesIO()
            pixels = chance.integers(low, low + 120, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(out, "PNG")
            images.append(out.getvalue())
        table = pa.table({"image": [*images, b"no image"], "text": ["a"] * 31})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    data = ("--acceptable", tmp_path / "fine.parquet", "--inappropriate", tmp_path / "not.parquet")
    answer = command(
        "q16", *data, "--model", clip, "--lr", 0.02, "--held-out", 0.3, "--out", tmp_path / "q16.safetensors"
    )
    assert answer["skipped"] == 2
    assert answer["figures"]["AUC"] > 0.9


def test_embeddings_of_another_model_are_refused(tmp_path: Path, clip: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 5), np.float32))
    data = ("--acceptable", tmp_path / "a.npy", "--inappropriate", tmp_path / "a.npy")
    told = refused("q16", *data, "--model", clip, "--out", tmp_path / "q16.safetensors")
    assert "a.npy: embeddings of 5 numbers; the model's have 12" in told


@pytest.mark.parametrize("name", ["head", "q16"])
def test_the_help_shows_an_example(name: str) -> None:
    told = CliRunner().invoke(cli, ["train", name, "--help"]).stdout
    assert f"thresher train {name} --" in told
    assert "0.1 where left out" in " ".join(told.split())
