"""Where models lie on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ..schemas.contracts import AssetError, AssetRef

MODELS_VARIABLE: Final = "THRESHER_MODELS"
UNKNOWN_LICENCE: Final = "unknown"
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_PICKLE_SUFFIXES: Final = frozenset({".pkl", ".pickle", ".joblib", ".dill"})
# A pickle of protocol 2 or later begins with the opcode PROTO and the number of the protocol (pickletools).
_PICKLE_STARTS: Final = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
# What files with weights are called in the folders of Hugging Face, open_clip and PyTorch; safetensors holds
# no pickle.
_WEIGHT_SUFFIXES: Final = _PICKLE_SUFFIXES | {".bin", ".pt", ".pth", ".ckpt", ".th"}
# As the cards that `thresher train` writes beside a model state it.
_STATED: Final = re.compile(r"\bLicence: (.+?)\.(?:\s|$)")
# What the front matter of a data set's card has and that of a model's lacks (Hugging Face hub,
# DatasetCardData and ModelCardData of huggingface_hub).
_OF_DATA: Final = ("configs", "dataset_info", "size_categories", "task_categories")

# By path, size and time of change, so that a model of gigabytes is read once in a process.
_digests: dict[tuple[str, int, int], str] = {}


class LocalAssets:
    """Finds the files that plug-ins name: as an absolute path, beside the job file, or among the models.

    `search`: folders that a relative name is looked for in, in this order. After them come the folders in the
    environment variable THRESHER_MODELS, separated as in PATH. `obtain`: how to make or fetch what is
    missing, as a Scorer says it. Can be pickled.
    """

    def __init__(self, search: Sequence[str | Path] = (), obtain: str = "") -> None:
        self._search = tuple(Path(folder) for folder in search)
        self._obtain = obtain

    def locate(self, name: str) -> Path:
        """The path of the file (or folder) `name`.

        Raises AssetError if it is nowhere, is a URL, cannot be read, or holds a pickle, of a folder in any
        file that is called as weights are: loading one runs code.
        """
        if _URL.match(name):
            raise AssetError(f"{name}: a model is read from a local file; download it and write its path")
        places = self._places(name)
        path = next((place for place in places if _exists(place)), None)
        if path is None:
            looked = ", ".join(str(place) for place in places) or "nowhere"
            raise AssetError(
                f"no model file {name!r}; looked for {looked}. Put it beside the job file, or name its "
                f"folder in the environment variable {MODELS_VARIABLE}; "
                f"{self._obtain or '`thresher train --help` lists the models that thresher makes'}"
            )
        try:
            _refuse_pickles(path)
        except OSError as error:
            raise AssetError(f"{path}: cannot be read ({error.strerror or error})") from error
        return path

    def describe(self, name: str, licence: str | None = None) -> AssetRef:
        """The asset with its SHA-256, which enters fingerprints, and its licence, by default the one that its
        card states. Raises AssetError as `locate` does.

        A folder's checksum is that of its files' paths and checksums in the order of the paths.
        """
        path = self.locate(name)
        return AssetRef(str(path), checksum(path), licence or stated_licence(path))

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


def stated_licence(path: Path) -> str:
    """The licence that the card of a model states, "unknown" where none does.

    That is `NAME.md` beside it, as `thresher train` writes it; else README.md in the model's folder, in whose
    front matter the Hugging Face hub has `license`. The card of a data set there is not the model's.
    """
    cards = [path.with_name(f"{path.name}.md"), (path if path.is_dir() else path.parent) / "README.md"]
    for card in cards:
        try:
            text = card.read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        stated = _STATED.search(text) if card == cards[0] else None
        licence = stated[1] if stated else _in_front_matter(text)
        if licence:
            return licence
    return UNKNOWN_LICENCE


def _in_front_matter(card: str) -> str:
    import yaml

    if not card.startswith("---\n"):
        return ""
    try:
        fields = yaml.safe_load(card[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return ""
    if not isinstance(fields, dict) or any(key in fields for key in _OF_DATA):
        return ""
    licence = fields.get("license", "")
    named = fields.get("license_name") if licence == "other" else None
    return ", ".join(map(str, licence)) if isinstance(licence, list) else str(named or licence or "")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL byte
        return False


def _refuse_pickles(path: Path) -> None:
    if not path.is_dir():
        _refuse_pickle(path, "")
        return
    for member in _weights(path):
        if any(other.suffix == ".safetensors" for other in member.parent.iterdir()):
            _refuse_pickle(member, "; remove it from the folder, where safetensors are too")
        else:
            _refuse_pickle(member, "")


def _weights(folder: Path) -> Iterator[Path]:
    """The files below a folder that are called as weights are."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if Path(name).suffix.lower() in _WEIGHT_SUFFIXES)


def _refuse_pickle(path: Path, instead: str) -> None:
    with path.open("rb") as file:
        start = file.read(2)
    pickled = path.suffix.lower() in _PICKLE_SUFFIXES or start in _PICKLE_STARTS
    if start == b"PK" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            pickled |= any(name.endswith(".pkl") for name in archive.namelist())
    if pickled:
        told = instead or (
            "; convert the weights to safetensors where you trust the file, and name that instead"
        )
        raise AssetError(f"{path}: holds a Python pickle, and loading a pickle runs the code in it{told}")
