"""A small model of our own on real pages, some of which CCNet kept as its best third.

CCNet's recorded perplexities cannot be ranked against ours here: all 20 pages are of its bucket `head`, where
most lie between 266 and 338, and a correlation over 20 pages is uncertain by more than 0.2.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from resiliparse.extract.html2text import extract_plain_text
from thresher.scorers.assets import LocalAssets
from thresher.scorers.kenlm import KenLMScorer
from thresher.scorers.kenlm_training import KenLMTrainer
from thresher.scorers.sentencepiece_training import SentencePieceTrainer


@pytest.fixture(scope="module")
def head(shared_data: Path) -> list[str]:
    """Pages that CCNet put into its bucket `head`."""
    files = sorted((shared_data / "text").glob("*.jsonl.gz"))
    pages = [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    return [page["text"] for page in pages if page["metadata"]["bucket"] == "head"]


@pytest.fixture(scope="module")
def articles(shared_data: Path) -> dict[str, str]:
    """Pages by name, and what people marked as their article."""
    truth = json.loads((shared_data / "web/articles/ground-truth.json").read_text(encoding="utf-8"))
    return {name: truth[name]["articleBody"] for name in sorted(truth)}


@pytest.fixture(scope="module")
def scorer(lmplz: object, articles: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> KenLMScorer:
    """Has learned every second article and nothing else."""
    folder = tmp_path_factory.mktemp("models")
    data = {"": [pa.record_batch({"text": list(articles.values())[::2]})]}
    SentencePieceTrainer(vocab_size=2000, held_out=0).fit(data, folder / "sp.model", 0)
    KenLMTrainer(str(folder / "sp.model"), held_out=0).fit(data, folder / "lm.bin", 0)
    made = KenLMScorer("lm.bin", "sp.model", decimals=None)
    made.open(LocalAssets([folder]))
    return made


def perplexities(scorer: KenLMScorer, texts: list[str]) -> npt.NDArray[np.float32]:
    return scorer.score(pa.record_batch({"text": texts}))["perplexity"].to_numpy()  # type: ignore[no-any-return]


def test_the_pages_that_ccnet_calls_head_are_less_surprising_than_whole_pages_with_their_menus(
    scorer: KenLMScorer, head: list[str], articles: dict[str, str], shared_data: Path
) -> None:
    unseen = list(articles)[1::2]
    files = [shared_data / f"web/articles/{name}.html.gz" for name in unseen]
    html = [gzip.decompress(file.read_bytes()).decode("utf-8", "replace") for file in files]
    whole = perplexities(scorer, [extract_plain_text(page, main_content=False) for page in html])
    of_head = perplexities(scorer, head)
    # The chance that a page of the one kind is less surprising than one of the other.
    assert (of_head[:, None] < whole).mean() > 0.75
    bodies = perplexities(scorer, [articles[name] for name in unseen])
    assert (bodies < whole).mean() > 0.85


def test_a_page_that_ccnet_calls_head_is_less_surprising_than_its_words_in_disorder(
    scorer: KenLMScorer, head: list[str]
) -> None:
    chance = random.Random(0)
    disordered = [" ".join(chance.sample(words := text.split(), len(words))) for text in head]
    ratio = perplexities(scorer, disordered) / perplexities(scorer, head)
    assert (ratio > 1).all()
    assert np.median(ratio) > 1.4
