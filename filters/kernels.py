"""How this product compiles: one decorator for every numba kernel, and one cache that processes share.

Compiled code is kept in `$THRESHER_CACHE/numba`, else in the user's cache directory (`$XDG_CACHE_HOME` or
`~/.cache`, `~/Library/Caches`, `%LOCALAPPDATA%`, then `thresher/numba`), never beside the sources, which may
be read-only. Where no directory can be written, kernels are compiled anew by each process.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])

_lock = threading.Lock()
_digests: dict[int, str] = {}  # id of a compiled kernel -> digest of all that it was made of
_compiled: list[Any] = []  # keeps kernels alive, so that no id is used twice


def cache_directory() -> Path:
    """Where compiled kernels are kept; read from the environment at each call, and not created."""
    if chosen := os.environ.get("THRESHER_CACHE"):
        return Path(chosen).expanduser().absolute() / "numba"
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "thresher" / "numba"


def kernel(*signatures: str, **options: Any) -> Callable[[Function], Function]:
    """Compiles a function at import for each of `signatures` (numba's notation), or loads it from the cache.

    Kernels hold no lock on the interpreter, do not check bounds, and divide as C does (by zero: inf or nan).
    `options` are passed on to `numba.njit`. Several processes may start at once: entries are written whole
    and then renamed. numba itself looks at the kernel's own file only; here a change in a kernel that it
    calls, or in a constant that it takes from elsewhere, also makes a new entry.
    """

    def compile_(function: Function) -> Function:
        digest = _digest(function)
        settings: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy", **options}
        directory = cache_directory() / digest[:16]
        with _lock, _numba_cache(directory):
            settings["cache"] = _writable(directory)
            compiled = cast(Function, numba.njit(list(signatures), **settings)(function))
        _compiled.append(compiled)
        _digests[id(compiled)] = digest
        return compiled

    return compile_


@contextmanager
def _numba_cache(directory: Path) -> Iterator[None]:
    # numba takes the cache directory from its global configuration at the moment of decoration; other
    # packages' kernels must not follow ours, so the setting is put back.
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = str(directory)
    try:
        yield
    finally:
        config.CACHE_DIR = before


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError:
        return False
    return True


def _digest(function: Callable[..., Any]) -> str:
    """Digest of the module's source and of the kernels and constants that the code names."""
    made_of = [function.__module__, function.__qualname__, _source(function.__code__.co_filename)]
    for name in sorted(set(function.__code__.co_names)):
        made_of.append(f"{name}={_fingerprint(function.__globals__.get(name), function.__code__.co_names)}")
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()


def _fingerprint(value: Any, names: tuple[str, ...]) -> str:
    if id(value) in _digests:
        return _digests[id(value)]
    if isinstance(value, ModuleType):  # bytecode does not tell whose attribute a name is: take all of them
        used = (getattr(value, name, None) for name in sorted(set(names)))
        return ",".join(_digests.get(id(attribute), "") for attribute in used)
    if isinstance(value, bool | int | float | str | bytes | tuple | np.generic):
        return repr(value)
    if isinstance(value, np.ndarray):
        return hashlib.sha256(value.tobytes()).hexdigest()
    return ""


def _source(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:  # a function typed at a prompt
        return ""
