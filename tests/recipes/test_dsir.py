"""The recipe of DSIR on a small crawl, beside the arithmetic of its authors in plain Python."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
from thresher.jobs.training_dsir import train_dsir
from thresher.scorers.assets import LocalAssets
from thresher.scorers.dsir import DsirScorer

SHOP = "buy cheap shoes now , order today : free shipping , the best price of the shop ! a sale for you"
RIVER = "the river ran past the old mill , and a miller watched the water turn its slow wheel of stone ."


def texts_of(words: str, count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(words.split(), k=draw.randint(60, 220))) for _ in range(count)]


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]+", text.lower())


def counts(texts: Iterable[str]) -> Counter[int]:
    found: Counter[int] = Counter()
    for words in map(words_of, texts):
        for one in [*words, *(f"{a} {b}" for a, b in pairwise(words))]:
            found[int(hashlib.sha256(one.encode()).hexdigest(), 16) % 10_000] += 1
    return found


def weights(texts: dict[str, str], target: Iterable[str], raw: Iterable[str]) -> dict[str, float]:
    """The log weight of each text of at least 100 words."""
    inside, outside = counts(target), counts(raw)
    n_inside, n_outside = inside.total(), outside.total()
    return {
        name: sum(
            count * (math.log(inside[i] / n_inside + 1e-8) - math.log(outside[i] / n_outside + 1e-8))
            for i, count in counts([text]).items()
        )
        for name, text in texts.items()
        if len(words_of(text)) >= 100
    }


def records(path: Path, texts: dict[str, str]) -> str:
    lines = [json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items()]
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


def test_the_texts_with_the_largest_weights_by_the_authors_arithmetic_are_kept(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    shop = {f"shop-{n}": text for n, text in enumerate(texts_of(SHOP, 40, 1))}
    river = {f"river-{n}": text for n, text in enumerate(texts_of(RIVER, 12, 2))}
    raw = dict(sorted({**shop, **river}.items()))
    target = texts_of(RIVER, 30, 3)
    train_dsir(
        [records(tmp_path / "target.jsonl", {str(n): text for n, text in enumerate(target)})],
        [records(folder / "raw.jsonl", raw)],
        tmp_path / "made" / "dsir.npz",
        seed=0,
    )

    made = [tmp_path / "made" / "dsir.npz"]
    found = run("dsir", f"input.0.path={folder / 'raw.jsonl'}", models=made)

    expected = weights(raw, target, raw.values())
    best = sorted(expected, key=expected.__getitem__, reverse=True)[: len(expected) // 10]
    assert set(found.kept) == set(best)
    assert all(name.startswith("river") for name in best)
    for name in best:
        assert found.kept[name]["dsir"] == pytest.approx(expected[name], rel=1e-9)
    short = {name for name, lost in found.lost.items() if lost == ("score:dsir", "null_score")}
    assert short == set(raw) - set(expected) != set()


def test_a_weight_can_be_made_one_of_each_word_and_the_ledger_say_what_was_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = {f"{n}": text for n, text in enumerate([*texts_of(RIVER, 6, 4), *texts_of(SHOP, 6, 5)])}
    records(tmp_path / "raw.jsonl", raw)
    records(tmp_path / "river.jsonl", {"r": texts_of(RIVER, 1, 6)[0]})
    records(tmp_path / "shop.jsonl", {"s": texts_of(SHOP, 1, 7)[0]})
    train_dsir(["river=river.jsonl", "shop=shop.jsonl"], ["raw.jsonl"], tmp_path / "dsir.npz", seed=0)
    scorer = {"statistics": "dsir.npz", "target": ["river", "shop"], "min_tokens": 0, "tokens": True}
    job = {
        "name": "dsir",
        "input": [{"path": "raw.jsonl"}],
        "steps": [
            {"score": {"dsir": scorer}, "as": "like"},
            {"score": {"expr": {"value": "(like_river - like_shop) / like_tokens"}}, "as": "per_word"},
            {"rule": "like_tokens >= 100", "name": "too_short"},
        ],
        "output": {"path": "out/"},
        "run": {"workers": 1, "work": "work/"},
    }
    (tmp_path / "job.yaml").write_text(json.dumps(job), encoding="utf-8")
    output = Path(thresher.run(thresher.load(tmp_path / "job.yaml")).output)
    manifest = json.loads((output / "manifest.json").read_text())
    kept = [row for shard in manifest["shards"] for row in pq.read_table(output / shard["path"]).to_pylist()]
    long = {name for name, text in raw.items() if len(words_of(text)) >= 100}
    assert {row["id"] for row in kept} == long
    assert manifest["totals"]["dropped"] == {"too_short": {"too_short": len(raw) - len(long)}}
    for row in kept:
        assert row["like_tokens"] == len(words_of(row["text"]))
        assert row["per_word"] == (row["like_river"] - row["like_shop"]) / row["like_tokens"]
        assert (row["per_word"] > 0) == (int(row["id"]) < 6)


@pytest.mark.slow
def test_real_texts_of_one_file_are_told_from_those_of_another(shared_data: Path, tmp_path: Path) -> None:
    """Half of the texts of a file as target: the other half outranks most texts of another kind."""
    files = sorted((shared_data / "text").glob("*.jsonl.gz"))
    if not files:
        pytest.skip("no texts of Common Crawl")
    lines = [line for path in files for line in gzip.decompress(path.read_bytes()).splitlines()]
    prose = {str(n): json.loads(line)["text"] for n, line in enumerate(lines)}
    source = {f.name: f.read_text(encoding="utf-8") for f in Path(json.__file__).parent.glob("*.py")}
    raw = {**dict(list(prose.items())[::2]), **dict(list(source.items())[::2])}
    target = list(prose.values())[1::2]
    train_dsir(
        [records(tmp_path / "target.jsonl", {str(n): text for n, text in enumerate(target)})],
        [records(tmp_path / "raw.jsonl", raw)],
        tmp_path / "dsir.npz",
        seed=0,
    )
    scorer = DsirScorer("dsir.npz")
    scorer.open(LocalAssets([tmp_path]))
    names = [name for name, text in raw.items() if len(words_of(text)) >= 100]
    batch = pa.record_batch({"text": pa.array([raw[name] for name in names])})
    found = dict(zip(names, scorer.score(batch)["log_weight"].to_pylist(), strict=True))
    expected = weights(raw, target, raw.values())
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    per_word = {name: value / len(words_of(raw[name])) for name, value in found.items()}
    code = [value for name, value in per_word.items() if name in source]
    assert min(value for name, value in per_word.items() if name in prose) > max(code)
