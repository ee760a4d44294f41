"""Files of small models that read embeddings: safetensors, with what they are in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from ...filters.embeddings.matrix import Matrix
from ...schemas.contracts import AssetError

Kind = Literal["regression", "classification"]
Activation = Literal["relu", "tanh", "none"]
Weights = npt.NDArray[np.float32]

PROMPTS: Final = "prompts"
_FORMAT: Final = "thresher-head"
_HOW: Final = "install it with: pip install 'thresher[clip]'"


@dataclass(frozen=True)
class Head:
    """One linear layer, or several with an `activation` between them, that read an embedding.

    `layers`: weight (outputs, inputs) and bias of each, first to last. The last has one output for a
    regression, and for a classification one logit for each of `labels`. `normalised`: embeddings are made of
    length one first.
    """

    kind: Kind
    layers: tuple[tuple[Weights, Weights], ...]
    labels: tuple[str, ...] = ()
    normalised: bool = True
    activation: Activation = "relu"
    about: Mapping[str, Any] = field(default_factory=dict)  # what it was made from

    @property
    def dimensions(self) -> int:
        return int(self.layers[0][0].shape[1])


def write_head(head: Head, path: Path) -> None:
    """Writes a head; the file appears whole. The tensors are `0.weight`, `0.bias`, `1.weight`, …"""
    tensors = {}
    for number, (weight, bias) in enumerate(head.layers):
        tensors[f"{number}.weight"], tensors[f"{number}.bias"] = weight, bias
    told = {
        "kind": head.kind,
        "labels": json.dumps(head.labels, ensure_ascii=False),
        "normalised": str(head.normalised).lower(),
        "activation": head.activation,
    }
    _write(path, tensors, told, head.about)


def read_head(path: Path) -> Head:
    """Reads a head that `write_head` wrote, or that has its tensors and metadata. Raises AssetError."""
    tensors, told = _read(path)
    layers: list[tuple[Weights, Weights]] = []
    while f"{len(layers)}.weight" in tensors:
        weight = tensors.pop(f"{len(layers)}.weight")
        bias = tensors.pop(f"{len(layers)}.bias", np.zeros(weight.shape[:1], np.float32))
        before = layers[-1][0].shape[0] if layers else weight.shape[-1]
        if weight.ndim != 2 or bias.shape != weight.shape[:1] or weight.shape[1] != before:
            raise AssetError(
                f"{path}: layer {len(layers)} has a weight of shape {weight.shape} and a bias of shape "
                f"{bias.shape}, which do not go together or do not follow from the layer before"
            )
        layers.append((weight, bias))
    if not layers or tensors:
        names = ", ".join(sorted(tensors)) or "none"
        raise AssetError(f"{path}: is no head; its tensors are 0.weight, 0.bias, and so on, and not {names}")
    kind, activation = told.get("kind"), told.get("activation", "relu")
    if kind not in get_args(Kind) or activation not in get_args(Activation):
        raise AssetError(
            f"{path}: its metadata says kind {kind!r}, activation {activation!r}; these are "
            f"{' or '.join(get_args(Kind))}, and {', '.join(get_args(Activation))}"
        )
    labels = tuple(json.loads(told.get("labels", "[]")))
    wanted = 1 if kind == "regression" else len(labels)
    if len(layers[-1][1]) != wanted:
        raise AssetError(
            f"{path}: has {len(layers[-1][1])} outputs, and {wanted} are told of in its metadata"
        )
    normalised = told.get("normalised", "true") == "true"
    return Head(kind, tuple(layers), labels, normalised, activation, _about(told))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Prompts:
    """Two vectors in the space of a CLIP model's texts: what is acceptable, and what is not."""

    vectors: Matrix  # (2, dimensions)
    scale: float = 100.0
    about: Mapping[str, Any] = field(default_factory=dict)


def write_prompts(prompts: Prompts, path: Path) -> None:
    """Writes prompts as the tensor `prompts`; the file appears whole."""
    _write(path, {PROMPTS: prompts.vectors}, {"scale": repr(prompts.scale)}, prompts.about)


def read_prompts(path: Path) -> Prompts:
    """Reads what `write_prompts` wrote, or a file with a tensor `prompts` of two rows. Raises AssetError."""
    tensors, told = _read(path)
    vectors = tensors.get(PROMPTS)
    if vectors is None or vectors.ndim != 2 or len(vectors) != 2:
        shapes = ", ".join(f"{name} {tensor.shape}" for name, tensor in sorted(tensors.items())) or "nothing"
        raise AssetError(f"{path}: holds {shapes}, and not a tensor `prompts` with two rows")
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise AssetError(f"{path}: a prompt is zero or has a number that is not finite")
    return Prompts(vectors, float(told.get("scale", "100")), _about(told))


def _write(
    path: Path, tensors: Mapping[str, Weights], told: Mapping[str, str], about: Mapping[str, Any]
) -> None:
    metadata = {"format": _FORMAT, **told, "about": json.dumps(about, sort_keys=True, ensure_ascii=False)}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(_packed(tensors, metadata))
    unfinished.replace(path)


def _packed(tensors: Mapping[str, Weights], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file of safetensors: the length of its header, the header in JSON, the tensors.

    The package writes metadata in an order that differs from run to run; here equal heads are equal files.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    data = b""
    for name, tensor in sorted(tensors.items()):
        packed = np.ascontiguousarray(tensor, "<f4").tobytes()
        places = [len(data), len(data) + len(packed)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": places}
        data += packed
    told = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    told += b" " * (-len(told) % 8)
    return len(told).to_bytes(8, "little") + told + data


def _read(path: Path) -> tuple[dict[str, Weights], dict[str, str]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise AssetError(f"heads are read with the package safetensors ({error}); {_HOW}") from error
    try:
        with safe_open(str(path), framework="numpy") as file:
            tensors = {name: np.asarray(file.get_tensor(name), np.float32) for name in list(file.keys())}
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise AssetError(f"{path}: is no file of safetensors that can be read ({error})") from error


def _about(told: Mapping[str, str]) -> dict[str, Any]:
    try:
        about = json.loads(told.get("about", "{}"))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}
