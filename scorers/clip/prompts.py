"""Zero-shot classification: which of some described classes an image belongs to, by a CLIP model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import pyarrow as pa

from ...filters.embeddings.matrix import Matrix, normalised
from ...schemas.contracts import AssetError, Assets, Scorer
from ..embedded import directed, lists_of, spread
from ..torch_device import PRECISIONS
from .model import Clip, clip_assets, load_clip
from .texts import text_embeddings

Classes = Mapping[str, str | Sequence[str]] | Sequence[str]

TEMPLATE: Final = "a photo of a {}."  # CLIP's own, Radford et al. 2021, arXiv:2103.00020, section 3.1.4
_BEST: Final = {"label": pa.string(), "probability": pa.float32()}
_SEVERAL: Final = {"labels": pa.list_(pa.string()), "probabilities": pa.list_(pa.float32())}


class ZeroShotScorer(Scorer):
    """The likeliest of some classes, from an image's embedding and prompts that describe each class.

    `embedding` names the column of image embeddings, which `model` (and `checkpoint`) must have made:
    `clip` with `outputs: [image]`. `classes` is a list of names, or a mapping of each name to its prompt or
    prompts, or the name of a file: .json with such a list or mapping, or text with a name in each line.
    `templates`, each with one {}, are filled with every prompt; for names without prompts they are by default
    "a photo of a {}.". A class's vector is the normalised mean of the embeddings of its prompts, each of
    length one (prompt ensembling, Radford et al. 2021, arXiv:2103.00020); probabilities are the softmax over
    classes of the cosines times `scale`, by default the model's own.

    Returns `label` (string) and `probability` (float32) of the likeliest class, null where that is less than
    `min_probability`. With `top` it returns `labels` and `probabilities` (lists), the likeliest first, of the
    `top` likeliest classes that have at least `min_probability`, for choosing the best of each class (Yalniz
    et al. 2019, arXiv:1905.00546, who keep 10). Of equal cosines the class that is named first counts. Null
    where there is no embedding or one of zeros.

    Prompts are encoded once by each worker, in `precision`. Raises AssetError where the model or a file
    cannot be used.
    """

    version: ClassVar[int] = 1
    tolerance = 1e-3
    kernels: ClassVar[tuple[str, ...]] = ("thresher.filters.embeddings.products",)

    def __init__(
        self,
        embedding: str,
        model: str,
        classes: Mapping[str, str | Sequence[str]] | Sequence[str] | str,
        checkpoint: str | None = None,
        templates: Sequence[str] | None = None,
        top: int | None = None,
        min_probability: float = 0.0,
        scale: float | None = None,
        precision: str = "fp32",
        device: str = "auto",
    ) -> None:
        if top is not None and top < 1:
            raise ValueError(f"top is {top}; it is the number of classes of a record, at least 1")
        if not 0 <= min_probability <= 1:
            raise ValueError(f"min_probability is {min_probability}; it lies between 0 and 1")
        if scale is not None and not scale > 0:
            raise ValueError(f"scale is {scale}; it is above 0")
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision is {precision!r}; write auto, {', '.join(PRECISIONS)}")
        self._templates = None if templates is None else _checked(templates)
        self._file = classes if isinstance(classes, str) else None
        self._prompts = {} if isinstance(classes, str) else prompts_of(classes, self._templates)
        self._model, self._checkpoint = model, checkpoint
        self._top, self._least, self._scale = top, min_probability, scale
        self._precision, self._device = precision, device
        self.inputs = (embedding,)
        self.assets = clip_assets(model, checkpoint) + ((self._file,) if self._file is not None else ())
        self._names: pa.Array | None = None
        self._vectors: Matrix | None = None
        self._logit_scale = 1.0

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return dict(_BEST if self._top is None else _SEVERAL)

    def open(self, assets: Assets) -> None:
        prompts = self._prompts
        if self._file is not None:
            prompts = read_classes(assets.locate(self._file), self._templates)
        clip = load_clip(
            self._model, self._checkpoint, assets, device=self._device, precision=self._precision
        )
        self._names = pa.array(list(prompts), pa.string())
        self._vectors = class_vectors(clip, prompts)
        self._logit_scale = self._scale or clip.logit_scale

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        from ...filters.embeddings.products import products, softmax

        assert self._vectors is not None, "open comes before score"
        assert self._names is not None
        matrix, rows = directed(batch, self.inputs[0], self._vectors.shape[1], self._model)
        logits = self._logit_scale * products(matrix, self._vectors)
        probabilities = softmax(logits).astype(np.float32)
        best = np.argsort(-logits, axis=1, kind="stable")[:, : self._top or 1]
        likeliest = np.take_along_axis(probabilities, best, 1)
        enough = likeliest >= self._least
        has = np.zeros(len(batch), np.bool_)
        if self._top is None:
            has[rows] = enough[:, 0]
            return {
                "label": spread(self._names.take(pa.array(best[:, 0])).filter(pa.array(enough[:, 0])), has),
                "probability": spread(pa.array(likeliest[:, 0][enough[:, 0]]), has),
            }
        has[rows] = True
        counts = np.zeros(len(batch), np.int64)
        counts[rows] = enough.sum(axis=1)
        names = self._names.take(pa.array(best[enough]))
        return {
            "labels": lists_of(names, counts, has),
            "probabilities": lists_of(pa.array(likeliest[enough]), counts, has),
        }


def prompts_of(classes: Classes, templates: Sequence[str] | None) -> dict[str, list[str]]:
    """The prompts of each class, with the templates filled in. Raises ValueError."""
    described: dict[str, list[str]] = {}
    if isinstance(classes, Mapping):
        for name, given in classes.items():
            described[str(name)] = [given] if isinstance(given, str) else list(given)
    else:
        templates = templates or [TEMPLATE]
        repeated = sorted({str(name) for name in classes if list(classes).count(name) > 1})
        if repeated:
            raise ValueError(f"the class {repeated[0]!r} is named twice")
        described = {str(name): [str(name)] for name in classes}
    if not described:
        raise ValueError("there are no classes; name at least one")
    for name, prompts in described.items():
        if not prompts or not all(isinstance(prompt, str) and prompt.strip() for prompt in prompts):
            raise ValueError(f"the class {name!r} has no prompt, or one that is empty or no text")
    if templates is None:
        return described
    return {
        name: [template.replace("{}", prompt) for template in templates for prompt in prompts]
        for name, prompts in described.items()
    }


def read_classes(path: Path, templates: Sequence[str] | None) -> dict[str, list[str]]:
    """The classes of a file and their prompts, as `prompts_of` gives them. Raises AssetError."""
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".json":
            value = json.loads(text)
            if not isinstance(value, dict | list):
                raise ValueError("holds neither a list of names nor a mapping of names to prompts")
            return prompts_of(value, templates)
        return prompts_of([line.strip() for line in text.splitlines() if line.strip()], templates)
    except (ValueError, TypeError) as error:
        raise AssetError(f"{path}: cannot be read as classes: {error}") from error


def class_vectors(clip: Clip, prompts: Mapping[str, Sequence[str]]) -> Matrix:
    """The vector of each class: the mean of its prompts' embeddings, of length one."""
    texts = list(dict.fromkeys(text for some in prompts.values() for text in some))
    place = {text: row for row, text in enumerate(texts)}
    embeddings = text_embeddings(clip, texts)
    means = [embeddings[[place[text] for text in some]].mean(axis=0) for some in prompts.values()]
    return normalised(np.stack(means))


def _checked(templates: Sequence[str]) -> list[str]:
    if isinstance(templates, str):
        raise ValueError(f"templates is {templates!r}; write a list of them")
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"the template {template!r} has no {{}} for a class's name")
    if not templates:
        raise ValueError("templates is empty; leave it out, or write some")
    return list(templates)
