"""What an output consists of: shards, ledger, containers, job and manifest; and a folder that holds one."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from ..schemas.job import Job
from ..schemas.plain_yaml import write_yaml
from ..schemas.progress import Listener
from ..schemas.records import CONTAINERS
from ..scorers.assets import LocalAssets
from .ingest import JobRefused
from .row_groups import RowGroups
from .scratch import scratch
from .sinks import suffix_of
from .sinks.datacomp import SUBSET
from .sinks.embedding_files import EMBEDDING_FILE, EMBEDDING_FOLDERS, path_of, with_dimensions
from .stage import Committed, StreamRef
from .steps.subset import REPEATED_UIDS
from .steps.writing import DIMENSIONS, LANGUAGE, MISSING, SHARD, TOKENS
from .storage import Place, place
from .store import (
    UNFINISHED,
    alone,
    at_hand,
    bring,
    is_same,
    open_parquet,
    remove,
    sync_directory,
    write_whole,
)
from .subset import write_subset

MANIFEST: Final = "manifest.json"
RESOLVED: Final = "job.yaml"
REPORT: Final = "report.md"
CARD: Final = "README.md"
CONTAINER_LIST: Final = "containers.parquet"
LOCK: Final = ".publishing"
# The first line of text in every card of ours; a README without it is somebody's own.
CARD_MARK: Final = "<!-- Written by thresher; a run replaces this file unless output.card is false. -->"

# Of a shard, or of a file that goes with one.
SHARD_NAME: Final = re.compile(r"shard-\d{5,}\.(parquet|jsonl(\.gz|\.zst)?|tar|idx)")
OWN_NAMES: Final = (MANIFEST, RESOLVED, REPORT, CONTAINER_LIST, SUBSET, "ledger", "keys", "downloads")
# Every file that an output may consist of.
OWN_FILE: Final = re.compile(
    rf"{SHARD_NAME.pattern}|subset\.npy|manifest\.json|job\.yaml|report\.md|README\.md|containers\.parquet"
    rf"|{EMBEDDING_FILE.pattern}"
    r"|(ledger|downloads)/part-\d{5,}\.parquet|keys/[^/]+/(scheme\.json|part-\d{5,}\.parquet)"
)

# What only says where and how wide a job ran: its output is the same, so it is left out of it.
_WHERE: Final = ("engine", "workers", "directory", "min_free", "ray", "beam")
_WHERE_OF_STEP: Final = ("on", "resources")
_AT_ONCE: Final = 8

Contents = Mapping[str, Place | bytes]  # the files of an output by name: where each lies now, or its bytes
Describe = Callable[[Mapping[str, Any]], Mapping[str, bytes]]  # more files, told from the manifest


@dataclass(frozen=True)
class File:
    """A file that goes with a shard: its index, its table."""

    path: str  # relative to the output directory
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """One file of the final output that holds records, and the files that go with it."""

    path: str  # relative to the output directory
    records: int
    bytes: int
    sha256: str
    tokens: int | None = None  # where the job counts them
    sidecars: Sequence[File] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}


@dataclass(frozen=True)
class Whole:
    """An output put together: its files, its manifest, and the shards among them."""

    contents: Contents
    manifest: Mapping[str, Any]
    shards: Sequence[Shard]


def put_together(
    job: Job,
    shards: Sequence[Committed],
    ledgers: Sequence[Committed],
    containers: Sequence[str],
    totals: Mapping[str, Any],
    more: Contents,
    describe: Describe | None = None,
) -> Whole:
    """The output of a job whose stages have ended; nothing is written but, into the scratch folder, what is
    put together of several files.

    `more`: files that steps leave beside the shards.
    """
    # A record larger than a shard leaves the next ones empty.
    full = [committed for committed in shards if committed.streams[SHARD].rows] or shards[:1]
    written, contents = _subset(shards) if job.output.format == "datacomp" else _shards(job, full)
    for committed in ledgers:
        contents[f"ledger/part-{committed.task:05d}.parquet"] = place(committed.streams["rows"].path)
    contents |= {CONTAINER_LIST: _list_containers(containers), RESOLVED: _resolved(job)}
    contents |= {name: found if isinstance(found, bytes) else place(found) for name, found in more.items()}
    manifest: dict[str, Any] = {
        "name": job.name,
        "shards": [shard.as_dict() for shard in written],
        "files": [],
        "totals": {**totals, **_figures(shards, written)},
        **_tokenizer(job),
    }
    contents |= describe(manifest) if describe is not None else {}
    manifest["files"] = sorted(contents.keys() - {shard.path for shard in written})
    contents[MANIFEST] = json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n"
    return Whole(contents, manifest, written)


def _shards(job: Job, commits: Sequence[Committed]) -> tuple[list[Shard], dict[str, Place | bytes]]:
    """The shards with their files, and where each of these lies now."""
    assert job.output.compression is not None
    suffix = suffix_of(job.output.format, job.output.compression)
    counted = tokenizer_of(job) is not None
    shards = []
    told = _embeddings_of_nobody(commits)
    contents: dict[str, Place | bytes] = {}
    for number, committed in enumerate(commits):
        files = []
        for stream, ref in committed.streams.items():
            beside = path_of(stream, number)
            if beside is None and not stream.startswith(SHARD):
                continue
            name = beside or f"shard-{number:05d}{suffix if stream == SHARD else stream.removeprefix(SHARD)}"
            ref = told.get((number, stream), ref)
            contents[name] = place(ref.path)
            if stream != SHARD:
                files.append(File(name, ref.bytes, ref.checksum))
        shard = committed.streams[SHARD]
        tokens = committed.accounts["figures"].get(TOKENS, 0) if counted else None
        path = f"shard-{number:05d}{suffix}"
        shards.append(Shard(path, shard.rows, shard.bytes, shard.checksum, tokens, tuple(files)))
    return shards, contents


def _embeddings_of_nobody(commits: Sequence[Committed]) -> dict[tuple[int, str], StreamRef]:
    """The embedding files of shards in which no record has any, by number and stream, with as many
    dimensions as those of the others have. Raises ValueError where these differ."""
    found = [
        {
            name.removeprefix(DIMENSIONS): count
            for name, count in committed.accounts["figures"].items()
            if name.startswith(DIMENSIONS)
        }
        for committed in commits
    ]
    dimensions: dict[str, int] = {}
    for name, count in (pair for figures in found for pair in figures.items() if pair[1]):
        if dimensions.setdefault(name, count) != count:
            told = f"{name} has {count} dimensions in some shards, {dimensions[name]} in others"
            raise ValueError(f"output.embeddings: {told}")
    again: dict[tuple[int, str], StreamRef] = {}
    for number, (figures, committed) in enumerate(zip(found, commits, strict=True)):
        lacking = {name for name, count in figures.items() if not count and dimensions.get(name)}
        for stream, ref in committed.streams.items():
            if lacking and (stream.endswith(".npz") or lacking & set(stream.split("."))):
                with at_hand(ref.path) as file:
                    again[number, stream] = with_dimensions(stream, file, dimensions)
    return again


def _subset(commits: Sequence[Committed]) -> tuple[list[Shard], dict[str, Place | bytes]]:
    """The same where the output is one file of uids."""
    written = write_subset(commits)
    return [Shard(SUBSET, written.records, written.bytes, written.sha256)], {SUBSET: Path(written.path)}


def _resolved(job: Job) -> bytes:
    resolved = job.resolved()
    resolved["run"] = _without(resolved["run"], _WHERE)
    for owner in (resolved, *resolved["input"]):
        owner["steps"] = [_without(step, _WHERE_OF_STEP) for step in owner["steps"]]
    return write_yaml(resolved).encode()


def _without(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _list_containers(paths: Sequence[str]) -> Path:
    found = scratch() / f"{uuid.uuid4().hex}-{CONTAINER_LIST}"
    groups = RowGroups(CONTAINERS)
    with pq.ParquetWriter(found, CONTAINERS) as writer:
        for path in paths:
            with open_parquet(path) as source:
                for batch in source.iter_batches():
                    for group in groups.add(batch.cast(CONTAINERS)):
                        writer.write_table(group)
        for group in groups.rest():
            writer.write_table(group)
    return found


class OutputDirectory:
    """A local folder that is made to hold an output; the manifest comes last, and makes it one whole.

    `work` is the work directory, where a run begins by writing down its sources.
    """

    def __init__(self, path: Path, work: Place, run: str) -> None:
        self._path, self._work, self._run = path, work, run

    def check(self) -> None:
        """Raises JobRefused where a file that no run wrote has a name that this run would write to."""
        try:
            json.loads((self._path / MANIFEST).read_bytes())["shards"]
        except (OSError, ValueError, TypeError, KeyError):
            taken = [name for name in OWN_NAMES if (self._path / name).exists()]
            taken += [path.name for path in self._path.glob("shard-*") if SHARD_NAME.fullmatch(path.name)]
            taken += [name for name in self._embedding_files() if EMBEDDING_FILE.fullmatch(name)]
            # Of a job that has begun here, they may be what it left when it was killed, or is writing now.
            if taken and not (self._work / "sources.json").is_file():
                raise JobRefused(in_the_way(self._path / taken[0])) from None

    def publish(self, contents: Contents, listener: Listener) -> None:
        """Makes the folder hold this output and nothing of an earlier one; waits for others who do the same.

        A folder that holds just this is left as it is.
        """
        told = f"{self._path}: another run is publishing here; waiting for it"
        with alone(self._path / LOCK, lambda: listener.note(told)):
            for path in self._files(f"{UNFINISHED}*"):
                path.unlink(missing_ok=True)  # nobody else writes here now
            if is_same(self._path / MANIFEST, contents[MANIFEST]) and not self._differing(contents):
                return
            remove(self._path / MANIFEST)
            sync_directory(self._path)
            self._place(contents)
            self._remove_strays(contents)
            for folder in {self._path, *(path.parent for path in self._files("*"))}:
                sync_directory(folder)
            self._write(MANIFEST, contents[MANIFEST])

    def _differing(self, contents: Contents) -> list[str]:
        with ThreadPoolExecutor(_AT_ONCE, "thresher-compare") as pool:
            same = pool.map(lambda name: is_same(self._path / name, contents[name]), contents)
            return [name for name, is_there in zip(contents, same, strict=True) if not is_there]

    def _place(self, contents: Contents) -> None:
        names = [name for name in self._differing(contents) if name != MANIFEST]
        pool = ThreadPoolExecutor(_AT_ONCE, "thresher-publish")
        try:
            for _ in pool.map(lambda name: self._write(name, contents[name]), names):
                pass
        finally:
            pool.shutdown(cancel_futures=True)

    def _write(self, name: str, source: Place | bytes) -> None:
        target = self._path / name
        if isinstance(source, bytes):
            write_whole(target, source, self._run)
        else:
            bring(source, target, self._run)

    def _remove_strays(self, contents: Contents) -> None:
        """Files of an earlier output that this one has not replaced."""
        for path in self._files("*"):
            name = path.relative_to(self._path).as_posix()
            ours = name != CARD or is_our_card(path.read_bytes())
            if name not in contents and OWN_FILE.fullmatch(name) and ours:
                path.unlink()
        folders = (self._path / name for name in ("keys", "ledger", "downloads"))
        for folder in (*self._path.glob("keys/*"), *folders, *self._embedding_folders()):
            with suppress(OSError):  # not empty, or not there
                folder.rmdir()

    def _files(self, pattern: str) -> Iterator[Path]:
        """The files that an output may have; a work directory may lie beside them."""
        folders = (self._path / name for name in ("", "ledger", "downloads"))
        for folder in (*folders, *self._path.glob("keys/*"), *self._embedding_folders()):
            yield from (path for path in folder.glob(pattern) if path.is_file())

    def _embedding_folders(self) -> list[Path]:
        return [folder for name in EMBEDDING_FOLDERS for folder in self._path.glob(name) if folder.is_dir()]

    def _embedding_files(self) -> Iterator[str]:
        for folder in self._embedding_folders():
            yield from (path.relative_to(self._path).as_posix() for path in folder.iterdir())


def in_the_way(taken: object) -> str:
    """What to tell of a file that a run would overwrite and that no run has written."""
    return (
        f"{taken} is in the way: a run writes a file of that name, and nothing says that a run wrote this "
        "one; move it, or name another output.path"
    )


def is_our_card(content: bytes) -> bool:
    """Whether a README is a card that a run has written."""
    return CARD_MARK.encode() in content


def tokenizer_of(job: Job) -> str | None:
    """The tokenizer by which the output is counted: `output.tokenizer`, else that of the job's last step
    that counts tokens; None where neither is there."""
    if job.output.tokenizer:
        return job.output.tokenizer
    steps = [*(step for source in job.input for step in source.steps), *job.steps]
    named = [value.get("tokenizer") for step in steps for value in step.model_dump(mode="json").values()
             if isinstance(value, dict)]  # fmt: skip
    return next((str(name) for name in reversed(named) if name), None)


def tokenizer_digest(job: Job) -> str:
    """The SHA-256 of that tokenizer. Raises AssetError where it is missing."""
    name = tokenizer_of(job)
    return LocalAssets([job.run.directory or "."]).describe(name).sha256 if name else ""


def _tokenizer(job: Job) -> dict[str, Any]:
    name = tokenizer_of(job)
    return {"tokenizer": {"name": Path(name).name, "sha256": tokenizer_digest(job)}} if name else {}


def _figures(commits: Sequence[Committed], shards: Sequence[Shard]) -> dict[str, Any]:
    """Tokens, languages, missing embeddings and repeated uids of what was written, as far as known."""
    languages: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    figures: dict[str, Any] = {}
    for committed in commits:
        for name, count in committed.accounts["figures"].items():
            if name.startswith(LANGUAGE):
                languages[name.removeprefix(LANGUAGE)] += count
            if name == REPEATED_UIDS:
                figures[name] = figures.get(name, 0) + count
            if name.startswith(MISSING) and count:
                missing[name.removeprefix(MISSING)] += count
    if any(shard.tokens is not None for shard in shards):
        figures["tokens"] = sum(shard.tokens or 0 for shard in shards)
    if missing:
        figures["missing_embeddings"] = dict(sorted(missing.items()))
    if languages:
        figures["languages"] = dict(sorted(languages.items(), key=lambda pair: (-pair[1], pair[0])))
    return figures
