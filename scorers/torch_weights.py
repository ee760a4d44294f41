"""Weights of torch models from files of safetensors: whole, and those of the architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ..schemas.contracts import AssetError

_TOLD: Final = 3  # of the names or shapes that do not fit


def load_whole(weights: Path, name: str, load: Callable[[str], Any]) -> None:
    """Calls `load` with the path of a file of weights for the architecture `name`.

    `load` returns the names of tensors that are missing and those that are unexpected, as torch's
    load_state_dict does. Raises AssetError where there are any, where shapes differ, or where the file is
    none of safetensors.
    """
    from safetensors import SafetensorError

    if weights.suffix != ".safetensors":
        raise AssetError(f"{weights}: weights are read from a file of safetensors, whose name ends so")
    other = f"{weights}: is not of the architecture {name}"
    try:
        missing, unexpected = load(str(weights))
    except SafetensorError as error:
        raise AssetError(f"{weights}: is no file of safetensors ({error})") from error
    except (RuntimeError, AssertionError) as error:
        shapes = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        told = "; ".join(shapes[:_TOLD]) or str(error).partition("\n")[0]
        raise AssetError(f"{other}: {told}") from error
    faults = [_listed(verb, names) for verb, names in (("lacks", missing), ("also has", unexpected)) if names]
    if faults:
        raise AssetError(f"{other}: it {' and '.join(faults)}")


def _listed(verb: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return f"{verb} {', '.join(sorted(names)[:_TOLD])}{more}"
