"""Dedup of images against every pair: by bytes, by pixels, with captions, and by perceptual hash."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import corpus
import imagehash
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_engine import InlineEngine, inline_tasks
from PIL import Image, ImageDraw
from reference_dedup_images import Record, duplicates
from test_whole_jobs import output_digest
from thresher.filters.image.phash import PHASH_VERSION
from thresher.filters.signals import compute_signals
from thresher.pipeline.against import check_against
from thresher.pipeline.compiled import add_layer
from thresher.pipeline.dedup import DedupStep, compile_dedup
from thresher.pipeline.driver import Driver, layer_of
from thresher.pipeline.stage import Input, Layer, OperatorRef, PartRef, Parts
from thresher.pipeline.steps.groups import groups
from thresher.pipeline.steps.reading import Keep
from thresher.pipeline.store import RunLock
from thresher.schemas.dedup import Dedup
from thresher.schemas.progress import Silent

ALL = 2**64 - 1
SCHEMA = pa.schema(
    [
        ("position", pa.uint64()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("url", pa.string()),
        ("text", pa.string()),
        ("image", pa.binary()),
        ("pixels", pa.int64()),
        ("phash", pa.uint64()),
        ("quality", pa.float64()),
    ]
)
MANY = {"PARTITION_BYTES": 400}  # bytes: dozens of partitions


def record(number: int, **values: Any) -> Record:
    made = {"id": f"r{number:04d}", "source": f"in:{number}", "url": None, "text": None, "image": None}
    made |= {"pixels": number * 7 % 5 or None, "phash": None, "quality": number * 5 % 7 / 4}
    return {**made, "image": b"%d" % number, "text": "x" * (number * 3 % 4), **values}


def placed(records: list[Record], parts: int) -> list[Record]:
    """The records with their positions: so many in each part."""
    each = -(-len(records) // parts)
    return [{**row, "position": at // each << 32 | at % each} for at, row in enumerate(records)]


def written(records: list[Record], folder: Path, parts: int) -> Parts:
    folder.mkdir(parents=True)
    found = []
    for index in range(parts):
        rows = [row for row in records if row["position"] >> 32 == index]
        path = folder / f"{index}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
        layer = Layer(str(path), xxhash.xxh3_128_hexdigest(path.read_bytes()), tuple(SCHEMA.names[1:]))
        found.append(PartRef(index, (layer,), rows=len(rows), bytes=path.stat().st_size))
    return tuple(found)


def run(
    records: list[Record], folder: Path, method: str, how: dict[str, Any], parts: int = 3
) -> dict[str, str]:
    """Runs the step alone, and publishes to `folder / out`; id of what went -> id of who stands for it."""
    step = compile_dedup("dedup", "d_", Dedup.model_validate({method: how}))
    assert isinstance(step, DedupStep)
    assert step.keys is not None
    inputs = written(records, folder / "in", parts)
    lock = RunLock(folder)
    with closing(lock), inline_tasks():
        driver = Driver(folder / "work", InlineEngine(1, lock.run), lock, Silent())
        columns = sorted({*step.keys.reads, *step.reads} - set(step.adds))
        operators = (step.keys.operator, OperatorRef.of(Keep, stream="keys", columns=list(step.adds)))
        keyed = driver.run("keys", {"records": Input(inputs, operators, columns=("id", *columns))})
        alive = step.run(driver, add_layer(inputs, [layer_of(one, "keys") for one in keyed]))
    for name, content in driver.published.items():
        path = folder / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else Path(str(content)).read_bytes())
    rows = [
        row for paths in driver.ledgers.values() for path in paths for row in pq.read_table(path).to_pylist()
    ]
    assert {(row["step"], row["verdict"], row["reason"]) for row in rows} <= {
        ("dedup", "duplicate", "duplicate")
    }
    kept = {place for part in alive for place in pq.read_table(part.layers[-1].path)["position"].to_pylist()}
    lost = {row["position"] for row in rows}
    assert kept | lost == {row["position"] for row in records}
    assert not kept & lost
    return {row["id"]: row["value"] for row in rows}


@contextmanager
def cut(partition_bytes: int = 0, combine: bool = True, group_bytes: int = 0) -> Iterator[None]:
    """Stages are cut into partitions of so many bytes, and buckets of more than `group_bytes` go to disk."""
    with pytest.MonkeyPatch.context() as patch:
        if partition_bytes:
            patch.setattr("thresher.pipeline.driver.PARTITION_BYTES", partition_bytes)
        if not combine:
            run_stage = Driver.run
            patch.setattr(
                Driver, "run", lambda *args, **named: run_stage(*args, **{**named, "combine": None})
            )
        if group_bytes:
            module = "thresher.pipeline.steps.perceptual"
            patch.setattr(f"{module}.groups", lambda rows, new_file: groups(rows, new_file, group_bytes))
            patch.setattr(f"{module}.BLOCK_ROWS", 3)
        yield


CUTS = [{}, {"partition_bytes": 300}, {"partition_bytes": 2000, "combine": False}, {"group_bytes": 100}]


def flipped(value: int, draw: random.Random, bits: int) -> int:
    for bit in draw.sample(range(64), bits):
        value ^= 1 << bit
    return value


def clusters(seed: int, radius: int) -> list[Record]:
    """Near copies of a few hashes, copies just beyond the radius, equal ones, and images without a hash."""
    draw = random.Random(seed)
    made: list[int | None] = [None] * 5
    for _ in range(25):
        centre = draw.getrandbits(64)
        made += [flipped(centre, draw, draw.choice([0, radius, radius, radius + 1, 20])) for _ in range(6)]
    draw.shuffle(made)
    return [record(number, phash=value) for number, value in enumerate(made)]


def chains(seed: int, radius: int) -> list[Record]:
    """Each hash is within the radius of the one before only: the ends of a chain are far from each other."""
    draw = random.Random(seed)
    made = []
    for length in range(1, 16):
        bits = draw.sample(range(64), 64)
        value = draw.getrandbits(64)
        for link in range(min(length, 64 // radius)):
            made.append(value)
            for bit in bits[link * radius : link * radius + radius]:
                value ^= 1 << bit
    draw.shuffle(made)
    return [record(number, phash=value) for number, value in enumerate(made)]


def skewed(seed: int, radius: int) -> list[Record]:
    """A placeholder that most pages have, hashes near it, and hashes that share a chunk with it."""
    draw = random.Random(seed)
    made = [0xABCDEF0123456789] * 120 + [flipped(0xABCDEF0123456789, draw, radius) for _ in range(9)]
    made += [0xABCDEF0123456789 & ~0xFFFF | draw.getrandbits(16) for _ in range(60)]
    draw.shuffle(made)
    return [record(number, phash=value) for number, value in enumerate(made)]


@pytest.mark.parametrize("cuts", CUTS, ids=["whole", "many", "not-combined", "on-disk"])
@pytest.mark.parametrize("made", [clusters, chains, skewed])
def test_near_images_go_as_a_comparison_of_every_pair_says(tmp_path: Path, made: Any, cuts: Any) -> None:
    radius = 4
    records = placed(made(1, radius), 4)
    how = {"radius": radius, "keep": "largest"}
    wanted = duplicates(records, "perceptual", how)
    assert 20 < len(wanted) < len(records)
    with cut(**cuts):
        assert run(records, tmp_path, "perceptual", how, 4) == wanted


hashes = st.none() | st.sampled_from([0, ALL, 0xF0F0]) | st.integers(0, ALL)
near_hashes = st.tuples(hashes, st.sets(st.integers(0, 63), max_size=8)).map(
    lambda pair: None if pair[0] is None else pair[0] ^ sum(1 << bit for bit in pair[1])
)


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(near_hashes, max_size=25),
    radius=st.integers(0, 16),
    keep=st.sampled_from(["first", "largest", "longest", {"best": "quality"}]),
    cuts=st.sampled_from(CUTS),
    parts=st.integers(1, 3),
    memory=st.sampled_from([1, 10**9]),
)
def test_any_radius_any_choice_and_any_cut_leave_what_every_pair_says(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[int | None],
    radius: int,
    keep: Any,
    cuts: Any,
    parts: int,
    memory: int,
) -> None:
    records = placed([record(number, phash=value) for number, value in enumerate(values)], parts)
    how = {"radius": radius, "keep": keep}
    with cut(**cuts):
        found = run(
            records, tmp_path_factory.mktemp("run"), "perceptual", {**how, "cluster_memory": memory}, parts
        )
    assert found == duplicates(records, "perceptual", how)


def drawn(seed: int, side: int, format: str = "PNG", mode: str = "RGB") -> bytes:
    draw = random.Random(seed)
    image = Image.frombytes("L", (side, 8), draw.randbytes(side * 8)).convert(mode)
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def pictures() -> list[Record]:
    """The same pixels in files of several formats, equal files, equal bytes of another shape, no images."""
    plain = Image.frombytes("L", (16, 4), random.Random(4).randbytes(64)).convert("RGB")
    turned, wide = io.BytesIO(), io.BytesIO()
    plain.save(wide, "PNG")
    Image.frombytes("RGB", (4, 16), plain.tobytes()).save(turned, "PNG")
    images = [None, None, b"no image", b"no image", drawn(9, 9)[:60], drawn(9, 9)[:60]]
    images += [turned.getvalue(), wide.getvalue(), wide.getvalue()]
    for seed in range(8):
        images += [drawn(seed, 8), drawn(seed, 8, "BMP"), drawn(seed, 8, "TIFF", "L"), drawn(seed, 8)]
    return [record(number, image=image, pixels=number % 3 or None) for number, image in enumerate(images)]


def captioned() -> list[Record]:
    """Addresses in several spellings, each with several captions, some of them in other white space."""
    urls = ["https://e.org/a", "HTTPS://E.org:443/a#top", "http://e.org/a", "no address", None]
    urls += ["https://e.org/b?y=1&x=2", "https://e.org/b?x=2&y=1"]
    captions = ["a red ball", " a  red\tball ", "A red ball", "", None]
    pairs = [(url, caption) for url in urls for caption in captions] * 2
    return [record(number, url=url, text=caption) for number, (url, caption) in enumerate(pairs)]


@pytest.mark.parametrize("partition_bytes", [0, 300])
@pytest.mark.parametrize("keep", ["first", "largest", "longest", {"best": "quality"}])
@pytest.mark.parametrize(("on", "made"), [("image", pictures), ("pixels", pictures), ("pair", captioned)])
def test_equal_images_and_pairs_go(
    tmp_path: Path, on: str, made: Any, keep: Any, partition_bytes: int
) -> None:
    records = placed(made(), 2)
    how = {"on": on, "keep": keep}
    wanted = duplicates(records, "exact", how)
    assert 5 < len(wanted) < len(records) - 5
    with cut(partition_bytes):
        assert run(records, tmp_path, "exact", how, 2) == wanted


def kept(records: list[Record], gone: dict[str, str]) -> list[Record]:
    return [row for row in records if row["id"] not in gone]


@pytest.mark.parametrize("cuts", CUTS, ids=["whole", "many", "not-combined", "on-disk"])
def test_older_images_win_and_join_no_new_ones(tmp_path: Path, cuts: Any) -> None:
    radius = 4
    rows = clusters(1, radius) + skewed(1, radius)[:40]
    old = placed([{**row, "id": f"r{number:04d}"} for number, row in enumerate(rows)], 2)
    draw = random.Random(2)
    values = [flipped(row["phash"], draw, draw.choice([0, 2, 4, 5, 9])) for row in old[::2] if row["phash"]]
    # The second is near the first only, which is near an old one.
    first = next(row["phash"] for row in old if row["phash"])
    values += [first ^ bits for bits in (0xF << 40, 0xFF << 40)]
    values = [None, *values, *values[::3]]
    new = placed([record(1000 + number, phash=value) for number, value in enumerate(values)], 3)
    how = {"radius": radius, "keep": "first"}
    with cut(**cuts):
        gone = run(old, tmp_path / "old", "perceptual", {**how, "save_keys": True}, 2)
        before = kept(old, gone)
        against = {**how, "against": str(tmp_path / "old" / "out")}
        found = run(new, tmp_path / "new", "perceptual", against, 3)
    wanted = duplicates(new, "perceptual", how, [row for row in before if row["phash"] is not None])
    assert found == wanted
    assert len({value[:2] for value in wanted.values()}) == 2
    # Had old records joined new ones, more would have gone.
    together = duplicates(placed([*before, *new], 1), "perceptual", how)
    assert sum(int(id_[1:]) >= 1000 for id_ in together) > len(wanted)


def test_saved_hashes_go_with_any_radius_and_with_several_earlier_runs(tmp_path: Path) -> None:
    for name, value in (("one", 0), ("two", 1)):
        old = placed([record(0, id=name, phash=value), record(1, id=f"{name}-none")], 1)
        run(old, tmp_path / name, "perceptual", {"radius": 0, "keep": "first", "save_keys": True}, 1)
    both = [str(tmp_path / name / "out") for name in ("two", "one")]
    new = placed([record(5, phash=3), record(6, phash=0xFF00), record(7, phash=0x80)], 1)
    for radius, wanted in (
        (0, {}),
        (1, {"r0005": "two", "r0007": "one"}),
        (2, {"r0005": "two", "r0007": "two"}),
        (8, {"r0005": "two", "r0006": "one", "r0007": "two"}),
    ):
        how = {"radius": radius, "keep": "first", "against": both}
        assert run(new, tmp_path / f"after-{radius}", "perceptual", how, 1) == wanted


def test_saved_keys_of_another_kind_are_refused(tmp_path: Path) -> None:
    old = placed([record(0, phash=5, image=drawn(1, 8))], 1)
    folders = {}
    for method, how in (
        ("perceptual", {"radius": 3}),
        ("exact", {"on": "image"}),
        ("exact", {"on": "pixels"}),
        ("exact", {"on": "pair"}),
    ):
        folder = tmp_path / str(how.get("on", method))
        run(old, folder, method, {**how, "keep": "first", "save_keys": True}, 1)
        folders[folder.name] = folder / "out"

    def refusal(method: str, folder: str, **how: Any) -> str | None:
        return check_against(Dedup.model_validate({method: {**how, "against": str(folders[folder])}}))

    assert refusal("perceptual", "perceptual", radius=9) is None
    assert "method exact, here perceptual" in str(refusal("perceptual", "image"))
    assert "method perceptual, here exact" in str(refusal("exact", "perceptual", on="image"))
    for on in ("image", "pixels", "pair"):
        assert refusal("exact", on, on=on) is None
    assert "on image, here pixels" in str(refusal("exact", "image", on="pixels"))
    assert "normalize whitespace, here lower" in str(refusal("exact", "pair", on="pair", normalize="lower"))


def test_a_placeholder_that_everyone_has_is_no_square_of_work(tmp_path: Path) -> None:
    records = [record(number, phash=42, pixels=1, image=b"") for number in range(30_000)]
    old = placed([record(0, id="old", phash=43)], 1)
    run(old, tmp_path / "old", "perceptual", {"radius": 1, "save_keys": True}, 1)
    found = run(placed(records, 2), tmp_path / "new", "perceptual", {"radius": 2, "keep": "first"}, 2)
    assert len(found) == 29_999
    assert set(found.values()) == {"r0000"}
    against = {"radius": 2, "against": str(tmp_path / "old" / "out")}
    assert set(run(placed(records, 2), tmp_path / "after", "perceptual", against, 2).values()) == {"old"}


def scenes(folder: Path) -> list[Record]:
    """Scenes as files, each with a smaller copy in JPEG, and blanks; hashes are those of imagehash."""
    folder.mkdir()
    made = []
    for seed in range(12):
        draw = random.Random(seed)
        image = Image.new("RGB", (192, 144), "white")
        for _ in range(30):
            corner = draw.randrange(160), draw.randrange(110)
            box = (*corner, corner[0] + draw.randrange(9, 60), corner[1] + draw.randrange(9, 60))
            ImageDraw.Draw(image).ellipse(box, fill=tuple(draw.randrange(256) for _ in range(3)))
        for name, shown in ((f"a{seed}.jpg", image.resize((96, 72))), (f"b{seed}.png", image)):
            shown.save(folder / name)
            made.append((name, shown.width * shown.height, int(str(imagehash.phash(shown)), 16)))
    for name in ("blank-1.png", "blank-2.png"):
        Image.new("RGB", (64, 64), "white").save(folder / name)
        made.append((name, 64 * 64, None))
    rows = [{"id": name, "file": name, "caption": f"scene {name}"} for name, _, _ in made]
    corpus.write(folder / "pairs.jsonl", rows)
    return [
        record(number, id=name, image=(folder / name).read_bytes(), pixels=pixels, phash=value)
        for number, (name, pixels, value) in enumerate(made)
    ]


def test_a_whole_job_finds_what_hashes_of_imagehash_say_also_after_it_was_stopped(tmp_path: Path) -> None:
    records = placed(scenes(tmp_path / "in"), 1)
    values = [row["phash"] for row in records if row["phash"] is not None]
    apart = [(a ^ b).bit_count() for a, b in combinations(values, 2)]
    assert not {5, 6, 7, 8} & set(apart)  # so that no hash that differs in a bit changes the answer
    job = {
        "name": "images",
        "modality": "image-text",
        "input": [{"path": str(tmp_path / "in" / "pairs.jsonl"), "format": "image-folder"}],
        "steps": [{"dedup": {"perceptual": {"radius": 6, "save_keys": True}}}],
        "output": {"path": str(tmp_path / "out"), "format": "parquet"},
        "run": {"workers": 2, "work": str(tmp_path / "work")},
    }
    with inline_tasks():
        thresher.run(thresher.load(job))
    wanted = duplicates(records, "perceptual", {"radius": 6, "keep": "largest"})
    assert wanted == {f"a{seed}.jpg": f"b{seed}.png" for seed in range(12)}
    assert {
        row["id"]: row["value"] for row in pq.read_table(tmp_path / "out" / "ledger").to_pylist()
    } == wanted
    (saved,) = (tmp_path / "out" / "keys" / "dedup-perceptual").glob("*.parquet")
    ids = pq.read_table(saved).column("id").to_pylist()
    assert sorted(ids) == sorted(f"b{seed}.png" for seed in range(12))
    before = output_digest(tmp_path / "out")
    for stage in sorted((tmp_path / "work" / "stages").iterdir())[1:]:
        for entry in list(stage.glob("*.json"))[::2]:
            entry.unlink()
    thresher.run(thresher.load(job))
    assert output_digest(tmp_path / "out") == before


def test_the_hash_of_a_picture_is_what_saved_keys_of_this_version_hold() -> None:
    assert PHASH_VERSION == 1
    image = pa.array([drawn(5, 8), drawn(6, 40)], pa.binary())
    found = compute_signals({"image": image}, ["phash"])["phash"].to_pylist()
    assert found == [0xACC67B563E6B0C81, 0xDC6DD060F329D691]
