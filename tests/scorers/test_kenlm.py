"""Perplexity against what the libraries and CCNet's formula give one document at a time."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.filters.text.ccnet import normalize
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.kenlm import KenLMScorer
from thresher.scorers.kenlm_training import KenLMTrainer
from thresher.scorers.sentencepiece_training import SentencePieceTrainer
from thresher.scorers.testing import check_scorer

SENTENCE = "the river crosses a wide plain before it meets another river near the old town of stone houses"
WORDS = SENTENCE.split(" ")


def sentences(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(4, 12))).capitalize() + "." for _ in range(count)]


@pytest.fixture(scope="module")
def models(lmplz: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    batch = [pa.record_batch({"text": sentences(300, 1)})]
    SentencePieceTrainer(vocab_size=40, held_out=0).fit({"": batch}, folder / "sp.model", 0)
    KenLMTrainer(str(folder / "sp.model"), order=3, held_out=0).fit({"": batch}, folder / "lm.bin", 0)
    (folder / "notes.txt").write_text("not a model")
    return folder


def opened(models: Path, **arguments: object) -> KenLMScorer:
    scorer = KenLMScorer("lm.bin", "sp.model", **arguments)  # type: ignore[arg-type]
    scorer.open(LocalAssets([models]))
    return scorer


def ccnet(models: Path, text: str | None, separate: bool, normal: bool) -> float | None:
    """The formula of CCNet's class DocLM, over the lines it is given."""
    import kenlm
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(models / "sp.model"))
    model = kenlm.Model(str(models / "lm.bin"))
    lines = (text or "").split("\n") if separate else [text or ""]
    if normal:
        lines = [normalize(pa.array([line])).to_pylist()[0] for line in lines]
    score, length, found = 0.0, 0, 0
    for line in lines:
        tokenized = " ".join(pieces.encode_as_pieces(line))
        score += sum(prob for prob, _, _ in model.full_scores(tokenized))
        length += len(tokenized.split()) + 1
        found += len(tokenized.split())
    return 10.0 ** (-score / length) if found else None


TEXTS = st.lists(
    st.none()
    | st.text(max_size=30)
    | st.lists(st.sampled_from([*sentences(20, 2), "", "Ω 漢字", "12 345"]), max_size=6).map("\n".join),
    max_size=4,
)


@settings(max_examples=60)
@given(TEXTS, st.booleans(), st.booleans())
def test_perplexity_is_that_of_the_libraries_line_by_line(
    models: Path, texts: list[str | None], separate: bool, normal: bool
) -> None:
    scorer = opened(
        models,
        lines="separate" if separate else "joined",
        normalize="ccnet" if normal else "none",
        decimals=None,
    )
    texts = [None if text is None else text.replace("\0", "") for text in texts]
    found = scorer.score(pa.record_batch({"text": pa.array(texts, pa.string())}))["perplexity"].to_pylist()
    for value, text in zip(found, texts, strict=True):
        wanted = ccnet(models, text, separate, normal)
        assert value == (None if wanted is None else pytest.approx(wanted, rel=1e-4))


def test_values_are_rounded_as_ccnet_rounds_them_unless_told_otherwise(models: Path) -> None:
    batch = pa.record_batch({"text": sentences(20, 3)})
    exact = opened(models, decimals=None).score(batch)["perplexity"].to_pylist()
    for decimals in (1, 0, 3):
        rounded = opened(models, decimals=decimals).score(batch)["perplexity"]
        assert rounded.equals(pa.array([round(value, decimals) for value in exact], pa.float32()))
    assert (
        opened(models)
        .score(batch)["perplexity"]
        .equals(opened(models, decimals=1).score(batch)["perplexity"])
    )


def test_text_like_the_training_text_is_less_surprising(models: Path) -> None:
    like, unlike = sentences(1, 9)[0], "zq kx wv jj pq"
    batch = pa.record_batch({"text": [like, unlike]})
    good, bad = opened(models).score(batch)["perplexity"].to_pylist()
    assert good < bad / 5


def test_the_details_are_what_the_perplexity_is_made_of(models: Path) -> None:
    batch = pa.record_batch({"text": [*sentences(3, 4), None, " \n", "one\n\ntwo"]})
    found = opened(models, details=True, decimals=None, lines="separate").score(batch)
    assert list(found) == ["perplexity", "log_score", "words"]
    rows = zip(*(found[name].to_pylist() for name in found), strict=True)
    for perplexity, score, words in list(rows):
        assert perplexity == (None if words is None else pytest.approx(10 ** (-score / words), rel=1e-4))
    assert found["words"].to_pylist()[3:5] == [None, None]
    (pieces,) = opened(models, details=True).score(batch.slice(5))["words"].to_pylist()
    assert found["words"].to_pylist()[5] >= pieces


def test_scoring_ends_at_max_chars(models: Path) -> None:
    start = sentences(1, 5)[0]
    batch = pa.record_batch({"text": [start + " é" * 100, start]})
    cut, whole = opened(models, max_chars=len(start)).score(batch)["perplexity"].to_pylist()
    assert cut == whole
    other, _ = opened(models).score(batch)["perplexity"].to_pylist()
    assert other != whole


def test_the_scorer_keeps_the_promises_of_the_contract(models: Path) -> None:
    for arguments in ({}, {"lines": "separate", "details": True}, {"normalize": "none"}):
        check_scorer(KenLMScorer("lm.bin", "sp.model", **arguments), assets=LocalAssets([models]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normalize": "nfc"}, "normalize is 'nfc'; write ccnet or none"),
        ({"lines": "each"}, "lines is 'each'; write joined or separate"),
        ({"max_chars": 0}, "max_chars is 0"),
    ],
)
def test_wrong_arguments_are_told(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KenLMScorer("lm.bin", "sp.model", **arguments)  # type: ignore[arg-type]


def test_wrong_files_are_told_apart(models: Path) -> None:
    assets = LocalAssets([models])
    with pytest.raises(AssetError, match=r"notes\.txt: not a KenLM model"):
        KenLMScorer("notes.txt", "sp.model").open(assets)
    with pytest.raises(AssetError, match=r"notes\.txt: not a SentencePiece model"):
        KenLMScorer("lm.bin", "notes.txt").open(assets)
    with pytest.raises(AssetError, match=r"no model file 'none\.bin'"):
        KenLMScorer("none.bin", "sp.model").open(assets)
    (models / "cut.bin").write_bytes((models / "lm.bin").read_bytes()[:2000])
    with pytest.raises(AssetError, match=r"cut\.bin: not a KenLM model"):
        KenLMScorer("cut.bin", "sp.model").open(assets)


def test_a_tokenizer_that_the_model_was_not_trained_with_is_refused(models: Path, tmp_path: Path) -> None:
    other = [pa.record_batch({"text": ["ΑΒΓ ΔΕΖ ΗΘΙ ΚΛΜ"] * 50})]
    SentencePieceTrainer(vocab_size=17, held_out=0).fit({"": other}, tmp_path / "el.model", 0)
    with pytest.raises(AssetError, match="knows no piece of"):
        KenLMScorer("lm.bin", "el.model").open(LocalAssets([models, tmp_path]))


@pytest.mark.parametrize("package", ["kenlm", "sentencepiece"])
def test_a_missing_package_is_named_with_how_to_get_it(
    package: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(AssetError, match=rf"needs the package {package} .*pip install 'thresher\[kenlm\]'"):
        opened(models)
