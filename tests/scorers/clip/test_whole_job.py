"""Whole jobs with the scorer `clip`."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
from inline_engine import inline_tasks
from PIL import Image
from thresher.filters.embeddings.matrix import is_embedding, matrix_of

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("open_clip")

Encode = Callable[..., bytes]
Draw = Callable[[int, int, int], Image.Image]

DETECTOR = '''\
import pyarrow as pa
from thresher.scorers import Scorer


class Detector(Scorer):
    """Finds text in the lower half of every picture but those whose caption is odd."""

    version = 1
    inputs = ("text",)

    @property
    def outputs(self):
        return {"boxes": pa.list_(pa.list_(pa.float32()))}

    def score(self, batch):
        texts = batch.column("text").to_pylist()
        boxes = [[] if text.endswith("odd") else [[0.0, 0.5, 1.0, 1.0]] for text in texts]
        return {"boxes": pa.array(boxes, self.outputs["boxes"])}
'''


@pytest.fixture
def pairs(tmp_path: Path, drawn: Draw, encoded: Encode) -> Path:
    """Two tars of nine pairs, one of which has a picture that breaks off."""
    for number in range(2):
        with tarfile.open(tmp_path / f"{number:05d}.tar", "w") as tar:
            for n in range(number * 9, number * 9 + 9):
                image = encoded(drawn(60, 48, n))
                caption = f"drawing {n} of birds" + (" odd" if n % 2 else "")
                for name, content in (("png", image[:200] if n == 4 else image), ("txt", caption.encode())):
                    member = tarfile.TarInfo(f"{n:04d}.{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return tmp_path


def run(folder: Path, steps: list[dict[str, Any]], **settings: Any) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The pairs that were kept, and the ledger."""
    job = {
        "name": "scored",
        "modality": "image-text",
        "input": [{"path": str(folder / "*.tar"), "format": "webdataset"}],
        "steps": steps,
        "output": {"path": str(folder / "out"), "format": "parquet"},
        "run": {"workers": 2, "directory": str(folder), **settings},
    }
    result = thresher.run(thresher.load(job, allow_code=True), allow_code=True)
    shards = [pq.read_table(Path(result.output) / shard.path) for shard in result.shards]
    return pa.concat_tables(shards), pq.read_table(Path(result.output) / "ledger").to_pylist()


def expected(folder: Path, model: Path) -> dict[str, float]:
    """The cosine of each caption and its picture, by open_clip alone."""
    import open_clip

    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{model}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{model}")
    network.eval()
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            content = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        for name in {name.partition(".")[0] for name in content} - {"0004"}:
            caption = content[f"{name}.txt"].decode()
            with torch.no_grad():
                image = network.encode_image(
                    transform(Image.open(io.BytesIO(content[f"{name}.png"])))[None], normalize=True
                )
                text = network.encode_text(tokenizer([caption]), normalize=True)
            found[caption] = float((image @ text.T)[0, 0])
    return found


@pytest.mark.parametrize("where", ["here", pytest.param("in processes", marks=pytest.mark.slow)])
def test_a_job_scores_its_pairs_and_keeps_the_best(where: str, small_clip: Path, pairs: Path) -> None:
    arguments = {"model": str(small_clip), "precision": "fp32", "device": "cpu", "threads": 1}
    score = {
        "score": {"clip": {**arguments, "outputs": ["similarity", "image"]}},
        "as": "clip",
        "resources": {"actors": [1, 1]},
    }
    with inline_tasks() if where == "here" else nullcontext():
        kept, ledger = run(pairs, [score, {"select": {"top": "50%", "by": "clip_similarity"}}])
    cosines = expected(pairs, small_clip)
    best = sorted(cosines.values())[-len(kept) :]
    assert len(kept) == 8
    found = dict(zip(kept["text"].to_pylist(), kept["clip_similarity"].to_pylist(), strict=True))
    assert sorted(found.values()) == pytest.approx(best, abs=1e-5)
    assert all(value == pytest.approx(cosines[text], abs=1e-5) for text, value in found.items())
    column = kept["clip_image"].combine_chunks()
    assert is_embedding(column.type)
    np.testing.assert_allclose(np.linalg.norm(matrix_of(column, 16)[0], axis=1), 1, atol=2e-3)
    lost = [row for row in ledger if row["reason"] == "null_score"]
    assert [row["step"] for row in lost] == ["score:clip"]


def test_a_detector_of_text_says_what_the_model_is_not_to_see(small_clip: Path, pairs: Path) -> None:
    (pairs / "detector.py").write_text(DETECTOR)
    clip = {"model": str(small_clip), "precision": "fp32", "device": "cpu"}
    steps = [
        {"score": {"detector:Detector": {}}, "as": "boxes"},
        {"score": {"clip": clip}, "as": "seen", "on_null": "keep"},
        {"score": {"clip": {**clip, "mask": "boxes"}}, "as": "masked", "on_null": "keep"},
    ]
    with inline_tasks():
        kept, _ = run(pairs, steps)
    assert len(kept) == 18
    for row in kept.select(["text", "seen", "masked"]).to_pylist():
        if row["seen"] is None:
            assert row["masked"] is None
        elif row["text"].endswith("odd"):
            assert row["masked"] == pytest.approx(row["seen"], abs=1e-6)
        else:
            assert abs(row["masked"] - row["seen"]) > 1e-5


def test_a_model_that_cannot_be_loaded_stops_the_job_before_anything_is_read(pairs: Path) -> None:
    score = {"score": {"clip": {"model": "nowhere"}}, "as": "clip"}
    with pytest.raises(Exception, match="no model file 'nowhere'"):
        run(pairs, [score])
    assert not list(pairs.glob("out/*.parquet"))
