"""Parts of image-text jobs in one process: tar files and perceptual hashes."""

from __future__ import annotations

import importlib
import io
import json
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from figures import Figure
from pictures import numbered
from PIL import Image
from thresher.filters.signals import compute_signals
from thresher.pipeline.sinks import open_sink
from thresher.pipeline.sources.containers import ContainerCounts
from thresher.pipeline.sources.reader import read
from thresher.pipeline.sources.split import Split
from thresher.pipeline.sources.tar_archive import PlainFile, TarArchive
from thresher.pipeline.sources.tar_samples import Sample, Samples
from thresher.schemas.records import IMAGE_TEXT

from jobs import alternate


def medians(contenders: Mapping[str, Callable[[], Any]], runs: int) -> dict[str, float]:
    """CPU seconds of this process that each takes, medians of alternating runs.

    Each runs once before, so that nobody's imports count.
    """

    def timed(run: Callable[[], Any]) -> float:
        began = time.process_time()
        run()
        return time.process_time() - began

    for run in contenders.values():
        run()
    found = alternate({name: partial(timed, run) for name, run in contenders.items()}, runs)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def tars(shards: Sequence[Path], runs: int) -> list[Figure]:
    """Reading and writing WebDataset shards beside webdataset, and beside tarfile.

    Samples are dicts on both sides, of bytes, or with their captions and JSON decoded. A record of ours has
    an id beside, its own fields apart from `meta`, and is a row of an Arrow batch.
    """
    importlib.import_module("thresher.pipeline.sources.tar_index")  # as in a process that reads many tars
    samples = [sample for shard in shards for sample in webdataset_samples(shard)]
    found = []
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        batches = list(_batches(samples))
        work: dict[str, dict[str, Callable[[], Any]]] = {
            "samples of tars, read": {
                "thresher": lambda: [sum(1 for _ in _samples(shard)) for shard in shards],
                "webdataset": lambda: [sum(1 for _ in webdataset_samples(shard)) for shard in shards],
                "tarfile": lambda: [_read_members(shard) for shard in shards],
            },
            "samples of tars, decoded": {
                "thresher": lambda: [sum(1 for _ in _decoded(_samples(shard))) for shard in shards],
                "webdataset": lambda: [
                    sum(1 for _ in _decoded(webdataset_samples(shard), json.loads)) for shard in shards
                ],
                "thresher, records": lambda: [_read(shard) for shard in shards],
            },
            "samples of tars, written": {
                "thresher": lambda: _write(batches, out / "ours.tar"),
                "webdataset": lambda: _write_webdataset(samples, out / "theirs.tar"),
            },
        }
        print(f"{len(samples)} samples of {_mean_size(shards, len(samples)):.1f} kB")
        for what, contenders in work.items():
            seconds = medians(contenders, runs)
            print(what)
            for contender, spent in seconds.items():
                print(f"    {contender:24} {spent / len(samples) * 1e6:8.1f} us of CPU a sample")
            ratio = seconds["webdataset"] / seconds["thresher"]
            bound = 4 if what.endswith("written") else 10
            found.append(Figure(f"{what}: webdataset / ours", ratio, "x", bound))
            if "thresher, records" in seconds:
                ratio = seconds["webdataset"] / seconds["thresher, records"]
                found.append(Figure(f"{what} by webdataset / our whole records", ratio, "x"))
    return found


def _mean_size(shards: Sequence[Path], samples: int) -> float:
    return sum(shard.stat().st_size for shard in shards) / samples / 1e3


def webdataset_samples(shard: Path) -> Iterator[dict[str, Any]]:
    """What webdataset's loader gives, undecoded."""
    import webdataset

    yield from webdataset.WebDataset(str(shard), shardshuffle=False)


