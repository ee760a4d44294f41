"""The folder of a trained encoder: what goes into it, and that it appears whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from .heads import HEADS_FILE, SETTINGS_FILE
from .model import Encoder
from .reading import write_reading

WEIGHTS_FILE: Final = "model.safetensors"
_CONFIG_FILE: Final = "config.json"
# Of an encoder's folder these are what its tokenizer and its reading are told by.
_TOLD: Final = (".json", ".txt", ".model", ".jinja")
_HEADS: Final = (HEADS_FILE, SETTINGS_FILE)


@contextmanager
def finished(out: Path) -> Iterator[Path]:
    """A folder that takes the place of `out` in the end, unless there is an error.

    Raises ValueError where `out` is there and is not the folder of an encoder.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / _CONFIG_FILE).is_file())):
        raise ValueError(f"{out}: is there, and is no folder of an encoder; name another")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as place:
        folder = Path(place) / "new"
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(Path(place) / "old")
        folder.rename(out)


def copied_encoder(encoder: Encoder, start: Path, folder: Path) -> None:
    """The encoder's files as they are, but for heads that it had."""
    for file in sorted(start.iterdir()):
        if file.is_file() and file.suffix in (*_TOLD, ".safetensors") and file.name not in _HEADS:
            shutil.copyfile(file, folder / file.name)
    _write_reading(encoder, folder)


def saved_encoder(encoder: Encoder, start: str | None, folder: Path) -> None:
    """The encoder's weights as they are now, and the tokenizer that it began with."""
    others = (_CONFIG_FILE, *_HEADS)
    for file in sorted(Path(start).iterdir()) if start is not None else ():
        if file.is_file() and file.suffix in _TOLD and file.name not in others and "index" not in file.name:
            shutil.copyfile(file, folder / file.name)
    encoder.base.save_pretrained(str(folder))
    _write_reading(encoder, folder)


def _write_reading(encoder: Encoder, folder: Path) -> None:
    reading = replace(encoder.reading, max_tokens=encoder.tokenizer.max_tokens)
    write_reading(reading, folder, encoder.dimensions)
