"""Entities that a caption names and its image shows, by a CLIP model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...filters.embeddings.matrix import Matrix
from ...filters.text.entries import EntryIndex
from ...schemas.contracts import AssetError, Assets, Scorer
from ..embedded import directed, lists_of
from ..torch_device import PRECISIONS
from .model import Clip, clip_assets, load_clip
from .texts import text_embeddings

TEMPLATE: Final = "{name}"
_MARK: Final = re.compile(r"([,.;:?!`])")
_KEPT: Final = 200_000  # embeddings of entities that a worker remembers: 400 MB of 512 numbers


@dataclass(frozen=True)
class EntityList:
    """Entities, and the different names that they go by.

    Name i is a name of entities[first[i]:first[i + 1]], numbers of `ids`.
    """

    ids: list[str]
    titles: list[str]  # the first name of each
    descriptions: list[str]
    names: list[str]
    first: np.ndarray
    entities: np.ndarray


class EntityScorer(Scorer):
    """The entities of a list that a caption names, ranked by how well the image fits each.

    As MOFI labels images (Wu et al. 2023, arXiv:2306.07952): entities come from the text, CLIP chooses. There
    a model finds the names; here they are those of a list, matched between spaces as MetaCLIP matches its
    entries (filters/text/entries.py), in their case unless `ignore_case`. Two entities with one name are both
    candidates.

    `embedding` names the column of image embeddings, which `model` (and `checkpoint`) must have made; `text`
    the column of captions. `entities` is a file: JSON Lines with `id`, `names` (a list, the first is its
    title) and perhaps `description`; or .tsv with id, names separated by |, and perhaps a description.
    `template` is what the model reads of an entity, with {name} for its title and {description}.
    `min_similarity`: least cosine; `max_entities`: at most so many. The paper's own values were not at hand,
    so none is the default.

    Returns `entities` (list of ids, the best first; of equal cosines the first in the file) and `scores`
    (list of cosines); null where there is no embedding or caption, or none is chosen. Raises AssetError where
    the model or the list cannot be used.
    """

    version: ClassVar[int] = 1
    tolerance = 1e-4
    kernels: ClassVar[tuple[str, ...]] = (
        "thresher.filters.text.entries",
        "thresher.filters.embeddings.search",
    )

    def __init__(
        self,
        embedding: str,
        model: str,
        entities: str,
        checkpoint: str | None = None,
        text: str = "text",
        template: str = TEMPLATE,
        min_similarity: float = -1.0,
        max_entities: int | None = None,
        ignore_case: bool = False,
        precision: str = "fp32",
        device: str = "auto",
    ) -> None:
        if "{name}" not in template:
            raise ValueError(f"the template {template!r} has no {{name}}")
        if not -1 <= min_similarity <= 1:
            raise ValueError(f"min_similarity is {min_similarity}; a cosine lies between -1 and 1")
        if max_entities is not None and max_entities < 1:
            raise ValueError(f"max_entities is {max_entities}; it is at least 1")
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision is {precision!r}; write auto, {', '.join(PRECISIONS)}")
        self.inputs = (embedding, text)
        self.assets = (*clip_assets(model, checkpoint), entities)
        self._model, self._checkpoint, self._file = model, checkpoint, entities
        self._template, self._least, self._most = template, min_similarity, max_entities
        self._ignore_case, self._precision, self._device = ignore_case, precision, device
        self._clip: Clip | None = None
        self._list: EntityList | None = None
        self._index: EntryIndex | None = None
        self._known: dict[int, Matrix] = {}

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {"entities": pa.list_(pa.string()), "scores": pa.list_(pa.float32())}

    def open(self, assets: Assets) -> None:
        self._list = read_entities(assets.locate(self._file), ignore_case=self._ignore_case)
        # Texts are matched with spaces around these marks.
        names = [_MARK.sub(r" \1 ", name).strip() for name in self._list.names]
        self._index = EntryIndex(pa.array(names, pa.string()))
        self._clip = load_clip(
            self._model, self._checkpoint, assets, device=self._device, precision=self._precision
        )
        self._clip.open_tokenizer()
        self._known = {}

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        assert self._clip is not None, "open comes before score"
        assert self._list is not None
        matrix, embedded = directed(batch, self.inputs[0], self._clip.dimensions, self._model)
        place = np.full(len(batch), -1, np.int64)
        place[embedded] = np.arange(len(embedded))
        rows, entities = self._candidates(batch.column(self.inputs[1]))
        there = place[rows] >= 0
        rows, entities = rows[there], entities[there]
        cosines = self._cosines(matrix, place[rows], entities)
        order = np.lexsort((entities, -cosines, rows))
        order = order[cosines[order] >= self._least]
        rows, entities, cosines = rows[order], entities[order], cosines[order]
        if self._most is not None and len(rows):
            rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
            rows, entities, cosines = (array[rank < self._most] for array in (rows, entities, cosines))
        counts = np.bincount(rows, minlength=len(batch))
        ids = pa.array([self._list.ids[entity] for entity in entities.tolist()], pa.string())
        return {
            "entities": lists_of(ids, counts, counts > 0),
            "scores": lists_of(pa.array(cosines, pa.float32()), counts, counts > 0),
        }

    def _candidates(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Rows and the entities that their texts name, each once."""
        assert self._index is not None
        assert self._list is not None
        first, names = self._index.find(pc.utf8_lower(texts) if self._ignore_case else texts)
        counts = np.diff(self._list.first)[names]
        rows = np.repeat(np.repeat(np.arange(len(texts)), np.diff(first)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        entities = self._list.entities[np.repeat(self._list.first[names], counts) + within]
        pairs = np.unique(np.stack([rows, entities]), axis=1) if len(rows) else np.empty((2, 0), np.int64)
        return pairs[0], pairs[1]

    def _cosines(self, matrix: Matrix, rows: np.ndarray, entities: np.ndarray) -> np.ndarray:
        from ...filters.embeddings.search import compared

        different, which = np.unique(entities, return_inverse=True)
        return compared(matrix, self._embeddings(different.tolist()), rows, which.reshape(-1))

    def _embeddings(self, entities: list[int]) -> Matrix:
        assert self._clip is not None
        assert self._list is not None
        new = [entity for entity in entities if entity not in self._known]
        if len(self._known) + len(new) > _KEPT:
            self._known, new = {}, entities
        texts = [
            self._template.replace("{description}", self._list.descriptions[entity]).replace(
                "{name}", self._list.titles[entity]
            )
            for entity in new
        ]
        self._known.update(zip(new, text_embeddings(self._clip, texts), strict=True))
        rows = [self._known[entity] for entity in entities]
        return np.stack(rows) if rows else np.empty((0, self._clip.dimensions), np.float32)


def read_entities(path: Path, *, ignore_case: bool = False) -> EntityList:
    """The entities of a JSON Lines or .tsv file, in its order. Raises AssetError, which names the line."""
    ids: dict[str, int] = {}
    titles, descriptions = [], []
    named: dict[str, list[int]] = {}
    for number, (key, names, description) in _lines(path):
        names = [" ".join(name.split()) for name in names]
        if not key or not names or not all(names):
            raise AssetError(
                f"{path}:{number}: an entity has an id and at least one name, none of them empty"
            )
        if key in ids:
            raise AssetError(f"{path}:{number}: the id {key!r} is there a second time")
        entity = ids[key] = len(ids)
        titles.append(names[0])
        descriptions.append(description)
        for name in dict.fromkeys(name.lower() if ignore_case else name for name in names):
            named.setdefault(name, []).append(entity)
    if not ids:
        raise AssetError(f"{path}: has no entity")
    counts = [len(entities) for entities in named.values()]
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    entities = np.array([entity for some in named.values() for entity in some], np.int64)
    return EntityList(list(ids), titles, descriptions, list(named), first, entities)


def _lines(path: Path) -> Iterator[tuple[int, tuple[str, list[str], str]]]:
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise AssetError(f"{path}: cannot be read as UTF-8 ({error})") from error
    read = _of_tsv if path.suffix.lower() == ".tsv" else _of_json
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, read(line.rstrip("\r"))
        except (ValueError, KeyError, TypeError) as error:
            raise AssetError(
                f"{path}:{number}: is no entity ({error or type(error).__name__}); write "
                '{"id": …, "names": […]} in each line, or in a .tsv id, names separated by |, description'
            ) from error


def _of_json(line: str) -> tuple[str, list[str], str]:
    value = json.loads(line)
    if not isinstance(value, dict) or not isinstance(value.get("names"), list) or "id" not in value:
        raise ValueError("it has no id, or no list of names")
    if not all(isinstance(name, str) for name in value["names"]):
        raise ValueError("a name is no string")
    return str(value["id"]), value["names"], str(value.get("description") or "")


def _of_tsv(line: str) -> tuple[str, list[str], str]:
    key, names, *rest = line.split("\t")
    return key.strip(), names.split("|"), rest[0].strip() if rest else ""
