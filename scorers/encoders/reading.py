"""How an encoder reads a text: what is put before it, how much of it, and how its tokens become one vector.

A folder says so in the files of sentence-transformers: modules.json, the config.json of its pooling module,
sentence_bert_config.json, and config_sentence_transformers.json with the prompts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from ...schemas.contracts import AssetError

Pooling = Literal["cls", "mean", "last"]
POOLINGS: Final[tuple[str, ...]] = get_args(Pooling)
MAX_TOKENS: Final = 512

MODULES_FILE: Final = "modules.json"
LENGTH_FILE: Final = "sentence_bert_config.json"
PROMPTS_FILE: Final = "config_sentence_transformers.json"
POOLING_FOLDER: Final = "1_Pooling"
_MODES: Final[Mapping[str, Pooling]] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_NAMES: Final[Mapping[str, Pooling]] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
_MODULE: Final = "sentence_transformers.models."


@dataclass(frozen=True)
class Reading:
    """`pooling`: the first token's vector, the mean of all, or the last one's. `normalise`: whether an
    embedding has length one. `max_tokens`: with those that mark beginning and end. `prefix` comes before each
    text. `lower`: whether the text is lowered first."""

    pooling: Pooling = "mean"
    normalise: bool = True
    max_tokens: int | None = None
    prefix: str = ""
    lower: bool = False


def read_reading(folder: Path, prompt: str | None = None) -> Reading:
    """What a folder says; the defaults where it has none of these files. `prompt` names one of its prompts.

    Raises AssetError for a module or a pooling that is none of ours, and for an unknown prompt.
    """
    reading = _with_modules(Reading(), folder)
    told = _object(folder / LENGTH_FILE)
    length = told.get("max_seq_length")
    reading = replace(
        reading,
        max_tokens=length if isinstance(length, int) and length > 0 else None,
        lower=bool(told.get("do_lower_case", False)),
    )
    told = _object(folder / PROMPTS_FILE)
    prompts = told.get("prompts") or {}
    name = prompt or told.get("default_prompt_name")
    if name is None:
        return reading
    if name not in prompts:
        there = ", ".join(sorted(prompts)) or "none"
        raise AssetError(f"{folder / PROMPTS_FILE}: has no prompt {name!r}; there are: {there}")
    return replace(reading, prefix=str(prompts[name]))


def write_reading(reading: Reading, folder: Path, dimensions: int) -> None:
    """Writes the files from which `read_reading`, and sentence-transformers, learn how to read."""
    types = [("", "Transformer"), (POOLING_FOLDER, "Pooling")]
    types += [("2_Normalize", "Normalize")] if reading.normalise else []
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"{_MODULE}{name}"}
        for number, (path, name) in enumerate(types)
    ]
    _write(folder / MODULES_FILE, modules)
    modes = {key: mode == reading.pooling for key, mode in _MODES.items()}
    _write(folder / POOLING_FOLDER / "config.json", {"word_embedding_dimension": dimensions, **modes})
    length = reading.max_tokens or MAX_TOKENS
    _write(folder / LENGTH_FILE, {"max_seq_length": length, "do_lower_case": reading.lower})
    if reading.prefix:
        prompts = {"prompts": {"text": reading.prefix}, "default_prompt_name": "text"}
        _write(folder / PROMPTS_FILE, prompts)


def _with_modules(reading: Reading, folder: Path) -> Reading:
    path = folder / MODULES_FILE
    if not path.is_file():
        return reading
    modules = _json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise AssetError(f"{path}: is no list of modules")
    normalise = False
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            config = folder / str(module.get("path") or POOLING_FOLDER) / "config.json"
            reading = replace(reading, pooling=_pooling_of(_object(config), config))
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise AssetError(
                f"{path}: has a module {kind!r} between the tokens and the embedding; there are Transformer, "
                "Pooling and Normalize"
            )
    return replace(reading, normalise=normalise)


def _pooling_of(config: Mapping[str, Any], path: Path) -> Pooling:
    named = config.get("pooling_mode")
    modes = (
        [str(named)]
        if isinstance(named, str)
        else [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    )
    if len(modes) == 1:
        found = _MODES.get(modes[0]) or _NAMES.get(modes[0])
        if found is not None:
            return found
    told = " and ".join(modes) or "nothing"
    raise AssetError(f"{path}: pools by {told}; there are {', '.join(POOLINGS)}")


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = _json(path)
    if not isinstance(found, dict):
        raise AssetError(f"{path}: holds no object")
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise AssetError(f"{path}: cannot be read as JSON ({error})") from error


def _write(path: Path, told: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")
