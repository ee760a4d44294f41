"""A small crawl with pages that published pipelines are known to drop, and the models that recipes need."""

from __future__ import annotations

import gzip
import html
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import thresher
from thresher.jobs import recipe_book
from thresher.jobs.training import train_fasttext
from thresher.jobs.training_kenlm import train_kenlm, train_sentencepiece
from thresher.schemas.contracts import AssetError
from thresher.scorers import kenlm_tools

PEOPLE = "gardeners sailors teachers bakers painters farmers doctors printers weavers miners hunters writers"
DOERS = "keepers builders travellers students musicians fishermen engineers librarians"
VERBS = (
    "remembered described repaired collected painted measured carried discovered followed protected counted"
)
THINGS = (
    "bridges lanterns letters orchards harbours clocks mirrors kettles ladders violins maps baskets engines"
)
WHERE = (
    "villages valleys islands forests markets stations castles meadows deserts workshops kitchens libraries"
)
WHEN = "winter summer autumn spring morning evening night harvest"
HOW = "quietly carefully slowly proudly secretly gladly badly quickly"
KINDS = "old broken heavy silver narrow distant famous wooden bright empty hidden simple"

SHAPES = (
    "The {people} of these {kinds} {where} {verbs} {things} before the {when}, and never said why.",
    "In {when} there were {things} to be found near {where}, with {doers} watching {how}.",
    "Many {doers} believe that {people} {how} {verbs} the {kinds} {things}.",
    "It was a {kinds} {when}: {doers} in the {where} {verbs} what {people} left behind.",
    "Nobody knows whether {people} or {doers} {verbs} such {kinds} {things} with {where} in mind.",
    "When {doers} returned to their {where}, they {how} {verbs} all {things} for {people}.",
    "Between {kinds} {where} and the sea, {people} have {verbs} {things} ever since.",
    "A book about {things} tells us how {doers} {verbs} {where} by the light of {things}.",
    "To {people}, all {things} seem {kinds}, but that does not worry {doers} from {where}.",
    "Some say the {when} was made for {doers}, for {people}, and for {kinds} {things}.",
    "What {people} {verbs} with such care was soon forgotten by {doers} in {where}.",
    "Of all {kinds} {things} that {doers} {verbs}, only {things} have survived the {when}.",
    "Ask {people} about {where}; they will {how} show you {kinds} {things}.",
    "Every {when} brings {doers} and {people} together in {where} to talk of {things}.",
    "There is no better place to be than {kinds} {where}, as {doers} have {how} {verbs}.",
    "They who {how} {verbs} {where} must be {people}, for {things} are not of that kind.",
)
LISTS = {
    "people": PEOPLE,
    "doers": DOERS,
    "verbs": VERBS,
    "things": THINGS,
    "where": WHERE,
    "when": WHEN,
    "how": HOW,
    "kinds": KINDS,
}
GERMAN = (
    "Die Amsel singt am frühen Morgen auf dem Dach, und wer dann schon wach ist, hört sie in der Küche.",
    "Im Winter bleibt sie bei uns und sucht unter den Hecken nach Futter, wenn der Schnee nicht hoch liegt.",
    "Die Kinder haben ihr ein Haus aus Holz gebaut, das nun im Garten zwischen den Apfelbäumen steht.",
    "Jeden Abend kommt der Nachbar mit einer Schale voll Körner und bleibt eine Weile am Zaun stehen.",
)


def sentences(seed: int, count: int) -> list[str]:
    """English sentences, no two of the same shape among sixteen that follow one another."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        shape = SHAPES[(seed + number) % len(SHAPES)]
        while "{" in shape:
            name = shape[shape.index("{") + 1 : shape.index("}")]
            shape = shape.replace("{" + name + "}", draw.choice(LISTS[name].split()), 1)
        made.append(shape)
    return made


def prose(seed: int, paragraphs: int = 5) -> list[str]:
    """An article: paragraphs of three sentences."""
    found = sentences(seed, 3 * paragraphs)
    return [" ".join(found[at : at + 3]) for at in range(0, len(found), 3)]


SHARED = "This very sentence stands at the foot of all the pages of this site."


@dataclass(frozen=True)
class Page:
    """A page of the crawl: its paragraphs, and its address where that is not made from its name."""

    name: str
    lines: list[str]
    url: str = ""

    @property
    def address(self) -> str:
        return self.url or f"https://example.org/{self.name}"


def pages() -> list[Page]:
    """Good pages, and for each rule that a test asks about a page that breaks it and no earlier one."""
    good = [Page(f"good-{n:02d}", prose(n)) for n in range(12)]
    near = list(good[1].lines)
    near[3] = near[3].replace("s ", "s even ", 1)
    bullets = [f"• {line}" for line in sentences(77, 16)]
    menu = [f"{what} and {where}" for what in THINGS.split() for where in WHERE.split()[:3]]
    return [
        *good,
        Page("copy", good[0].lines),
        Page("near", near),
        Page("again", prose(50), good[2].address),
        Page("mirror", [*good[5].lines, "One sentence of its own is all that this page has."]),
        Page("german", [" ".join(random.Random(n).sample(GERMAN, 4)) for n in range(5)]),
        Page("short", sentences(51, 2)),
        Page("repeated", [*prose(52)[:4], *[prose(53)[0]] * 6]),
        Page("hashes", [line.replace(" ", " # ", 8) for line in prose(54)]),
        Page("bullets", bullets),
        Page("lorem", [*prose(55), "The page ends with lorem ipsum, and with nothing else at all."]),
        Page("curly", [*prose(56), "Nobody should read { this: 1 } as if it were a part of the text."]),
        Page("menu", [*prose(57)[:2], *menu]),
        Page("shouting", [*prose(58, 4), *[line.upper() for line in sentences(59, 3)]]),
        Page("one-share", [*prose(60), "31 likes"]),
        Page("cookies", [*prose(61), "This site uses cookies so that it can be of more use to its readers."]),
        Page(
            "address",
            [*prose(62), "You may write to jane.doe@mail.net, whose machine is 93.184.216.34 to others."],
        ),
        Page("shared-1", [*prose(63), SHARED]),
        Page("shared-2", [*prose(64), SHARED]),
    ]


def as_warc(page: Page) -> bytes:
    """A response record with the page as HTML, compressed."""
    body = "".join(f"<p>{html.escape(line)}</p>\n" for line in page.lines)
    document = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{page.name}</title></head>\n'
        f"<body><nav><a href='/'>Home</a> <a href='/about'>About</a></nav>\n"
        f"<article>\n{body}</article>\n</body></html>"
    ).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    return _record(page, "response", "application/http; msgtype=response", head + document)


def as_wet(page: Page) -> bytes:
    """A conversion record with the page's text, compressed."""
    return _record(page, "conversion", "text/plain", "\n".join(page.lines).encode())


