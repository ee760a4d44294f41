"""Entities that a caption names, ranked by the image."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from thresher.filters.embeddings.matrix import Matrix, column_of, normalised
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.clip.entities import EntityScorer, read_entities
from thresher.scorers.testing import check_scorer

ENTITIES: list[dict[str, Any]] = [
    {"id": "Q1", "names": ["Paris", "City of Light"], "description": "capital of France"},
    {"id": "Q2", "names": ["Paris"], "description": "prince of Troy"},
    {"id": "Q3", "names": ["Eiffel Tower"]},
    {"id": "Q4", "names": ["St. John's", "Saint John"], "description": "a town"},
    {"id": "Q5", "names": ["jaguar"], "description": "a cat"},
]
CAPTIONS = [
    "The Eiffel Tower in Paris, at night",
    "paris without a capital",
    "St. John's: the City of Light? No!",
    None,
    "a jaguar",
    "nothing at all",
]


@pytest.fixture
def assets(tmp_path: Path) -> LocalAssets:
    (tmp_path / "entities.jsonl").write_text("\n".join(map(json.dumps, ENTITIES)) + "\n")
    return LocalAssets([tmp_path])


def embeddings(open_clip: Any, folder: Path, template: str) -> dict[str, Matrix]:
    import torch

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    found = {}
    with torch.inference_mode():
        for entity in ENTITIES:
            text = template.format(name=entity["names"][0], description=entity.get("description", ""))
            vector = model.eval().encode_text(tokenizer([text]))[0].numpy().astype(np.float64)
            found[entity["id"]] = vector / np.linalg.norm(vector)
    return found


def batch_of(captions: list[str | None], seed: int = 1) -> tuple[pa.RecordBatch, Matrix]:
    stored = np.random.default_rng(seed).normal(size=(len(captions), 16)).astype(np.float32)
    column = column_of(normalised(stored))
    back = normalised(np.array(column.to_pylist(), np.float32)).astype(np.float64)
    return pa.RecordBatch.from_pydict({"clip_image": column, "text": pa.array(captions, pa.string())}), back


def scored(
    assets: LocalAssets, folder: Path, batch: pa.RecordBatch, **arguments: Any
) -> dict[str, list[Any]]:
    scorer = EntityScorer("clip_image", str(folder), "entities.jsonl", **arguments)
    scorer.open(assets)
    return {name: column.to_pylist() for name, column in scorer.score(batch).items()}


def test_the_entities_that_a_caption_names_are_ranked_by_their_cosine_with_the_image(
    open_clip: Any, small_clip: Path, assets: LocalAssets
) -> None:
    batch, images = batch_of(CAPTIONS)
    template = "{name}, {description}"
    vectors = embeddings(open_clip, small_clip, template)
    found = scored(assets, small_clip, batch, template=template)
    named = [["Q1", "Q2", "Q3"], None, ["Q1", "Q4"], None, ["Q5"], None]
    for row, wanted in enumerate(named):
        if wanted is None:
            assert (found["entities"][row], found["scores"][row]) == (None, None)
            continue
        cosines = {name: float(images[row] @ vectors[name]) for name in wanted}
        assert found["entities"][row] == sorted(wanted, key=lambda name: -cosines[name])
        assert found["scores"][row] == pytest.approx(sorted(cosines.values(), reverse=True), abs=1e-5)


def test_less_similar_entities_than_asked_for_and_more_than_asked_for_are_left_out(
    small_clip: Path, assets: LocalAssets
) -> None:
    batch, _ = batch_of(CAPTIONS)
    every = scored(assets, small_clip, batch, template="{name} {description}")
    best = scored(assets, small_clip, batch, template="{name} {description}", max_entities=1)
    bar = every["scores"][0][1]
    near = scored(assets, small_clip, batch, template="{name} {description}", min_similarity=bar - 1e-6)
    assert best["entities"][0] == every["entities"][0][:1]
    assert near["entities"][0] == every["entities"][0][:2]
    assert all(min(scores) >= bar - 1e-6 for scores in near["scores"] if scores is not None)


def test_case_counts_unless_it_is_ignored(small_clip: Path, assets: LocalAssets) -> None:
    batch, _ = batch_of(["PARIS", "Jaguar"])
    assert scored(assets, small_clip, batch)["entities"] == [None, None]
    found = scored(assets, small_clip, batch, ignore_case=True)["entities"]
    assert [sorted(some) for some in found] == [["Q1", "Q2"], ["Q5"]]


def test_a_record_without_an_embedding_has_no_entities(small_clip: Path, assets: LocalAssets) -> None:
    has = np.array([False, True])
    columns = {"clip_image": column_of(np.ones((1, 16), np.float32), has), "text": ["Paris", "Paris"]}
    found = scored(assets, small_clip, pa.RecordBatch.from_pydict(columns))
    assert found["entities"][0] is None
    assert sorted(found["entities"][1]) == ["Q1", "Q2"]


@pytest.mark.slow
def test_the_scorer_keeps_its_promises(small_clip: Path, assets: LocalAssets) -> None:
    batch, _ = batch_of(CAPTIONS)
    build = functools.partial(
        EntityScorer, embedding="clip_image", model=str(small_clip), entities="entities.jsonl"
    )
    check_scorer(build, batch, assets=assets)


def test_a_list_is_read_from_tab_separated_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "entities.tsv"
    path.write_text("Q1\tParis|City of  Light\tcapital\r\n\nQ2\tParis\n")
    found = read_entities(path)
    assert (found.ids, found.titles, found.descriptions) == (
        ["Q1", "Q2"],
        ["Paris", "Paris"],
        ["capital", ""],
    )
    shared = found.names.index("Paris")
    assert found.entities[found.first[shared] : found.first[shared + 1]].tolist() == [0, 1]
    assert "City of Light" in found.names


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('{"id": "a", "names": ["x"]}\n{"id": "a", "names": ["y"]}', ":2: the id 'a' is there a second time"),
        ('{"id": "a", "names": []}', ":1: an entity has an id and at least one name"),
        ('{"id": "a", "names": "x"}', ":1: is no entity"),
        ("not json", ":1: is no entity"),
        ("", "has no entity"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, lines: str, told: str) -> None:
    path = tmp_path / "entities.jsonl"
    path.write_text(lines)
    with pytest.raises(AssetError, match=rf"entities\.jsonl:? ?{told}"):
        read_entities(path)
