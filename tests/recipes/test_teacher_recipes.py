"""The recipes whose classifier learns from a teacher, as they are printed, each beside its arithmetic.

The language models know words one by one, so that their losses can be computed by hand: of six models the
first expects words of rivers, the last words of shops, and those between expect a little of both.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import thresher
from inline_engine import inline_tasks
from thresher.jobs import recipe_book
from thresher.jobs.training_benchmark_ranks import rank_for_benchmarks
from thresher.jobs.training_correlations import train_correlations
from thresher.jobs.training_student import train_student
from thresher.pipeline.mixture_weights import read_weights
from thresher.scorers.lm.packages import import_transformers

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

RIVER = ["river", "water", "mill", "stone", "bank", "bridge", "boat", "fish", "reed", "meadow", "rain"]
SHOP = ["buy", "cheap", "sale", "order", "price", "shipping", "deal", "offer", "cart", "login", "free"]
WORDS = [*RIVER, *SHOP, "the", "and", "of", "a"]
VOCABULARY = {word: number for number, word in enumerate(["<s>", "<unk>", *WORDS])}
SMALL = {"dim": 8, "bucket": 1000, "epoch": 40, "lr": 0.5}
DOMAINS = [f"site-{letter}.org" for letter in "abcdef"]


@pytest.fixture(autouse=True)
def _inline() -> Iterator[None]:
    with inline_tasks():
        yield


def frequencies(about: Sequence[str]) -> np.ndarray:
    """Logarithms of how often each word of the vocabulary occurs in texts about something."""
    weights = np.array([0.02 if word.startswith("<") else 3 if word in about else 1 for word in VOCABULARY])
    return np.log(weights / weights.sum())


def logits(shop: float) -> np.ndarray:
    return (1 - shop) * frequencies(RIVER) + shop * frequencies(SHOP)


def write_tokenizer(folder: Path) -> None:
    import tokenizers
    from tokenizers import models, pre_tokenizers

    tokenizer: Any = tokenizers.Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


def write_lm(folder: Path, shop: float) -> None:
    """A language model for which what comes before a word says nothing of it."""
    transformers: Any = import_transformers()
    config = transformers.LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    network = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        network.model.embed_tokens.weight.fill_(1)
        network.model.norm.weight.fill_(1)
        network.lm_head.weight.copy_(torch.tensor(logits(shop) / 16)[:, None].expand(-1, 16))
    network.save_pretrained(str(folder))
    write_tokenizer(folder)


def write_encoder(folder: Path) -> None:
    transformers: Any = import_transformers()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.BertModel(
            transformers.BertConfig(
                vocab_size=len(VOCABULARY),
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=256,
                initializer_range=0.3,
            )
        )
    network.save_pretrained(str(folder))
    write_tokenizer(folder)


def bits_per_byte(text: str, shop: float) -> float:
    scaled = logits(shop)
    log_probabilities = scaled - math.log(np.exp(scaled).sum())
    nats = -sum(log_probabilities[VOCABULARY[word]] for word in text.split())
    return float(nats / math.log(2) / len(text.encode()))


def pages(count: int, seed: int) -> list[dict[str, str]]:
    """Pages of six sites, of which the first speaks of rivers and the last of shops."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        site = number % len(DOMAINS)
        shares = [1 - site / 5, site / 5]
        words = [
            draw.choice(draw.choices([RIVER, SHOP], shares)[0]) if draw.random() < 0.6 else draw.choice(WORDS)
            for _ in range(draw.randint(40, 90))
        ]
        url = f"https://{DOMAINS[site]}/{number}"
        made.append({"id": f"page-{number:03d}", "text": " ".join(words), "url": url})
    return made


Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a recipe as it is printed, or another job, over a file; returns what stayed."""
    monkeypatch.chdir(tmp_path)

    def run_job(
        name: str, records: list[dict[str, str]], *overrides: str, text: str = ""
    ) -> list[dict[str, Any]]:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        (tmp_path / f"{name}.yaml").write_text(text or recipe_book.read(name).text, encoding="utf-8")
        given = [f"input.0.path={name}.jsonl", "run.workers=1", f"run.work=work-{name}", *overrides]
        output = Path(thresher.run(thresher.load(tmp_path / f"{name}.yaml", given)).output)
        shards = json.loads((output / "manifest.json").read_text())["shards"]
        return [row for shard in shards for row in pq.read_table(output / shard["path"]).to_pylist()]

    return run_job


def best_characters(rows: list[dict[str, Any]], by: str, records: list[dict[str, str]]) -> None:
    """AssertionError unless what stayed is at most a tenth of all characters, and the next would be more."""
    lengths = {record["id"]: len(record["text"]) for record in records}
    kept = sum(lengths[row["id"]] for row in rows)
    budget = sum(lengths.values()) / 10
    assert budget - max(lengths.values()) < kept <= budget
    assert min(row[by] for row in rows) > 0.5


def share_of_rivers(records: Sequence[dict[str, Any]]) -> float:
    words = [word for record in records for word in record["text"].split()]
    return sum(word in RIVER for word in words) / len(words)


def test_preselect_keeps_what_is_like_texts_whose_losses_rank_six_models_right(
    run: Run, tmp_path: Path
) -> None:
    names = ["llama-65b", "llama-30b", "llama-2-13b", "llama-13b", "llama-2-7b", "llama-7b"]
    for number, name in enumerate(names):
        write_lm(tmp_path / name, number / 5)
    sample = pages(90, 1)
    scored = run("preselect-teacher", sample, "steps.0.sample=1.0")
    assert len(scored) == len(sample)
    for row in scored:
        losses = [row[f"loss_{number}"] for number in range(1, 7)]
        expected = [bits_per_byte(row["text"], number / 5) for number in range(6)]
        assert losses == pytest.approx(expected, rel=0.02)
        assert row["agreement"] == sum(better < worse for better, worse in combinations(losses, 2))
    right = [row for row in scored if row["agreement"] == 15]
    assert 5 < len(right) < 45

    learned = train_student(
        [str(tmp_path / "preselect-teacher")],
        tmp_path / "preselect.bin",
        by="agreement",
        least=15,
        others="lowest",
        label="1",
        parameters={**SMALL, "held_out": 0.0},
    )
    assert (learned["positive"], learned["negative"]) == (len(right), len(right))
    assert learned["documents"] == {"1": len(right), "not_1": len(right)}
    crawl = pages(200, 2)
    kept = run("preselect", crawl)
    best_characters(kept, "preselect", crawl)
    assert share_of_rivers(kept) > share_of_rivers(crawl) + 0.15


def test_perplexity_correlations_keep_what_is_like_the_domains_that_good_models_find_easy(
    run: Run, tmp_path: Path
) -> None:
    shops = {"pythia_160m": 1.0, "pythia_1b": 0.5, "llama_7b": 0.0}
    for name, shop in shops.items():
        write_lm(tmp_path / name.replace("_", "-"), shop)
    (tmp_path / "scores.csv").write_text(
        "benchmark,pythia_160m,llama_7b,pythia_1b,unused\narc,0.7,0.3,0.5,0.1\npiqa,0.5,0.3,0.45,0.2\n"
    )
    sample = pages(120, 3)
    scored = run("perplexity-correlations-teacher", sample, "steps.1.select.cap=15")
    assert len(scored) == 15 * len(DOMAINS)
    for row in scored:
        expected = [bits_per_byte(row["text"], shop) for shop in shops.values()]
        assert [row[name] for name in shops] == pytest.approx(expected, rel=0.02)

    told = train_correlations(
        [str(tmp_path / "perplexity-correlations-teacher")],
        str(tmp_path / "scores.csv"),
        tmp_path / "weights.json",
        share=0.4,
    )
    errors = {"pythia_160m": 0.6, "pythia_1b": 0.475, "llama_7b": 0.3}
    estimates = {}
    for domain in DOMAINS:
        rows = [row for row in scored if row["signal_domain"] == domain]
        means = {name: sum(row[name] for row in rows) / len(rows) for name in shops}
        ranks = [sorted(found, key=found.__getitem__) for found in (means, errors)]
        squares = sum((ranks[0].index(name) - ranks[1].index(name)) ** 2 for name in shops)
        estimates[domain] = 1 - 6 * squares / (3 * 8)
    assert estimates[DOMAINS[0]] == 1 > estimates[DOMAINS[-1]]
    # Each domain may weigh (1 / 6) / 0.4, so two and the better part of another fit.
    best = sorted(DOMAINS, key=lambda domain: (-estimates[domain], domain))
    limit = 1 / 6 / 0.4
    expected_weights = dict.fromkeys(DOMAINS, 0.0) | dict(
        zip(best, [limit, limit, 1 - 2 * limit], strict=False)
    )
    assert json.loads((tmp_path / "weights.json").read_text()) == pytest.approx(expected_weights)
    assert set(read_weights("weights.json", tmp_path)) == set(best[:3])
    assert (told["included"], told["domains"]) == (3, 6)
    assert told["share_of_text"] == pytest.approx(0.5)
    assert sorted(told["models"]) == sorted(shops)

    learned = train_student(
        [str(tmp_path / "perplexity-correlations-teacher")],
        tmp_path / "include.bin",
        weights=tmp_path / "weights.json",
        label="include",
        parameters=SMALL,
    )
    assert (learned["positive"], learned["negative"]) == (45, 45)
    crawl = pages(200, 4)
    kept = run("perplexity-correlations", crawl)
    best_characters(kept, "include", crawl)
    assert share_of_rivers(kept) > share_of_rivers(crawl) + 0.15


def test_betr_keeps_what_is_like_the_documents_that_examples_rank_first(run: Run, tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    examples = [
        {"id": f"example-{n}", "text": page["text"]}
        for n, page in enumerate(page for page in pages(90, 5) if DOMAINS[0] in page["url"])
    ]
    job = """
        name: examples
        input: [{path: x}]
        steps: [{score: {encoder: {model: encoder}}, as: embedding}]
        output: {path: examples/}
    """
    targets = run("examples", examples, text=job)
    sample = run("betr-teacher", pages(120, 6), "steps.0.sample=1.0")
    told = rank_for_benchmarks(
        [str(tmp_path / "betr-teacher")],
        [str(tmp_path / "examples")],
        tmp_path / "ranked.parquet",
    )
    assert (told["ranked"], told["examples"]) == (120, 15)
    matrices = [np.array([row["embedding"] for row in rows], np.float64) for rows in (sample, targets)]
    documents, wanted = (matrix / np.linalg.norm(matrix, axis=1)[:, None] for matrix in matrices)
    near = documents @ wanted.T
    best = {
        row["id"]: min(1 + int((near[:, i] > near[j, i]).sum()) for i in range(15))
        for j, row in enumerate(sample)
    }
    ranked = pq.read_table(tmp_path / "ranked.parquet").to_pylist()
    assert {row["id"]: row["benchmark_rank"] for row in ranked} == best
    assert all(row["benchmark_score"] == 1 / row["benchmark_rank"] for row in ranked)
    assert "embedding" not in ranked[0]

    learned = train_student(
        [str(tmp_path / "ranked.parquet")],
        tmp_path / "betr.bin",
        by="benchmark_score",
        top=0.1,
        others="drawn",
        label="target",
        parameters={**SMALL, "held_out": 0.0},
    )
    assert (learned["positive"], learned["negative"]) == (12, 12)
    crawl = pages(200, 7)
    kept = run("betr", crawl)
    best_characters(kept, "target", crawl)
    assert share_of_rivers(kept) > share_of_rivers(crawl) + 0.1


def test_dclms_classifier_keeps_the_tenth_that_is_most_like_what_is_called_good(
    run: Run, tmp_path: Path
) -> None:
    from thresher.jobs.training import train_fasttext

    sides = {"good": DOMAINS[0], "web": DOMAINS[-1]}
    for name, domain in sides.items():
        rows = [page for page in pages(180, 8) if domain in page["url"]]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train_fasttext(
        [str(tmp_path / "good.jsonl")],
        [str(tmp_path / "web.jsonl")],
        tmp_path / "hq.bin",
        label="hq",
        seed=0,
        parameters=SMALL,
    )
    crawl = pages(100, 9)
    kept = run("dclm-fasttext", crawl)
    assert len(kept) == 10
    assert share_of_rivers(kept) > share_of_rivers(crawl) + 0.15
