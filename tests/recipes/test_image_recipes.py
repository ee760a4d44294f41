"""Every recipe of image-text pairs as it is printed, on real pictures.

What goes is what Pillow and plain Python say must go, and for the same reason.

The pictures lie in a folder, so the recipe's input is exchanged for it, and its download has nothing to do.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import thresher
from PIL import Image
from thresher.jobs import recipe_book

pytestmark = pytest.mark.slow

ENGLISH = (
    "A small green frog sits on the leaf of a water lily and looks at the sky",
    "An old wooden house with a red roof stands between two tall trees",
    "The children are playing with a ball in the garden behind the school",
)
GERMAN = "Ein alter Mann mit einem Hut sitzt auf der Bank vor dem Haus und liest die Zeitung"
FOLDER = """input:
  - path: pool/pairs.jsonl
    format: image-folder
    columns: {id: name, url: url}
"""
MENTIONED = ["frog", "wooden house", "ball", "garden", "lamp", "zebra"]


@dataclass(frozen=True)
class Pair:
    """A line of the folder's list: a picture of the folder, and what is said of it."""

    name: str
    file: str
    caption: str
    url: str = ""
    data: bytes = field(default=b"", repr=False)

    @property
    def address(self) -> str:
        return self.url or f"https://images.example.org/{self.name}"

    @property
    def size(self) -> tuple[int, int]:
        return Image.open(io.BytesIO(self.data)).size

    @property
    def shorter(self) -> int:
        return min(self.size)

    @property
    def aspect(self) -> float:
        return max(self.size) / min(self.size)


@dataclass(frozen=True)
class Outcome:
    """What a run left, by the names of pairs."""

    kept: dict[str, dict[str, Any]]
    lost: dict[str, tuple[str, str]]  # step and reason

    def of_step(self, step: str) -> set[str]:
        return {name for name, (where, _) in self.lost.items() if where == step}


