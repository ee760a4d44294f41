"""What a CLIP model is made of: which configuration, which weights, and the empty network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ...schemas.contracts import AssetError, Assets
from .packages import import_open_clip

CONFIG_FILE: Final = "open_clip_config.json"
WEIGHTS_FILE: Final = "open_clip_model.safetensors"
_SECTIONS: Final = ("embed_dim", "vision_cfg", "text_cfg")


@dataclass(frozen=True)
class Architecture:
    """A model's configuration in open_clip's words, and its weights."""

    name: str
    model_cfg: Mapping[str, Any]
    weights: Path
    preprocess_cfg: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None  # where the files of a tokenizer may be


def text_config(model_cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that is about captions."""
    found: Mapping[str, Any] = model_cfg["text_cfg"]
    return found


def architecture_of(model: str, checkpoint: str | None, assets: Assets) -> Architecture:
    """What `load_clip`'s first two arguments name. Raises AssetError."""
    if checkpoint is None:
        return _of_folder(model, assets)
    weights = assets.locate(checkpoint)
    if model.lower().endswith(".json"):
        path = assets.locate(model)
        model_cfg, preprocess_cfg = read_config(path)
        return Architecture(path.name, model_cfg, weights, preprocess_cfg, path.parent)
    model_cfg = known_config(model)
    return Architecture(model, model_cfg, weights, usual_preprocessing(model))


def built(model_cfg: Mapping[str, Any], precision: str = "fp32") -> Any:
    """open_clip's network of a configuration, with random weights, on the CPU, in fp32.

    `precision` is what it is going to be cast to. Raises AssetError for configurations that open_clip cannot
    build, or not without the network.
    """
    open_clip = import_open_clip()
    settings = deepcopy(dict(model_cfg))
    text, vision = settings["text_cfg"], settings["vision_cfg"]
    if text.get("hf_model_name"):
        raise AssetError(
            f"its text tower is {text['hf_model_name']} of Hugging Face, which open_clip would download; "
            "only text towers of open_clip's own are loaded"
        )
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    custom = settings.pop("custom_text", False)
    network = open_clip.CLIP
    if custom:
        network = open_clip.CoCa if "multimodal_cfg" in settings else open_clip.CustomTextCLIP
    try:
        return network(**settings, cast_dtype=open_clip.get_cast_dtype(precision))
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise AssetError(f"open_clip cannot build this configuration: {error}") from error


def _of_folder(model: str, assets: Assets) -> Architecture:
    try:
        folder = assets.locate(model)
    except AssetError as error:
        raise AssetError(
            f"{error}. If {model} is one of open_clip's architectures, name its weights as `checkpoint`"
        ) from error
    if not folder.is_dir():
        raise AssetError(
            f"{folder}: a model is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, or the name of an "
            "architecture and a `checkpoint`"
        )
    model_cfg, preprocess_cfg = read_config(folder / CONFIG_FILE)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        others = sorted(folder.glob("*.safetensors"))
        if len(others) != 1:
            raise AssetError(f"{folder}: has no {WEIGHTS_FILE}; other formats of weights are not read")
        weights = others[0]
    return Architecture(folder.name, model_cfg, weights, preprocess_cfg, folder)


def read_config(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise AssetError(f"{path}: no configuration of open_clip's can be read ({error})") from error
    wrapped = isinstance(found, dict) and "model_cfg" in found
    model_cfg = found["model_cfg"] if wrapped else found
    if not isinstance(model_cfg, dict) or not all(section in model_cfg for section in _SECTIONS):
        raise AssetError(f"{path}: is no configuration of open_clip's, which has {', '.join(_SECTIONS)}")
    return model_cfg, (found.get("preprocess_cfg") or {}) if wrapped else {}


def known_config(name: str) -> Mapping[str, Any]:
    import difflib

    open_clip = import_open_clip()
    cleaned = name.replace("/", "-")
    names = open_clip.list_models()
    if cleaned not in names:
        near = difflib.get_close_matches(cleaned, names, 3)
        told = f"; near it are {', '.join(near)}" if near else ""
        raise AssetError(f"open_clip has no architecture {name!r}{told}. A folder has its weights with it")
    found: Mapping[str, Any] = open_clip.get_model_config(cleaned)
    return found


def usual_preprocessing(name: str) -> Mapping[str, Any]:
    """What all weights that open_clip lists for an architecture have in common, as SigLIP's square images."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    cleaned = name.replace("/", "-")
    listed = [get_pretrained_cfg(cleaned, tag) for tag in list_pretrained_tags_by_model(cleaned)]
    usual: dict[str, Any] = {}
    for setting in ("mean", "std", "interpolation", "resize_mode"):
        values = [entry.get(setting) for entry in listed]
        if values and all(value == values[0] for value in values):
            usual[setting] = values[0]
    return usual
