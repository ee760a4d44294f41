"""Heads of an encoder: what each says, how a job asks for it, and the files that hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...filters.embeddings.matrix import EMBEDDING
from ...schemas.contracts import AssetError
from ..heads.file import Activation, Head
from .reading import POOLINGS, Pooling

Doubles = npt.NDArray[np.float64]
Kind = Literal["regression", "classification", "multilabel"]

EMBEDDING_OUTPUT: Final = "embedding"
OWN_HEAD: Final = "score"  # of a model that transformers loads with its head
HEADS_FILE: Final = "heads.safetensors"
SETTINGS_FILE: Final = "heads.json"
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TYPES: Final = {
    "label": pa.string(),
    "probability": pa.float32(),
    "probabilities": pa.list_(pa.float32()),
}


@dataclass(frozen=True)
class Question:
    """What a head answers: a number, which one of its classes, or which of them."""

    kind: Kind
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Heads:
    """Heads that read the same vector of a text, by name."""

    pooling: Pooling
    normalised: bool
    heads: Mapping[str, Head]


def type_of(output: str) -> pa.DataType:
    """The type of the column that a job asks for by `output`, whatever the heads are."""
    if output == EMBEDDING_OUTPUT:
        return EMBEDDING
    return _TYPES.get(output.rpartition("_")[2] if "_" in output else "", pa.float32())


def check_name(name: str) -> None:
    """Raises ValueError for a name that no head can have, as outputs are told by their endings."""
    taken = name == EMBEDDING_OUTPUT or ("_" in name and name.rpartition("_")[2] in _TYPES)
    if taken or not _NAME.fullmatch(name):
        endings = ", ".join(f"_{ending}" for ending in _TYPES)
        raise ValueError(
            f"a head cannot be called {name!r}: write letters, digits and _, not {EMBEDDING_OUTPUT}, and "
            f"none of the endings {endings}"
        )


@dataclass(frozen=True)
class Asked:
    """One output of a head: its value, or what of its classes."""

    head: str
    what: Literal["value", "label", "probability", "probabilities", "class"]
    number: int = 0  # of the class


def asked_of(output: str, questions: Mapping[str, Question], where: str) -> Asked:
    """Which head `output` asks, and for what. Raises AssetError where none can say that."""
    if output in questions:
        question = questions[output]
        if question.kind == "regression":
            return Asked(output, "value")
        if question.kind == "classification" and _numbers(question.classes) is not None:
            return Asked(output, "value")
        raise AssetError(
            f"{where}: the classes of {output} are no numbers; write {', '.join(_offered(output, question))}"
        )
    for name in sorted(questions, key=len, reverse=True):
        question, ending = questions[name], output.removeprefix(f"{name}_")
        if ending == output or question.kind == "regression":
            continue
        if ending == "probabilities":
            return Asked(name, "probabilities")
        if ending in ("label", "probability") and question.kind == "classification":
            return Asked(name, "label" if ending == "label" else "probability")
        if ending in question.classes:
            return Asked(name, "class", question.classes.index(ending))
    there = [EMBEDDING_OUTPUT]
    for name, question in questions.items():
        there += _offered(name, question)
    raise AssetError(f"{where}: has no output {output!r}; there are {', '.join(there)}")


def answer(asked: Asked, question: Question, values: Doubles) -> pa.Array:
    """The column of an output. `values`: of each text a regression's value or the classes' probabilities."""
    if asked.what == "class":
        return pa.array(values[:, asked.number].astype(np.float32))
    if asked.what == "probabilities":
        offsets = np.arange(len(values) + 1, dtype=np.int32) * len(question.classes)
        flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
        return pa.ListArray.from_arrays(pa.array(offsets), flat)
    if question.kind == "regression":
        return pa.array(values[:, 0].astype(np.float32))
    best = values.argmax(axis=1)
    if asked.what == "label":
        return pa.array(question.classes, pa.string()).take(pa.array(best))
    if asked.what == "probability":
        return pa.array(np.take_along_axis(values, best[:, None], 1)[:, 0].astype(np.float32))
    numbers = _numbers(question.classes)
    assert numbers is not None
    return pa.array(numbers[best].astype(np.float32))


def write_heads(heads: Heads, folder: Path) -> None:
    """Writes heads.safetensors and heads.json, which says what is in it."""
    from safetensors.numpy import save_file

    tensors: dict[str, npt.NDArray[np.float32]] = {}
    told: list[dict[str, Any]] = []
    for name, head in heads.heads.items():
        check_name(name)
        layers = [f"{name}.{number}" for number in range(len(head.layers))]
        for layer, (weight, bias) in zip(layers, head.layers, strict=True):
            tensors[f"{layer}.weight"] = np.ascontiguousarray(weight, np.float32)
            tensors[f"{layer}.bias"] = np.ascontiguousarray(bias, np.float32)
        told.append(
            {
                "name": name,
                "kind": head.kind,
                "classes": list(head.labels),
                "activation": head.activation,
                "layers": layers,
            }
        )
    save_file(tensors, str(folder / HEADS_FILE))
    settings = {"pooling": heads.pooling, "normalised": heads.normalised, "heads": told}
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_heads(folder: Path) -> Heads | None:
    """The heads of a folder, None where it has no heads.json.

    That says `pooling`, `normalised`, and of each head `name`, `kind`, `classes`, `activation` and `layers`,
    the names of the tensors without `.weight` and `.bias`; `file` is where they lie, heads.safetensors unless
    it says another. Raises AssetError.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_text("utf-8"))
        heads = {
            str(head["name"]): _read_head(folder, head, bool(told["normalised"])) for head in told["heads"]
        }
        pooling = told["pooling"]
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; write {', '.join(POOLINGS)}")
        return Heads(pooling, bool(told["normalised"]), heads)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{path}: does not describe heads ({type(error).__name__}: {error})") from error


