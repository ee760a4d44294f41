"""Brings an output into a store: verified file by file, the manifest last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

from ..schemas.progress import Listener
from .ingest import JobRefused
from .output_directory import CARD, MANIFEST, OWN_FILE, OWN_NAMES, Contents, in_the_way, is_our_card
from .sinks import FORMATS
from .sources.patience import Patience
from .storage import Place, RemotePath, StorageError
from .store import alone, at_hand

# Says that an output is being replaced, by whom and by what, and which files the one before it had.
CLAIM: Final = "unfinished.json"
_AT_ONCE: Final = 8


class Upload:
    """A remote folder that is made to hold an output.

    A store moves nothing and promises no order between files, so the output is replaced in steps each of
    which leaves something that can be told from a whole: the claim is written, which only one run gets; the
    manifest is removed, unless all of this output is there already; files are sent, or copied by the store
    where it has them elsewhere, and compared; those that only the earlier output had are removed; the
    manifest is written; the claim is removed. A run that was cut off goes on under its own claim.

    `owner` names the work directory, and so stays the same when a run is resumed: two runs at work there, who
    bring the same, share a claim, and neither removes what the other has finished. `lock` is a file of this
    machine by which they take turns, where the work directory is here too.
    """

    def __init__(self, folder: RemotePath, owner: str, lock: Path | None = None) -> None:
        self._folder, self._owner, self._lock = folder, owner, lock

    def check(self) -> None:
        """Raises JobRefused where another run is writing, or a file that no run wrote is in the way."""
        if self._is_ours():
            return
        # Asked for one by one, as a listing may leave out what is new; it can only add to them.
        suffixes = {suffix + more for suffix, by in FORMATS.values() for more in by.values()} | {".idx"}
        first = [f"shard-00000{suffix}" for suffix in sorted(suffixes)]
        single = [name for name in OWN_NAMES if "." in name]
        taken = [name for name in (*single, *first) if (self._folder / name).is_file()]
        taken += [name for name in self._folder.names() if OWN_FILE.fullmatch(name) and name != CARD]
        # Another run of this work directory may have begun to publish since.
        if taken and not self._is_ours():
            raise JobRefused(in_the_way(self._folder / taken[0]))

    def _is_ours(self) -> bool:
        """Whether this run has claimed the folder, or a finished output lies there."""
        claim = self._claim()
        if claim is None:
            return _shards_of(_read_json(self._folder / MANIFEST)) is not None
        if claim.get("run") != self._owner:
            raise JobRefused(
                f"{self._folder / CLAIM} says that another run writes to this output, or was cut off "
                "while it did; if none is at work, remove that file, or name another output.path"
            )
        return True

    def publish(self, contents: Contents, listener: Listener) -> None:
        """Makes the folder hold this output and nothing of an earlier one. Raises JobRefused as `check` does,
        and StorageError."""
        told = f"{self._folder}: another run is publishing here; waiting for it"
        turn = alone(self._lock, lambda: listener.note(told)) if self._lock is not None else nullcontext()
        with turn:
            self._publish(contents, listener)

    def _publish(self, contents: Contents, listener: Listener) -> None:
        sizes = {name: _size(source) for name, source in contents.items()}
        listener.stage_started("upload", len(contents), 0, sum(sizes.values()))
        self.check()
        if self._claim() is not None or not self._is_there(contents):
            earlier = self._take(contents)
            self._remove_manifest(contents)
            for name in self._send_all(contents):
                listener.task_done("upload", 0, 0, sizes[name])
            for name in sorted({*earlier, *self._folder.names()} - contents.keys()):
                if OWN_FILE.fullmatch(name) and (name != CARD or self._has_our_card()):
                    (self._folder / name).remove()
            self._finish(contents)
            listener.task_done("upload", 0, 0, sizes[MANIFEST])
        listener.stage_finished("upload")

    def _is_there(self, contents: Contents) -> bool:
        """Whether exactly this is in its place."""
        if not (self._folder / MANIFEST).holds(contents[MANIFEST]):
            return False
        with ThreadPoolExecutor(_AT_ONCE, "thresher-compare") as pool:
            return all(pool.map(lambda name: (self._folder / name).holds(contents[name]), contents))

    def _take(self, contents: Contents) -> list[str]:
        """Claims the output; returns the files that were there before, or that an attempt may have left."""
        while True:
            claim = self._claim()
            if claim is not None:
                left = [str(name) for name in claim.get("files", [])]
                if not {*contents} <= {*left} or claim.get("manifest") != _digest(contents):
                    (self._folder / CLAIM).write_bytes(self._claiming(contents, {*left, *contents}))
                return left
            manifest = _read_json(self._folder / MANIFEST)
            shards = [str(shard.get("path")) for shard in _shards_of(manifest) or []]
            others = manifest.get("files", []) if isinstance(manifest, dict) else []
            earlier = {*shards, *(str(name) for name in others)}
            if (self._folder / CLAIM).create(self._claiming(contents, {*earlier, *contents})):
                return sorted(earlier)
            self.check()

    def _claiming(self, contents: Contents, files: Iterable[str]) -> bytes:
        claim = {"run": self._owner, "manifest": _digest(contents), "files": sorted(files)}
        return json.dumps(claim, indent=1).encode() + b"\n"

    def _remove_manifest(self, contents: Contents) -> None:
        """Removes the manifest of another output; what who shares the claim has finished stays as it is."""
        manifest = self._folder / MANIFEST
        while (tag := manifest.tag()) is not None:
            if self._is_there(contents) or manifest.remove(tag):
                return

    def _finish(self, contents: Contents) -> None:
        tag, claim = (self._folder / CLAIM).tag(), self._claim()
        wanted = {"run": self._owner, "manifest": _digest(contents)}
        if claim is not None and {key: claim.get(key) for key in wanted} != wanted:
            raise JobRefused(
                f"{self._folder / CLAIM}: another run has begun to replace this output meanwhile"
            )
        if not (self._folder / MANIFEST).create(_bytes(contents[MANIFEST])):
            raise JobRefused(f"{self._folder / MANIFEST}: another run has written it meanwhile")
        self._send(MANIFEST, contents[MANIFEST])
        if tag is not None:  # else who shares the claim has finished, and whatever is there is not ours
            (self._folder / CLAIM).remove(tag)

    def _has_our_card(self) -> bool:
        card = self._folder / CARD
        return card.is_file() and is_our_card(card.read_bytes())

    def _send_all(self, contents: Contents) -> Iterator[str]:
        pool = ThreadPoolExecutor(_AT_ONCE, "thresher-upload")
        others = [(name, source) for name, source in sorted(contents.items()) if name != MANIFEST]
        try:
            for future in as_completed([pool.submit(self._send, *other) for other in others]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _send(self, name: str, source: Place | bytes) -> str:
        target = self._folder / name
        for _ in range(Patience.from_environment().attempts):
            if target.holds(source):
                return name
            if isinstance(source, bytes):
                target.write_bytes(source)
            elif isinstance(source, RemotePath) and target.is_beside(source):
                target.copy(source)
            else:
                with at_hand(str(source)) as file:
                    target.put(file)
        if target.holds(source):
            return name
        raise StorageError(str(target), "what is there is not what was sent; is someone else writing?")

    def _claim(self) -> dict[str, Any] | None:
        claim = _read_json(self._folder / CLAIM)
        return None if claim is None else claim if isinstance(claim, dict) else {}


def _size(source: Place | bytes) -> int:
    """The bytes that this machine has to send; what lies in a store is none of its work."""
    if isinstance(source, bytes):
        return len(source)
    return 0 if isinstance(source, RemotePath) else source.stat().st_size


def _bytes(source: Place | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _digest(contents: Contents) -> str:
    return hashlib.sha256(_bytes(contents[MANIFEST])).hexdigest()


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