def _record(page: Page, kind: str, content_type: str, block: bytes) -> bytes:
    headers = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:page:{page.name}>\r\n"
        f"WARC-Target-URI: {page.address}\r\nWARC-Date: 2024-01-02T03:04:05Z\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return gzip.compress(headers.encode() + block + b"\r\n\r\n", mtime=0)


@pytest.fixture(scope="session")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pages as WARC and as WET."""
    folder = tmp_path_factory.mktemp("crawl")
    made = pages()
    (folder / "sample.warc.gz").write_bytes(b"".join(map(as_warc, made)))
    (folder / "sample.warc.wet.gz").write_bytes(b"".join(map(as_wet, made)))
    return folder


@dataclass(frozen=True)
class Outcome:
    """What a run left."""

    totals: dict[str, Any]
    kept: dict[str, dict[str, Any]]  # page: its record
    lost: dict[str, tuple[str, str]]  # page: step and reason, or the page that stands for it
    values: dict[str, str]  # page: the value that decided


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path, crawl: Path) -> Run:
    """Runs a recipe as it is printed, in a folder of its own, on the sample crawl or on another."""

    def run_recipe(name: str, *overrides: str, source: Path = crawl, models: Sequence[Path] = ()) -> Outcome:
        (tmp_path / "job.yaml").write_text(recipe_book.read(name).text, encoding="utf-8")
        (tmp_path / "crawl").symlink_to(source)
        for path in models:
            (tmp_path / path.name).symlink_to(path)
        job = thresher.load(tmp_path / "job.yaml", (*overrides, "run.workers=2"))
        result = thresher.run(job)
        return read(Path(result.output), result.totals)

    return run_recipe


def read(out: Path, totals: dict[str, Any]) -> Outcome:
    """The shards and the ledger, by the pages' names. AssertionError where the accounts do not add up."""
    manifest = json.loads((out / "manifest.json").read_text())
    rows = [row for shard in manifest["shards"] for row in pq.read_table(out / shard["path"]).to_pylist()]
    ledger = pq.read_table(out / "ledger").to_pylist()
    dropped = sum(sum(reasons.values()) for reasons in totals["dropped"].values())
    duplicates, errors = sum(totals["duplicates"].values()), sum(totals["errors"].values())
    assert totals["in"] == totals["kept"] + dropped + duplicates + errors
    assert (len(rows), len(ledger)) == (totals["kept"], dropped + duplicates + errors)
    lost = {
        _name(row["id"]): (
            row["step"],
            _name(row["value"]) if row["verdict"] == "duplicate" else row["reason"],
        )
        for row in ledger
    }
    values = {_name(row["id"]): row["value"] for row in ledger}
    return Outcome(totals, {_name(row["id"]): row for row in rows}, lost, values)


def _name(record: str) -> str:
    return record.strip("<>").removeprefix("urn:page:")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, crawl: Path) -> Path:
    """hq.bin: tells articles about orchards from the crawl."""
    folder = tmp_path_factory.mktemp("classifier")
    good = [" ".join(line for line in sentences(seed, 64) if "orchards" in line) for seed in range(400, 440)]
    (folder / "good.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in good))
    small = {"dim": 10, "bucket": 1000, "epoch": 20}
    train_fasttext(
        [str(folder / "good.jsonl")],
        [str(crawl / "*.warc.wet.gz")],
        folder / "hq.bin",
        label="hq",
        seed=1,
        parameters=small,
    )
    return folder / "hq.bin"


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A tokenizer and a 5-gram model by the names that CCNet gives them; skipped where KenLM is missing."""
    pytest.importorskip("kenlm", reason="needs the package kenlm")
    pytest.importorskip("sentencepiece", reason="needs the package sentencepiece")
    try:
        kenlm_tools.find()
    except AssetError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("language-model")
    texts = [" ".join(prose(seed)) for seed in range(500, 700)]
    (folder / "wiki.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    tokenizer, model, inputs = folder / "en.sp.model", folder / "en.arpa.bin", [str(folder / "wiki.jsonl")]
    train_sentencepiece(inputs, tokenizer, seed=1, parameters={"vocab_size": 200})
    train_kenlm(inputs, model, tokenizer=tokenizer, seed=1)
    return [tokenizer, model]
