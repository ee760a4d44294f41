"""The folder of a job's results: shards, ledger, containers, the resolved job, and the manifest."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ..schemas.job import Job
from ..schemas.plain_yaml import write_yaml
from ..schemas.records import CONTAINERS
from ..scorers.assets import LocalAssets
from .ingest import JobRefused
from .sinks import suffix_of
from .stage import Committed, StreamRef
from .steps.writing import LANGUAGE, TOKENS
from .store import publish, unfinished

MANIFEST: Final = "manifest.json"
RESOLVED: Final = "job.yaml"
REPORT: Final = "report.md"
CARD: Final = "README.md"
CONTAINER_LIST: Final = "containers.parquet"
# The first line of text in every card of ours; a README without it is somebody's own.
CARD_MARK: Final = "<!-- Written by thresher; a run replaces this file unless output.card is false. -->"

SHARD_NAME: Final = re.compile(r"shard-\d{5,}\.(parquet|jsonl(\.gz|\.zst)?|tar)")
OWN_NAMES: Final = (MANIFEST, RESOLVED, REPORT, CONTAINER_LIST, "ledger", "keys")
# Every file that an output may consist of.
OWN_FILE: Final = re.compile(
    rf"{SHARD_NAME.pattern}|manifest\.json|job\.yaml|report\.md|README\.md|containers\.parquet"
    r"|ledger/part-\d{5,}\.parquet|keys/[^/]+/(scheme\.json|part-\d{5,}\.parquet)"
)


@dataclass(frozen=True)
class Shard:
    """One file of the final output."""

    path: str  # relative to the output directory
    records: int
    bytes: int
    sha256: str
    tokens: int | None = None  # where the job counts them

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class OutputDirectory:
    """Where a job's results are put together; the manifest comes last, and makes them one whole."""

    def __init__(self, path: Path, run: str) -> None:
        self._path, self._run = path, run

    def publish(
        self,
        job: Job,
        shards: Sequence[Committed],
        ledgers: Sequence[Committed],
        containers: Sequence[str],
        totals: dict[str, Any],
        more: Mapping[str, Path | bytes],
    ) -> list[Shard]:
        """Replaces an earlier output of the same directory and returns the shards.

        `more`: files or contents that steps leave beside the shards, by their names in the output.
        """
        self._remove_earlier()
        # A record larger than a shard leaves the next ones empty.
        full = [committed for committed in shards if committed.streams["shard"].rows] or shards[:1]
        written = [self._shard(job, number, committed) for number, committed in enumerate(full)]
        names = [CONTAINER_LIST, RESOLVED, REPORT, *([CARD] if job.output.card else []), *more]
        for committed in ledgers:
            name = f"ledger/part-{committed.task:05d}.parquet"
            self._place(Path(committed.streams["rows"].path), Path(name))
            names.append(name)
        for name, found in sorted(more.items()):
            if isinstance(found, bytes):
                self.write(name, found)
            else:
                self._place(found, Path(name))
        self._write_containers(containers)
        self.write_job(job)
        self._remove_strays(written)
        manifest = {
            "name": job.name,
            "shards": [shard.as_dict() for shard in written],
            "files": sorted(names),
            "totals": {**totals, **_figures(full, written)},
            **_tokenizer(job),
        }
        self.write(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n")
        return written

    def write(self, name: str, data: bytes) -> None:
        """Writes a file of the output, whole or not at all."""
        target = self._path / name
        temporary = unfinished(target.parent, self._run, target.name)
        temporary.write_bytes(data)
        publish(temporary, target)

    def write_job(self, job: Job) -> None:
        """Writes the resolved job without what only says where and how wide it ran."""
        resolved = job.resolved()
        here = ("workers", "directory", "min_free")
        kept = {key: value for key, value in resolved["run"].items() if key not in here}
        self.write(RESOLVED, write_yaml({**resolved, "run": kept}).encode())

    def check(self) -> None:
        """Raises JobRefused where a file that no run wrote has a name that this run would write to."""
        try:
            json.loads((self._path / MANIFEST).read_bytes())["shards"]
        except (OSError, ValueError, TypeError, KeyError):
            taken = [name for name in OWN_NAMES if (self._path / name).exists()]
            taken += [path.name for path in self._path.iterdir() if SHARD_NAME.fullmatch(path.name)]
            if taken:
                raise JobRefused(in_the_way(self._path / taken[0])) from None

    def _remove_earlier(self) -> None:
        """Removes what would say of an earlier output that it is whole, or tell about it."""
        for name in (MANIFEST, REPORT):
            (self._path / name).unlink(missing_ok=True)
        card = self._path / CARD
        if card.is_file() and is_our_card(card.read_bytes()):
            card.unlink()
        shutil.rmtree(self._path / "keys", ignore_errors=True)
        for path in (self._path / "ledger").glob("part-*.parquet"):
            path.unlink()

    def _remove_strays(self, shards: Sequence[Shard]) -> None:
        """Shards of an earlier output that this one has not replaced."""
        ours = {shard.path for shard in shards}
        for path in self._path.glob("shard-*"):
            if path.name not in ours and SHARD_NAME.fullmatch(path.name):
                path.unlink()

    def _shard(self, job: Job, number: int, committed: Committed) -> Shard:
        assert job.output.compression is not None
        stream: StreamRef = committed.streams["shard"]
        name = f"shard-{number:05d}{suffix_of(job.output.format, job.output.compression)}"
        self._place(Path(stream.path), Path(name))
        tokens = committed.accounts["figures"].get(TOKENS, 0) if tokenizer_of(job) else None
        return Shard(name, stream.rows, stream.bytes, stream.checksum, tokens)

    def _place(self, source: Path, name: Path) -> None:
        target = self._path / name
        temporary = unfinished(target.parent, self._run, target.name)
        try:
            os.link(source, temporary)
        except OSError:  # another file system
            shutil.copyfile(source, temporary)
        publish(temporary, target)

    def _write_containers(self, paths: Sequence[str]) -> None:
        tables = [pq.read_table(path, schema=CONTAINERS) for path in paths]
        table = pa.concat_tables(tables) if tables else CONTAINERS.empty_table()
        temporary = unfinished(self._path, self._run, CONTAINER_LIST)
        pq.write_table(table.combine_chunks(), temporary)
        publish(temporary, self._path / CONTAINER_LIST)


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
    """Tokens and languages of what was written, as far as they are known."""
    languages: Counter[str] = Counter()
    for committed in commits:
        for name, count in committed.accounts["figures"].items():
            if name.startswith(LANGUAGE):
                languages[name.removeprefix(LANGUAGE)] += count
    figures: dict[str, Any] = {}
    if any(shard.tokens is not None for shard in shards):
        figures["tokens"] = sum(shard.tokens or 0 for shard in shards)
    if languages:
        figures["languages"] = dict(sorted(languages.items(), key=lambda pair: (-pair[1], pair[0])))
    return figures
