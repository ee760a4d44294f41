"""Attention heads in a file: how much each of them retrieves, and which are masked."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ...schemas.contracts import AssetError
from .attention import HeadMask, Uniform

_HINT: Final = "`thresher train retrieval-heads` makes one"


def write_heads(
    path: Path, heads: Sequence[tuple[int, int]], scores: Sequence[Sequence[float]], told: Mapping[str, Any]
) -> None:
    """Writes the heads that are masked, as layer and number, and the score of every head, by layer.

    `told`: what else there is to know of them. The file appears whole.
    """
    lines = ",\n  ".join(json.dumps([round(score, 6) for score in layer]) for layer in scores)
    rest = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in told.items())
    content = f'{{\n{rest} "heads": {json.dumps(list(map(list, heads)))},\n "scores": [\n  {lines}\n ]\n}}\n'
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(content, "utf-8")
    part.replace(path)


def read_heads(path: Path, uniform: Uniform = "visible") -> HeadMask:
    """The heads of a file, which is `{"heads": [[layer, head], …]}` and may hold more.

    Raises AssetError where it is no such file or names no head.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        pairs = [(layer, head) for layer, head in content["heads"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AssetError(f"{path}: is no file of heads ({error}); {_HINT}") from error
    if not pairs or not all(type(number) is int for pair in pairs for number in pair):
        raise AssetError(f"{path}: names no head, or one that is not two numbers, [layer, head]; {_HINT}")
    found: dict[int, list[int]] = {}
    for layer, head in sorted(set(pairs)):
        found.setdefault(layer, []).append(head)
    return HeadMask(found, uniform)