def _decoded(
    samples: Iterator[dict[str, Any]], parse: Callable[[bytes], Any] = msgspec.json.decode
) -> Iterator[dict[str, Any]]:
    """Each side parses with what it has: webdataset's own decoder calls json.loads."""
    for sample in samples:
        sample["txt"] = sample["txt"].decode()
        sample["json"] = parse(sample["json"])
        yield sample


def _samples(shard: Path) -> Iterator[dict[str, Any]]:
    """The same as webdataset's, out of the layer that reading records rests on."""
    with open(shard, "rb", buffering=0) as file:
        archive = TarArchive(PlainFile(file))
        for sample in Samples(archive, str(shard), frozenset([b"jpg"]), 1 << 30, ContainerCounts()):
            assert isinstance(sample, Sample)
            assert sample.image is not None
            yield {
                "__key__": sample.key.decode(),
                "__url__": str(shard),
                "jpg": bytes(sample.image),
                "txt": sample.text,
                "json": sample.json,
            }


def _read(shard: Path) -> int:
    split = Split(str(shard), "webdataset", size=shard.stat().st_size, modality="image-text")
    return sum(len(batch) for batch in read(split, ContainerCounts()))


def _read_members(shard: Path) -> int:
    with tarfile.open(shard) as tar:
        return sum(len(tar.extractfile(member).read()) for member in tar)  # type: ignore[union-attr]


def _batches(samples: Sequence[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(samples), 512):
        rows = [
            {
                "id": f"{start + place:032x}",
                "image": sample["jpg"],
                "text": sample["txt"].decode(),
                "url": f"https://pictures.example/{start + place}.jpg",
                "source": f"00000.tar:{start + place}",
            }
            for place, sample in enumerate(samples[start : start + 512])
        ]
        yield pa.RecordBatch.from_pylist(rows, schema=IMAGE_TEXT)


def _write(batches: Sequence[pa.RecordBatch], path: Path) -> None:
    sink = open_sink("webdataset", "none", IMAGE_TEXT, path)
    for batch in batches:
        sink.write(batch)
    sink.close()


def _write_webdataset(samples: Sequence[dict[str, Any]], path: Path) -> None:
    import webdataset

    with webdataset.TarWriter(str(path)) as sink:
        for sample in samples:
            sink.write({key: sample[key] for key in ("__key__", "jpg", "txt", "json")})


def hashing(pictures: Sequence[Path], count: int, runs: int) -> list[Figure]:
    """The perceptual hash of encoded pictures of 256 pixels, and of the same pictures decoded."""
    import imagehash
    from thresher.filters.image.phash import hash_bits, shrink

    bodies = [path.read_bytes() for path in pictures]
    encoded = [numbered(bodies[number % len(bodies)], number) for number in range(count)]
    column = {"image": pa.array(encoded, pa.binary())}
    decoded = [Image.open(io.BytesIO(body)).convert("L") for body in bodies]
    arrays = [np.asarray(picture) for picture in decoded]
    rounds = count // len(bodies)
    contenders: dict[str, Callable[[], Any]] = {
        "signal, encoded": lambda: compute_signals(column, ["phash"]),
        "imagehash, encoded": lambda: [imagehash.phash(Image.open(io.BytesIO(body))) for body in encoded],
        "batched, decoded": lambda: [hash_bits(np.stack([shrink(a) for a in arrays])) for _ in range(rounds)],
        "imagehash, decoded": lambda: [[imagehash.phash(p) for p in decoded] for _ in range(rounds)],
    }
    seconds = medians(contenders, runs)
    print(f"perceptual hash of {count} pictures of 256 pixels")
    for name, spent in seconds.items():
        print(f"    {name:24} {spent / count * 1e3:8.3f} ms of CPU a picture")
    whole = seconds["imagehash, encoded"] / seconds["signal, encoded"]
    bare = seconds["imagehash, decoded"] / seconds["batched, decoded"]
    return [
        Figure("perceptual hash of decoded pictures: imagehash / ours", bare, "x", 5),
        Figure("perceptual hash, decoding included: imagehash / ours", whole, "x"),
    ]
