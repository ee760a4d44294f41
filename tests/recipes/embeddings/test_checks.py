"""Recipes that choose by embeddings pass the check of a job, once the files that they name are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import thresher
from thresher.jobs import recipe_book
from thresher.jobs.problems import JobFileError

DETECTOR = """\
import pyarrow as pa
from thresher.scorers import Scorer


class TextBoxes(Scorer):
    version = 1
    inputs = ("image",)
    outputs = {"boxes": pa.list_(pa.list_(pa.float32()))}

    def score(self, batch):
        raise NotImplementedError
"""
pytest.importorskip("faiss")

FILES = {
    "datacomp-clip-score": ["pool/0.tar", "clip-l14.safetensors"],
    "datacomp-image-based": ["pool/0.tar", "clip-l14.safetensors", "imagenet-1k.npy"],
    "dfn": ["pool/0.tar", "filter/open_clip_config.json"],
    "dinov2": [
        "images/0.tar",
        "sscd/config.json",
        "vit-h16/config.json",
        "evaluation-sscd.npy",
        "imagenet-22k.npy",
        "food-101.npy",
    ],
    "hierarchical-kmeans": ["images/0.tar", "dinov2-l14/config.json"],
    "imagenet21k": ["imagenet21k/images.jsonl"],
    "mofi": ["pool/0.tar", "clip-b32.safetensors", "entities.jsonl"],
    "q16": ["images/0.tar", "clip-l14.safetensors", "q16.safetensors"],
    "semdedup": ["images/0.tar", "clip-b32.safetensors"],
    "t-mars": ["pool/0.tar", "clip-b32.safetensors", "text_detector.py"],
}


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_is_right_once_its_files_are_there_and_names_each_that_is_not(
    name: str, tmp_path: Path
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(recipe_book.read(name).text)
    with pytest.raises(JobFileError) as missing:
        thresher.load(job, allow_code=True)
    for file in FILES[name]:
        assert file.partition("/")[0].removesuffix(".py") in str(missing.value)
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(DETECTOR if path.suffix == ".py" else "{}")
    loaded = thresher.load(job, allow_code=True)
    assert loaded.name == name
    assert json.loads(loaded.model_dump_json())["modality"] == "image-text"
