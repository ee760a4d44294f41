"""Brings a finished output into a store: verified file by file, the manifest last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Final

from ..schemas.progress import Listener
from .ingest import JobRefused
from .output_directory import CARD, MANIFEST, OWN_FILE, OWN_NAMES, in_the_way, is_our_card
from .sinks import FORMATS
from .sources.patience import Patience
from .storage import RemotePath, StorageError
from .store import UNFINISHED

# Says that an output is being replaced, by whom, and which files the one before it had.
CLAIM: Final = "unfinished.json"
_AT_ONCE: Final = 8


class Upload:
    """Makes a remote folder hold what a local one does.

    A store moves nothing and promises no order between files, so the output is replaced in steps each of
    which leaves something that can be told from a whole: the claim is written, which only one run gets; the
    manifest is removed; files are sent, unless the store holds them already, and compared; those that only
    the earlier output had are removed; the manifest is written; the claim is removed. A run that was cut off
    goes on under its own claim. `owner` names the run, and stays the same when it is resumed.
    """

    def __init__(self, folder: RemotePath, owner: str) -> None:
        self._folder, self._owner = folder, owner

    def check(self) -> None:
        """Raises JobRefused where another run is writing, or a file that no run wrote is in the way."""
        claim = self._claim()
        if claim is not None:
            if claim.get("run") != self._owner:
                raise JobRefused(
                    f"{self._folder / CLAIM} says that another run writes to this output, or was cut off "
                    "while it did; if none is at work, remove that file, or name another output.path"
                )
            return
        if _shards_of(_read_json(self._folder / MANIFEST)) is not None:
            return
        # Asked for one by one, as a listing may leave out what is new; it can only add to them.
        first = [f"shard-00000{suffix}{more}" for suffix, by in FORMATS.values() for more in set(by.values())]
        single = [name for name in OWN_NAMES if "." in name]
        taken = [name for name in (*single, *first) if (self._folder / name).is_file()]
        taken += [name for name in self._folder.names() if OWN_FILE.fullmatch(name) and name != CARD]
        if taken:
            raise JobRefused(in_the_way(self._folder / taken[0]))

    def run(self, source: Path, listener: Listener) -> None:
        """Uploads the finished output in `source`. Raises JobRefused as `check` does, and StorageError."""
        files = sorted(_files(source))
        sizes = {name: (source / name).stat().st_size for name in files}
        listener.stage_started("upload", len(files), 0, sum(sizes.values()))
        self.check()
        if not self._is_there(source, files):
            earlier = self._take(files)
            (self._folder / MANIFEST).remove()
            others = [name for name in files if name != MANIFEST]
            for name in self._send_all(source, others):
                listener.task_done("upload", 0, 0, sizes[name])
            for name in sorted({*earlier, *self._folder.names()} - {*files}):
                if OWN_FILE.fullmatch(name) and (name != CARD or self._has_our_card()):
                    (self._folder / name).remove()
            if not (self._folder / MANIFEST).create((source / MANIFEST).read_bytes()):
                raise JobRefused(f"{self._folder / MANIFEST}: another run has written it meanwhile")
            self._send(source, MANIFEST)
            (self._folder / CLAIM).remove()
            listener.task_done("upload", 0, 0, sizes[MANIFEST])
        listener.stage_finished("upload")

    def _is_there(self, source: Path, files: list[str]) -> bool:
        """Whether an earlier run has left exactly this, so that nobody needs to be disturbed."""
        if self._claim() is not None or not (self._folder / MANIFEST).holds(source / MANIFEST):
            return False
        with ThreadPoolExecutor(_AT_ONCE, "thresher-compare") as pool:
            return all(pool.map(lambda name: (self._folder / name).holds(source / name), files))

    def _take(self, files: Sequence[str]) -> list[str]:
        """Claims the output; returns the files that were there before, or that an attempt may have left."""
        claim = self._claim()
        if claim is not None:
            left = [str(name) for name in claim.get("files", [])]
            if not {*files} <= {*left}:
                (self._folder / CLAIM).write_bytes(self._claiming({*left, *files}))
            return left
        manifest = _read_json(self._folder / MANIFEST)
        shards = [str(shard.get("path")) for shard in _shards_of(manifest) or []]
        others = manifest.get("files", []) if isinstance(manifest, dict) else []
        earlier = {*shards, *(str(name) for name in others)}
        if not (self._folder / CLAIM).create(self._claiming({*earlier, *files})):
            self.check()
        return sorted(earlier)

    def _claiming(self, files: Iterable[str]) -> bytes:
        return json.dumps({"run": self._owner, "files": sorted(files)}, indent=1).encode() + b"\n"

    def _has_our_card(self) -> bool:
        card = self._folder / CARD
        return card.is_file() and is_our_card(card.read_bytes())

    def _send_all(self, source: Path, names: Iterable[str]) -> Iterator[str]:
        pool = ThreadPoolExecutor(_AT_ONCE, "thresher-upload")
        try:
            for future in as_completed([pool.submit(self._send, source, name) for name in names]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _send(self, source: Path, name: str) -> str:
        target = self._folder / name
        for _ in range(Patience.from_environment().attempts):
            if target.holds(source / name):
                return name
            target.put(source / name)
        if target.holds(source / name):
            return name
        raise StorageError(str(target), "what is there is not what was sent; is someone else writing?")

    def _claim(self) -> dict[str, Any] | None:
        claim = _read_json(self._folder / CLAIM)
        return None if claim is None else claim if isinstance(claim, dict) else {}


def _files(source: Path) -> Iterator[str]:
    for path in source.rglob("*"):
        name = path.relative_to(source).as_posix()
        if path.is_file() and not path.name.startswith(UNFINISHED) and not name.startswith("limit-"):
            yield name


def _read_json(path: RemotePath) -> Any:
    """The value in a file, {} where it is no JSON, None where there is no file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def _shards_of(manifest: Any) -> list[dict[str, Any]] | None:
    """The shards of a manifest; None where it is none of ours."""
    shards = manifest.get("shards") if isinstance(manifest, dict) else None
    if isinstance(shards, list) and all(isinstance(shard, dict) for shard in shards):
        return shards
    return None