@pytest.fixture(scope="session")
def pictures(shared_data: Path) -> list[Pair]:
    """Real pairs: some of any kind, and some that are small, long or light."""
    folder = shared_data / "images" / "openclipart"
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    rows = [row for row in rows if (folder / row["file"]).stat().st_size < 60_000]
    draw = random.Random(11)
    shorter = [min(row["width"], row["height"]) for row in rows]
    longer = [max(row["width"], row["height"]) for row in rows]
    small = [row for row, side in zip(rows, shorter, strict=True) if side < 200]
    long = [row for row, a, b in zip(rows, shorter, longer, strict=True) if a > 200 and b > 3 * a]
    light = [row for row in rows if (folder / row["file"]).stat().st_size < 5000]
    usual = [row for row, a, b in zip(rows, shorter, longer, strict=True) if a > 200 and b < 3 * a]
    chosen = draw.sample(usual, 40) + draw.sample(rows, 10)
    for special in (small, long, light):
        chosen += draw.sample(special, min(4, len(special)))
    files = {row["file"]: row for row in chosen}
    return [
        Pair(file, file, row["caption"], data=(folder / file).read_bytes())
        for file, row in sorted(files.items())
    ]


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a recipe on pairs that lie in a folder, with some of its text exchanged."""

    def run_recipe(name: str, pairs: list[Pair], *exchanged: tuple[str, str]) -> Outcome:
        folder = tmp_path / "pool"
        folder.mkdir()
        lines = []
        for pair in pairs:
            (folder / pair.file).write_bytes(pair.data)
            line = {"name": pair.name, "file": pair.file, "caption": pair.caption, "url": pair.address}
            lines.append(json.dumps(line) + "\n")
        (folder / "pairs.jsonl").write_text("".join(lines), encoding="utf-8")
        text = recipe_book.read(name).text
        text, times = re.subn(r"(?ms)^input:\n.*?(?=^steps:)", FOLDER, text)
        assert times == 1
        for old, new in exchanged:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "job.yaml").write_text(text, encoding="utf-8")
        job = thresher.load(tmp_path / "job.yaml", ("output.format=parquet", "run.workers=1"))
        result = thresher.run(job)
        return read(Path(result.output), result.totals, {pair.name for pair in pairs})

    return run_recipe


def read(out: Path, totals: dict[str, Any], names: set[str]) -> Outcome:
    manifest = json.loads((out / "manifest.json").read_text())
    rows = [row for shard in manifest["shards"] for row in pq.read_table(out / shard["path"]).to_pylist()]
    kept = {row["id"]: row for row in rows}
    lost = {row["id"]: (row["step"], row["reason"]) for row in pq.read_table(out / "ledger").to_pylist()}
    assert len(kept) == len(rows) == totals["kept"]
    assert kept.keys() | lost.keys() == names
    assert not kept.keys() & lost.keys()
    return Outcome(kept, lost)


def described(pictures: list[Pair]) -> list[Pair]:
    """The pairs, every second with a caption that is surely English, and no two the same."""
    return [
        replace(pair, caption=f"{ENGLISH[at % 3]} {pair.name.partition('.')[0]}") if at % 2 else pair
        for at, pair in enumerate(pictures)
    ]


def reencoded(pair: Pair, kind: str, name: str, caption: str) -> Pair:
    made = io.BytesIO()
    Image.open(io.BytesIO(pair.data)).convert("RGB").resize((700, 600)).save(made, kind)
    return Pair(name, name, caption, data=made.getvalue())


def without_language(found: Outcome, pairs: list[Pair], english: Callable[[Pair], bool]) -> list[Pair]:
    """The pairs that the step `language` kept. What is surely English or surely not went the right way."""
    foreign = found.of_step("language")
    for pair in pairs:
        if pair.caption == GERMAN and pair.name not in foreign:
            assert pair.name in found.lost
        assert not (english(pair) and pair.name in foreign), pair
    return [pair for pair in pairs if pair.name not in foreign]


def surely(pair: Pair) -> bool:
    return pair.caption.startswith(ENGLISH)


def compare(
    found: Outcome, pairs: list[Pair], rule: Callable[[Pair], tuple[str, str] | None]
) -> Counter[str]:
    """Asserts that each pair was kept or lost as `rule` says; returns how many went for each reason."""
    for pair in pairs:
        assert found.lost.get(pair.name) == rule(pair), pair
    return Counter(
        reason for pair in pairs if pair.name in found.lost for _, reason in [found.lost[pair.name]]
    )


def sizes_are(found: Outcome, pairs: list[Pair], wanted: Callable[[Pair], tuple[int, int]]) -> None:
    by_name = {pair.name: pair for pair in pairs}
    for name, record in found.kept.items():
        pair = by_name[name]
        image = Image.open(io.BytesIO(record["image"]))
        image.load()
        assert (record["original_width"], record["original_height"]) == pair.size
        assert all(abs(a - b) <= 1 for a, b in zip(image.size, wanted(pair), strict=True))


def test_laion_drops_what_is_short_light_or_elsewhere_and_shrinks_the_rest(
    run: Run, pictures: list[Pair]
) -> None:
    pairs = described(pictures)
    other = pairs[0]
    pairs += [
        Pair("short", other.file, "frog", data=other.data),
        Pair("german", other.file, GERMAN, data=other.data),
        Pair("address", other.file, f"{ENGLISH[0]}!", "https://example.org/a.svg?x=1", other.data),
        Pair("host", other.file, f"{ENGLISH[0]}?", f"https://{'a' * 50}.example.org/a.png", other.data),
        Pair("once", pairs[1].file, f"{ENGLISH[1]} twice", "https://example.org/twice", pairs[1].data),
        Pair("again", pairs[1].file, f"{ENGLISH[1]} twice", "https://example.org/twice", pairs[1].data),
        reencoded(other, "GIF", "moving.gif", f"{ENGLISH[2]}."),
        reencoded(other, "WEBP", "modern.webp", f"{ENGLISH[2]}, too"),
    ]
    found = run("laion", pairs)

    def rule(pair: Pair) -> tuple[str, str] | None:
        if len(pair.caption) < 5:
            return "too_few_chars", "too_few_chars"
        if any(part in pair.address for part in (".svg", ".gif", "data:image", "javascript:")):
            return "image_address", "image_address"
        if len(pair.address.split("/")[2]) > 60:
            return "host_too_long", "host_too_long"
        if len(pair.data) < 5000:
            return "filter:laion", "too_few_bytes"
        return None

    reading = [pair for pair in pairs if pair.name not in ("once", "again")]
    reasons = compare(found, without_language(found, reading, surely), rule)
    assert reasons.keys() == {"too_few_chars", "image_address", "host_too_long", "too_few_bytes"}
    assert found.lost["german"] == ("language", "other_language")
    assert found.lost["moving.gif"] == ("image_address", "image_address")
    assert len(found.of_step("dedup:exact") & {"once", "again"}) == 1

    def wanted(pair: Pair) -> tuple[int, int]:
        scale = min(1.0, 384 / pair.shorter)
        return round(pair.size[0] * scale), round(pair.size[1] * scale)

    assert "modern.webp" in found.kept
    sizes_are(found, pairs, wanted)


def test_laion_drops_other_formats_by_their_content(run: Run, pictures: list[Pair]) -> None:
    pair = reencoded(pictures[0], "GIF", "moving", ENGLISH[0])
    assert run("laion", [pair]).lost == {"moving": ("filter:laion", "other_format")}


def test_datacomp_basic_drops_what_its_five_conditions_drop(run: Run, pictures: list[Pair]) -> None:
    pairs = described(pictures)
    other = next(pair for pair in pairs if pair.shorter >= 200 and pair.aspect <= 3)
    pairs += [
        Pair("two", other.file, "green frog", data=other.data),
        Pair("five", other.file, "a b c", data=other.data),
        Pair("german", other.file, GERMAN, data=other.data),
    ]
    found = run("datacomp-basic", pairs)

    def rule(pair: Pair) -> tuple[str, str] | None:
        if len(pair.caption.split()) <= 2:
            return "too_few_words", "too_few_words"
        if len(pair.caption) <= 5:
            return "too_few_chars", "too_few_chars"
        if pair.shorter < 200:
            return "filter:datacomp_basic", "too_small"
        return ("filter:datacomp_basic", "too_elongated") if pair.aspect > 3 else None

    reasons = compare(found, without_language(found, pairs, surely), rule)
    assert reasons.keys() == {"too_few_words", "too_few_chars", "too_small", "too_elongated"}
    assert found.lost["german"] == ("language", "other_language")

    def wanted(pair: Pair) -> tuple[int, int]:
        scale = min(1.0, 512 / max(pair.size))
        return round(pair.size[0] * scale), round(pair.size[1] * scale)

    sizes_are(found, pairs, wanted)


def many(pairs: list[Pair], caption: str, count: int) -> list[Pair]:
    """One caption at many pictures."""
    return [
        Pair(f"{caption[:12]}-{at}", pair.file, caption, data=pair.data)
        for at, pair in enumerate(pairs[:count])
    ]


def test_align_drops_by_size_length_and_frequency(run: Run, pictures: list[Pair]) -> None:
    pairs = described(pictures)
    different = list({pair.data: pair for pair in pairs}.values())
    pairs += many(different[1:], f"{ENGLISH[0]} in many places", 11)
    pairs += many(different[1:], f"{ENGLISH[1]} in some places", 10)
    other = different[0]
    seen = Counter(pair.data for pair in pairs)
    assert max(seen.values()) < 12
    pairs += [Pair(f"told-{n}", other.file, f"{ENGLISH[2]} number {n}", data=other.data) for n in range(20)]
    pairs += [
        Pair("two", other.file, "green frog", data=other.data),
        Pair("wordy", other.file, f"{ENGLISH[0]} {ENGLISH[1]}", data=other.data),
        Pair("german", other.file, GERMAN, data=other.data),
    ]
    # 1000 captions of one picture would take as many records; the rule is asked for 15 instead.
    found = run("align", pairs, ("distinct: text, max: 1000", "distinct: text, max: 15"))
    english = without_language(found, pairs, surely)
    long_enough = [pair for pair in english if 3 <= len(pair.caption.split()) <= 20]
    captions: dict[bytes, set[str]] = {}
    for pair in long_enough:
        captions.setdefault(pair.data, set()).add(pair.caption)
    told = [pair for pair in long_enough if len(captions[pair.data]) <= 15]
    images: dict[str, set[bytes]] = {}
    for pair in told:
        images.setdefault(pair.caption, set()).add(pair.data)

    def step(pair: Pair) -> str | None:
        if pair not in long_enough:
            return "too_few_words" if len(pair.caption.split()) < 3 else "too_many_words"
        if pair not in told:
            return "captions_of_the_image"
        if len(images[pair.caption]) > 10:
            return "images_of_the_caption"
        return "filter:align" if pair.shorter <= 200 or pair.aspect >= 3 else None

    for pair in english:
        assert found.lost.get(pair.name, (None, ""))[0] == step(pair), pair
    dropped = Counter(step(pair) for pair in english)
    assert dropped.keys() == {
        "too_few_words",
        "too_many_words",
        "captions_of_the_image",
        "images_of_the_caption",
        "filter:align",
        None,
    }
    assert {reason for where, reason in found.lost.values() if where == "filter:align"} == {
        "too_small",
        "too_elongated",
    }


def test_align_drops_captions_with_a_rare_word(run: Run, pictures: list[Pair]) -> None:
    """The words and pairs of the usual captions are the most frequent, and the odd word is not among them."""
    usual = [
        replace(pair, caption=ENGLISH[0]) for pair in pictures[:6] if pair.shorter > 200 and pair.aspect < 3
    ]
    odd = replace(usual[-1], name="odd", caption=f"{ENGLISH[0]} xylophone")
    words = ENGLISH[0].lower().split()
    known = len(set(words)) + len(set(pairwise(words)))
    found = run("align", [*usual, odd], ("size: 100000000", f"size: {known}"))
    assert found.of_step("vocabulary") == {"odd"}
    assert found.kept.keys() == {pair.name for pair in usual}


def test_wukong_keeps_chinese_captions_of_large_pictures(run: Run, pictures: list[Pair]) -> None:
    signs = [
        "青蛙坐在荷叶上看天空",
        "山坡上的红色房子和两棵树",
        "孩子们在花园里玩球",
        "老人在长椅上读报纸",
    ]
    pairs = [
        replace(pair, caption=f"{signs[at % 4]} {at}") if at % 3 else pair for at, pair in enumerate(pictures)
    ]
    other = next(pair for pair in pairs if pair.shorter > 200 and pair.aspect <= 3)
    pairs += [
        Pair("long", other.file, "山" * 32, data=other.data),
        Pair("longest", other.file, "山" * 31, data=other.data),
        Pair("file", other.file, "青蛙.jpg", data=other.data),
    ]
    pairs += many([pair for pair in pairs if pair.shorter > 200 and pair.aspect <= 3], "查看图片来源网页", 11)
    pairs += many([pair for pair in pairs if pair.shorter > 200 and pair.aspect <= 3], "十张图片", 10)
    found = run("wukong", pairs)
    seen = Counter(pair.caption for pair in pairs)

    def rule(pair: Pair) -> tuple[str, str] | None:
        if seen[pair.caption] > 10:
            return "caption_seen_too_often", "too_frequent"
        if not any("\u4e00" <= character <= "\u9fff" for character in pair.caption):
            return "too_few_chinese", "too_few_chinese"
        if len(pair.caption) > 31:
            return "too_many_chars", "too_many_chars"
        if pair.caption.endswith(".jpg"):
            return "file_name", "file_name"
        if pair.shorter <= 200:
            return "filter:wukong", "too_small"
        return ("filter:wukong", "too_elongated") if pair.aspect > 3 else None

    reasons = compare(found, pairs, rule)
    assert reasons.keys() == {
        "too_frequent",
        "too_few_chinese",
        "too_many_chars",
        "file_name",
        "too_small",
        "too_elongated",
    }
    assert {"longest", "十张图片-0"} <= found.kept.keys()
    for name, record in found.kept.items():
        assert record["image"] == next(pair.data for pair in pairs if pair.name == name)


def matches(caption: str) -> set[str]:
    """MetaCLIP's substring matching, as its code describes it."""
    spaced = f" {caption} "
    for mark in ",.;:?!`":
        spaced = spaced.replace(mark, f" {mark} ")
    spaced = re.sub(r"[\t\n\r]", " ", spaced)
    return {entry for entry in MENTIONED if f" {entry} " in spaced}


