"""fastText scores against the library's own predictions."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.fasttext import FastTextScorer
from thresher.scorers.training import FastTextTrainer

fasttext = pytest.importorskip("fasttext")
if not hasattr(fasttext, "train_supervised"):
    pytest.skip("needs a fastText that trains", allow_module_level=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    documents = {"hq": "proof lemma theorem", "lq": "buy now free", "mid": "the cat sat"}
    data = {label: [pa.record_batch({"text": [text] * 20})] for label, text in documents.items()}
    FastTextTrainer(dim=4, bucket=100, held_out=0.0).fit(data, folder / "hq.bin", 0)
    (folder / "notes.txt").write_text("not a model")
    return folder


def opened(models: Path, label: str = "hq") -> FastTextScorer:
    scorer = FastTextScorer("hq.bin", label)
    scorer.open(LocalAssets([models]))
    return scorer


def native(models: Path, text: str, label: str) -> float:
    model = fasttext.load_model(str(models / "hq.bin"))
    pairs = model.f.predict(text.replace("\n", " ") + "\n", -1, -1.0, "strict")
    return min({name: probability for probability, name in pairs}[f"__label__{label}"], 1.0)


@pytest.mark.parametrize("label", ["hq", "lq", "mid"])
def test_scores_are_the_probabilities_that_fasttext_gives_one_by_one(models: Path, label: str) -> None:
    texts = [
        "proof of a lemma",
        "buy\nfree\nstuff",
        "the cat",
        "unknown",
        "漢字 🦄",
        "nul\0theorem",
        "x" * 10_000,
    ]
    found = opened(models, label).score(pa.record_batch({"text": texts}))["score"]
    assert found.type == pa.float32()
    assert found.to_pylist() == pytest.approx([native(models, text, label) for text in texts], abs=1e-6)


def test_texts_without_a_word_have_no_score(models: Path) -> None:
    texts = [None, "", " \n\t", "\0\0", "\u3000\xa0", "word"]
    found = opened(models).score(pa.record_batch({"text": pa.array(texts)}))["score"]
    assert [value is None for value in found.to_pylist()] == [True, True, True, True, True, False]


@given(texts=st.lists(st.one_of(st.none(), st.text(max_size=30)), max_size=8), edge=st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_any_text_has_a_probability_or_no_score_however_batches_are_cut(
    models: Path, texts: list[str | None], edge: int
) -> None:
    scorer = opened(models)
    batch = pa.record_batch({"text": pa.array(texts, pa.large_string())})
    whole = scorer.score(batch)["score"]
    parts = [scorer.score(part)["score"] for part in (batch.slice(0, edge), batch.slice(edge))]
    assert pa.concat_arrays(parts).equals(whole)
    assert all(value is None or 0 <= value <= 1 for value in whole.to_pylist())


def test_the_label_may_be_written_with_its_prefix(models: Path) -> None:
    batch = pa.record_batch({"text": ["the proof"]})
    assert opened(models, "__label__hq").score(batch)["score"].equals(opened(models).score(batch)["score"])


def test_a_missing_model_a_wrong_file_and_a_wrong_label_are_told_apart(models: Path) -> None:
    with pytest.raises(AssetError, match="no label 'quality'; it has hq, lq, mid"):
        opened(models, "quality")
    with pytest.raises(AssetError, match=r"no model file 'none\.bin'"):
        FastTextScorer("none.bin", "hq").open(LocalAssets([models]))
    with pytest.raises(AssetError, match="not a fastText model"):
        FastTextScorer("notes.txt", "hq").open(LocalAssets([models]))