def _read_head(folder: Path, told: Mapping[str, Any], normalised: bool) -> Head:
    check_name(str(told["name"]))
    kind, activation = told["kind"], told.get("activation", "none")
    if kind not in ("regression", "classification") or activation not in get_args(Activation):
        raise ValueError(f"head {told['name']}: kind {kind!r}, activation {activation!r}")
    classes = tuple(map(str, told.get("classes", ())))
    file = folder / str(told.get("file", HEADS_FILE))
    names = [f"{layer}.{part}" for layer in told["layers"] for part in ("weight", "bias")]
    tensors = _tensors(file, names)
    layers = tuple(zip(tensors[::2], tensors[1::2], strict=True))
    width = None
    for weight, bias in layers:
        if (
            weight.ndim != 2
            or bias.shape != weight.shape[:1]
            or weight.shape[1] != (width or weight.shape[1])
        ):
            raise ValueError(f"head {told['name']}: layers of shapes that do not follow from each other")
        width = weight.shape[0]
    if width != (1 if kind == "regression" else len(classes)):
        raise ValueError(f"head {told['name']}: {width} outputs for the classes {list(classes)}")
    return Head(kind, layers, classes, normalised, activation)


def _tensors(file: Path, names: list[str]) -> list[npt.NDArray[np.float32]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as opened:
            return [np.asarray(opened.get_tensor(name).float().numpy(), np.float32) for name in names]
    except SafetensorError as error:
        raise ValueError(f"{file}: {error}") from error


def _offered(name: str, question: Question) -> list[str]:
    if question.kind == "regression":
        return [name]
    found = [f"{name}_probabilities", *(f"{name}_{label}" for label in question.classes)]
    if question.kind == "multilabel":
        return found
    found = [f"{name}_label", f"{name}_probability", *found]
    return found if _numbers(question.classes) is None else [name, *found]


def _numbers(classes: tuple[str, ...]) -> Doubles | None:
    try:
        return np.array([float(label) for label in classes])
    except ValueError:
        return None