def numbered(pictures: list[Pair]) -> Iterator[Pair]:
    for at in range(150):
        pair = pictures[at % len(pictures)]
        yield Pair(f"frog-{at}", pair.file, f"A frog in the water of pond {at}.", data=pair.data)


def test_metaclip_keeps_captions_with_entries_and_thins_out_the_frequent(
    run: Run, pictures: list[Pair], tmp_path: Path
) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps(MENTIONED))
    other = pictures[0]
    pairs = [
        *described(pictures),
        *numbered(pictures),
        Pair("blank", other.file, " \t", data=other.data),
        Pair("german", other.file, GERMAN, data=other.data),
        Pair("nothing", other.file, "There is nothing to see here, and nobody says why", data=other.data),
        Pair("part", other.file, "The footballs and bullfrogs of the gardeners are here", data=other.data),
        Pair("lamp", other.file, "There is a lamp: the light of the room in the evening", data=other.data),
        Pair("once", other.file, ENGLISH[2], "https://example.org/twice", other.data),
        Pair("again", other.file, ENGLISH[2], "https://example.org/twice", other.data),
    ]
    found = run("metaclip", pairs, ("t: 20000", "t: 50"))
    assert found.lost["blank"] == ("filter:metaclip", "empty_caption")
    assert found.lost["german"] == ("language", "other_language")
    assert len(found.of_step("dedup:exact") & {"once", "again"}) == 1
    left = [
        pair
        for pair in pairs
        if found.lost.get(pair.name, ("", ""))[0] not in ("filter:metaclip", "language", "dedup:exact")
    ]
    counts = Counter(entry for pair in left for entry in matches(pair.caption))
    assert counts["frog"] > 100
    for pair in left:
        entries = matches(pair.caption)
        if not entries:
            assert found.lost[pair.name][0] == "balance", pair
        elif any(counts[entry] <= 50 for entry in entries):
            assert pair.name in found.kept, pair
    frogs = [pair for pair in left if matches(pair.caption) == {"frog"}]
    kept = sum(pair.name in found.kept for pair in frogs)
    expected = len(frogs) * 50 / counts["frog"]
    assert abs(kept - expected) < 4 * (expected * (1 - 50 / counts["frog"])) ** 0.5
