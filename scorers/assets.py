"""Where models lie on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..schemas.contracts import AssetError, AssetRef

MODELS_VARIABLE: Final = "THRESHER_MODELS"
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_PICKLE_SUFFIXES: Final = frozenset({".pkl", ".pickle", ".joblib", ".dill"})
# A pickle of protocol 2 or later begins with the opcode PROTO and the number of the protocol (pickletools).
_PICKLE_STARTS: Final = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))

# By path, size and time of change, so that a model of gigabytes is read once in a process.
_digests: dict[tuple[str, int, int], str] = {}


class LocalAssets:
    """Finds the files that plug-ins name: as an absolute path, beside the job file, or among the models.

    `search`: folders that a relative name is looked for in, in this order. After them come the folders in the
    environment variable THRESHER_MODELS, separated as in PATH. Can be pickled.
    """

    def __init__(self, search: Sequence[str | Path] = ()) -> None:
        self._search = tuple(Path(folder) for folder in search)

    def locate(self, name: str) -> Path:
        """The path of the file (or folder) `name`.

        Raises AssetError if it is nowhere, is a URL, cannot be read, or holds a pickle: loading one runs
        code.
        """
        if _URL.match(name):
            raise AssetError(f"{name}: a model is read from a local file; download it and write its path")
        places = self._places(name)
        path = next((place for place in places if _exists(place)), None)
        if path is None:
            looked = ", ".join(str(place) for place in places) or "nowhere"
            raise AssetError(
                f"no model file {name!r}; looked for {looked}. Put it beside the job file, or name its "
                f"folder in the environment variable {MODELS_VARIABLE}; `thresher train` makes one"
            )
        try:
            _refuse_pickle(path)
        except OSError as error:
            raise AssetError(f"{path}: cannot be read ({error.strerror or error})") from error
        return path

    def describe(self, name: str, licence: str = "unknown") -> AssetRef:
        """The asset with its SHA-256, which enters fingerprints. Raises AssetError as `locate` does.

        A folder's checksum is that of its files' paths and checksums in the order of the paths.
        """
        path = self.locate(name)
        return AssetRef(str(path), checksum(path), licence)

    def _places(self, name: str) -> list[Path]:
        path = Path(name).expanduser()
        if path.is_absolute():
            return [path]
        folders = os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)
        search = [*self._search, *(Path(folder).expanduser() for folder in folders if folder)]
        return list(dict.fromkeys(folder / path for folder in search or [Path()]))


def checksum(path: Path) -> str:
    """The SHA-256 of a file, or of a folder's files, in hexadecimal."""
    if path.is_dir():
        digest = hashlib.sha256()
        for member in sorted(member for member in path.rglob("*") if member.is_file()):
            digest.update(f"{member.relative_to(path).as_posix()}\0{checksum(member)}\n".encode())
        return digest.hexdigest()
    status = path.stat()
    key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]


def listing(path: Path) -> str:
    """The SHA-256, in hexadecimal, of the names, sizes and times of a folder's files; of a file its own."""
    if not path.is_dir():
        return checksum(path)
    digest = hashlib.sha256()
    for member in sorted(member for member in path.rglob("*") if member.is_file()):
        status = member.stat()
        told = f"{member.relative_to(path).as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(told.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL byte
        return False


def _refuse_pickle(path: Path) -> None:
    if path.is_dir():
        return
    with path.open("rb") as file:
        start = file.read(2)
    pickled = path.suffix.lower() in _PICKLE_SUFFIXES or start in _PICKLE_STARTS
    if start == b"PK" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            pickled |= any(name.endswith(".pkl") for name in archive.namelist())
    if pickled:
        raise AssetError(
            f"{path}: holds a Python pickle, and loading a pickle runs the code in it; convert the weights "
            "to safetensors where you trust the file, and name that instead"
        )
