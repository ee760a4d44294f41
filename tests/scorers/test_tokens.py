"""Token counts against the tokenizers' own encoding of one text at a time."""

from __future__ import annotations

import functools
import io
import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers import registry, tokens
from thresher.scorers.assets import LocalAssets
from thresher.scorers.testing import check_scorer
from thresher.scorers.tokens import TokenScorer

tokenizers = pytest.importorskip("tokenizers", reason="needs the package tokenizers")
sentencepiece = pytest.importorskip("sentencepiece", reason="needs the package sentencepiece")

WORDS = ["river", "mountain", "window", "garden", "Straße", "наука", "水", "naïve", "e\u0301", "🙂", "x1"]


def prose(seed: int, words: int) -> str:
    chosen = random.Random(seed)
    return " ".join(chosen.choice(WORDS) + chosen.choice(["", ".", ",\n", "  "]) for _ in range(words))


TEXTS = [prose(seed, 5 * seed) for seed in range(1, 40)] + ["", " ", "\n\n", "\0", "<s> [CLS]", "☃" * 50]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE that marks, cuts and pads what it encodes, and a SentencePiece unigram model."""
    path = tmp_path_factory.mktemp("tokenizers")
    learned = [prose(seed, 200) for seed in range(50)]
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], show_progress=False
    )
    bpe.train_from_iterator(learned, trainer)
    bpe.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    bpe.enable_truncation(8)
    bpe.enable_padding(length=30)
    bpe.save(str(path / "tokenizer.json"))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(learned), model_writer=model, vocab_size=43, minloglevel=2
    )
    (path / "unigram.model").write_bytes(model.getvalue())
    return path


def counted(folder: Path, tokenizer: str, texts: list[str | None]) -> list[int | None]:
    scorer = TokenScorer(tokenizer)
    scorer.open(LocalAssets([folder]))
    found = scorer.score(pa.record_batch({"text": pa.array(texts, pa.string())}))
    assert found["tokens"].type == scorer.outputs["tokens"] == pa.int64()
    return found["tokens"].to_pylist()  # type: ignore[no-any-return]


def one_by_one(folder: Path, tokenizer: str, texts: list[str]) -> list[int]:
    """What the library says of each text, of the tokenizer as it was before it was told to cut and pad."""
    if tokenizer.endswith(".model"):
        native = sentencepiece.SentencePieceProcessor(model_file=str(folder / tokenizer))
        return [len(native.encode(text, out_type=str)) for text in texts]
    plain = json.loads((folder / tokenizer).read_text())
    plain |= {"truncation": None, "padding": None, "post_processor": None}
    native = tokenizers.Tokenizer.from_str(json.dumps(plain))
    return [len(native.encode(text).ids) for text in texts]


@pytest.mark.parametrize("tokenizer", ["tokenizer.json", "unigram.model"])
def test_counts_are_those_of_the_library_one_text_at_a_time(folder: Path, tokenizer: str) -> None:
    wanted = one_by_one(folder, tokenizer, TEXTS)
    assert max(wanted) > 300
    assert counted(folder, tokenizer, list(TEXTS)) == wanted
    assert counted(folder, tokenizer, [None, TEXTS[3], None]) == [None, wanted[3], None]
    assert counted(folder, tokenizer, []) == []


@pytest.mark.parametrize("tokenizer", ["tokenizer.json", "unigram.model"])
def test_a_long_text_is_counted_in_pieces(
    folder: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "PIECE_CHARS", 100)
    monkeypatch.setattr(tokens, "BATCH_CHARS", 250)
    long = prose(7, 300)
    pieces = [long[start : start + 100] for start in range(0, len(long), 100)]
    assert counted(folder, tokenizer, ["river", long, "garden"]) == [
        *one_by_one(folder, tokenizer, ["river"]),
        sum(one_by_one(folder, tokenizer, pieces)),
        *one_by_one(folder, tokenizer, ["garden"]),
    ]


@pytest.mark.parametrize("tokenizer", ["tokenizer.json", "unigram.model"])
def test_it_keeps_the_promises_of_a_scorer(folder: Path, tokenizer: str) -> None:
    check_scorer(functools.partial(TokenScorer, tokenizer=tokenizer), assets=LocalAssets([folder]))


def test_a_job_finds_it_by_name(folder: Path) -> None:
    scorer = registry.build(registry.SCORER, "tokens", {"tokenizer": "tokenizer.json"}, directory=folder)
    assert isinstance(scorer, TokenScorer)
    assert scorer.assets == ("tokenizer.json",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{}", "not a tokenizer.json of Hugging Face tokenizers"),
        ("broken.json", b"\xff\x00", "not a tokenizer.json of Hugging Face tokenizers"),
        ("broken.model", b"not a model", "neither a tokenizer.json nor a SentencePiece model"),
        ("empty.model", b"", "neither a tokenizer.json nor a SentencePiece model"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AssetError, match=message):
        TokenScorer(name).open(LocalAssets([tmp_path]))


def test_a_missing_file_is_told_with_the_places_that_were_looked_at(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"no model file .gone\.json"):
        TokenScorer("gone.json").open(LocalAssets([tmp_path]))
