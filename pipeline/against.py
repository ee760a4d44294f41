"""Keys that a run leaves for later ones, and what later ones find among them.

    OUTPUT/keys/STEP/scheme.json          how the keys were made, and the files
    OUTPUT/keys/STEP/part-00000.parquet   id, keys, and low where keys are halves of 128-bit hashes

`keys` is uint64, or for MinHash list<uint64>, the keys of the bands; for `perceptual` the hash itself,
with which any radius goes. The rows are the records that survived the step.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..schemas import dedup as schema
from ..schemas.contracts import AssetError
from .dedup_plan import DedupPlan, SavedKeys
from .driver import Driver, partitions_for
from .part_order import in_part_order
from .perceptual import match_near
from .stage import Committed, Input, Layer, OperatorRef, PartRef, Parts
from .steps.against import ByOld, MatchOlder, NameOlder, ReadIds, ReadKeys, SaveKeys
from .steps.dedup import Explode
from .steps.reading import stream_part
from .storage import place

KEYS: Final = "keys"  # the folder in an output
DESCRIPTION: Final = "scheme.json"
IMAGES: Final = (*schema.PIXELS_OF, "pair")  # what of an image and its caption can be compared
KEY_ROW_BYTES: Final = 24
NAMED_ROW_BYTES: Final = 64  # position, number of the old record, its id


Clustered = schema.Exact | schema.MinHash | schema.Perceptual


class AgainstError(AssetError):
    """The keys of an earlier run are missing, damaged, or of another scheme; the message says which."""


def scheme_of(options: Clustered) -> tuple[dict[str, Any], int]:
    """The arguments by which keys are made, and how many a record has."""
    if isinstance(options, schema.Perceptual):
        return {}, 1
    if isinstance(options, schema.Exact):
        return ({} if options.on in ("url", *schema.PIXELS_OF) else {"normalize": options.normalize}), 1
    shared = {key: getattr(options, key) for key in ("ngram", "unit", "words", "hash", "lowercase")}
    if options.threshold is not None:
        from ..filters.dedup.minhash import MinHashScheme

        scheme = MinHashScheme.for_threshold(options.threshold, options.num_perm or 112, **shared)
        return shared | {"bands": scheme.bands, "rows": scheme.rows}, scheme.bands
    assert options.bands is not None
    return shared | {"bands": options.bands, "rows": options.rows}, options.bands


def describe(options: Clustered) -> dict[str, Any]:
    """What keys of these options have in common with all that may be compared with them."""
    arguments, _ = scheme_of(options)
    if isinstance(options, schema.MinHash):
        from ..filters.dedup.minhash import MinHashScheme

        return {
            "method": "minhash",
            "on": options.on,
            **arguments,
            "digest": MinHashScheme(**arguments).digest,
        }
    from ..filters.dedup import exact, images

    described: dict[str, Any]
    if isinstance(options, schema.Perceptual):
        from ..filters.image.phash import PHASH_VERSION

        described = {"method": "perceptual", "hash": "phash", "version": PHASH_VERSION}
    else:
        described = {"method": "exact", "on": options.on, **arguments}
        described["version"] = images.VERSION if options.on in IMAGES else exact.VERSION
        if options.on == "pixels":
            described["decoder"] = images.decoder()
    said = " ".join(f"{name}={value}" for name, value in sorted(described.items()))
    return {**described, "digest": hashlib.sha256(said.encode()).hexdigest()[:32]}


def check_against(options: schema.Dedup, directory: str | Path = ".") -> str | None:
    """Why a dedup step cannot go on with the keys that its `against` names; None where it can."""
    try:
        open_against(options, directory)
    except AgainstError as error:
        return str(error)
    return None


def open_against(options: schema.Dedup, directory: str | Path = ".") -> tuple[SavedKeys, ...]:
    """The files of keys under the folders of `against`, which are an output, or a folder of its keys.

    Raises AgainstError where one has none, or none of the same scheme.
    """
    chosen = options.options
    if not isinstance(chosen, Clustered) or not chosen.against:
        return ()
    wanted = describe(chosen)
    return tuple(
        file for path in chosen.against for file in _open(Path(directory, path).absolute(), path, wanted)
    )


def _open(folder: Path, written: str, wanted: dict[str, Any]) -> Iterator[SavedKeys]:
    found = [folder / DESCRIPTION] if (folder / DESCRIPTION).is_file() else []
    found = found or sorted((folder / KEYS).glob(f"*/{DESCRIPTION}"))
    if not found:
        raise AgainstError(
            f"{written} has no saved keys; a run leaves them where its dedup step says save_keys: true"
        )
    described = [(path.parent, _read(path)) for path in found]
    fitting = [(path, said) for path, said in described if said["scheme"] == wanted]
    if not fitting:
        seen = "; ".join(f"{path.name}: {_difference(said['scheme'], wanted)}" for path, said in described)
        raise AgainstError(f"{written} has keys of another scheme, which cannot be compared ({seen})")
    if len(fitting) > 1:
        names = ", ".join(str(path) for path, _ in fitting)
        raise AgainstError(f"{written} has several keys of this scheme: name one of {names}")
    ((path, said),) = fitting
    for file in said["files"]:
        if not (path / file["path"]).is_file() or (path / file["path"]).stat().st_size != file["bytes"]:
            raise AgainstError(f"{path / file['path']} is missing or cut")
        yield SavedKeys(str(path / file["path"]), file["records"], file["bytes"], file["xxh3_128"])


def _read(path: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(path.read_bytes())
        return {"scheme": dict(said["scheme"]), "files": list(said["files"])}
    except (OSError, ValueError, TypeError, KeyError):
        raise AgainstError(f"{path} cannot be read as a description of saved keys") from None


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    told = [name for name in names if name != "digest"] or names
    return ", ".join(f"{name} {theirs.get(name)}, here {ours.get(name)}" for name in told)


def save_keys(driver: Driver, step: str, name: str, plan: DedupPlan, parts: Parts) -> None:
    """Commits the keys of the records of `parts` and has them published with the output."""
    names = dict(zip(("keys", "low"), plan.key_columns, strict=False))
    commits = driver.run(
        f"{name}-keys",
        {
            "records": Input(
                parts, (OperatorRef.of(SaveKeys, names=names),), columns=("id", *plan.key_columns)
            )
        },
    )
    folder = f"{KEYS}/{name}"
    files = []
    for committed in commits:
        stream = committed.streams["keys"]
        path = f"part-{committed.task:05d}.parquet"
        driver.published[f"{folder}/{path}"] = place(stream.path)
        files.append(
            {"path": path, "records": stream.rows, "bytes": stream.bytes, "xxh3_128": stream.checksum}
        )
    described = {
        "step": step,
        "scheme": plan.scheme,
        "records": sum(committed.streams["keys"].rows for committed in commits),
        "files": files,
    }
    driver.published[f"{folder}/{DESCRIPTION}"] = json.dumps(described, indent=1).encode() + b"\n"


def find_older(driver: Driver, name: str, plan: DedupPlan, parts: Parts) -> list[Layer]:
    """For each part an optional layer of the ids of old records that new ones are duplicates of.

    Of several the one that comes first in the earlier runs, as `against` names them.
    """
    old = _old_parts(plan.against, ReadKeys)
    old_rows = sum(file.records for file in plan.against)
    if plan.radius is not None:
        matches = match_near(driver, f"{name}-older", plan, parts, old)
    else:
        matches = _match_equal(driver, f"{name}-older", plan, parts, old)
    found = tuple(stream_part(c.task, c.streams["matches"]) for c in matches)
    matched = sum(part.rows for part in found)
    named = driver.run(
        f"{name}-older-ids",
        {
            "matches": Input(found, (OperatorRef.of(ByOld),), "key"),
            "ids": Input(_old_parts(plan.against, ReadIds), (), "key"),
        },
        partitions=partitions_for((matched + old_rows) * NAMED_ROW_BYTES),
        reduce=OperatorRef.of(NameOlder),
    )
    found = tuple(stream_part(c.task, c.streams["older"]) for c in named)
    return in_part_order(
        driver,
        f"{name}-older-parts",
        found,
        parts,
        {"older": plan.older},
        bytes_=matched * NAMED_ROW_BYTES,
        by="old",
    )


def _match_equal(driver: Driver, name: str, plan: DedupPlan, parts: Parts, old: Parts) -> list[Committed]:
    explode = OperatorRef.of(Explode, keys=plan.keys, low=plan.low)
    rows = sum(part.rows for part in (*parts, *old))
    return driver.run(
        name,
        {"new": Input(parts, (explode,), "key", plan.key_columns), "old": Input(old, (), "key")},
        partitions=partitions_for(rows * plan.keys_per_record * KEY_ROW_BYTES),
        reduce=OperatorRef.of(MatchOlder),
    )


def _old_parts(files: tuple[SavedKeys, ...], reader: type) -> Parts:
    return tuple(
        PartRef(
            number,
            reader=OperatorRef.of(reader, path=file.path, number=number),
            label=os.path.basename(file.path),
            bytes=file.bytes,
            rows=file.records,
            identity=f"{number} {file.checksum}",
        )
        for number, file in enumerate(files)
    )
