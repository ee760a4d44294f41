"""Weights of a mix as other programs leave them: DoReMi's domain configuration, RegMix's mixture, a table."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from ..schemas.contracts import AssetError
from ..schemas.selection import Mix
from ..scorers.assets import LocalAssets
from .selectors.groups import joined_name

# The weights of DoReMi's configurations, and of RegMix's, which have those of evaluation beside them.
_NAMED: Final = ("train_domain_weights", "train")
_INDEX: Final = ("", "index")  # what pandas calls the numbers of rows


def read_weights(name: str, directory: str | Path) -> dict[str, Any]:
    """Group: weight, from the file that a job calls `name`; groups of weight 0 are left out.

    YAML or JSON: a mapping of groups to weights, which may stand under `train_domain_weights`, as in the
    configurations of DoReMi (github.com/sangmichaelxie/doremi, configs/), or under `train`, as in those of
    RegMix (github.com/sail-sg/regmix, mixture_config/). CSV: a header of groups and one row of weights, as
    RegMix lists mixtures, or a row `group,weight` for each group. Raises AssetError.
    """
    path = LocalAssets([directory]).locate(name)
    try:
        text = path.read_text(encoding="utf-8")
        found = _from_table(text) if path.suffix == ".csv" else _from_mapping(text, path.suffix)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise AssetError(f"{path}: holds no weights of a mix ({' '.join(str(error).split())})") from error
    return found


def weights_of(options: Mix, directory: Path) -> dict[str, float] | None:
    """Group: weight; of two columns by the names that their groups have together. Raises AssetError."""
    weights = options.weights
    if isinstance(weights, str):
        weights = read_weights(weights, directory)
    if weights is None or len(options.columns) == 1:
        return weights
    if not all(isinstance(inner, Mapping) for inner in weights.values()):
        raise AssetError(f"{options.weights}: groups of two columns have weights of weights")
    return {
        joined_name([outer, inner]): weight
        for outer, of_outer in weights.items()
        for inner, weight in of_outer.items()
    }


def _from_mapping(text: str, suffix: str) -> dict[str, Any]:
    value = json.loads(text) if suffix == ".json" else yaml.safe_load(text)
    if isinstance(value, dict):
        value = next((value[key] for key in _NAMED if isinstance(value.get(key), dict)), value)
    if not isinstance(value, dict):
        raise ValueError("not a mapping of groups to weights")
    return _checked(value)


def _from_table(text: str) -> dict[str, Any]:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if len(rows) == 2 and not (len(rows[0]) == 2 and _is_number(rows[0][1])):
        pairs = list(zip(rows[0], rows[1], strict=True))
    elif rows and all(len(row) == 2 for row in rows):
        pairs = [(row[0], row[1]) for row in (rows if _is_number(rows[0][1]) else rows[1:])]
    else:
        raise ValueError("neither one row of weights below a header of groups, nor a group and a weight each")
    named = {group: float(weight) for group, weight in pairs if group not in _INDEX}
    if len(named) < sum(group not in _INDEX for group, _ in pairs):
        raise ValueError("a group is there twice")
    return _checked(named)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _checked(weights: Mapping[Any, Any]) -> dict[str, Any]:
    """The weights above 0, at any depth."""
    kept: dict[str, Any] = {}
    for group, weight in weights.items():
        if isinstance(weight, Mapping):
            if inner := _checked(weight):
                kept[str(group)] = inner
        elif isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(f"the weight of {group} is {weight!r}, which is no number from 0 up")
        elif weight > 0:
            kept[str(group)] = float(weight)
    if not kept:
        raise ValueError("no group weighs anything")
    return kept
