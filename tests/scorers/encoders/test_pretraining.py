"""A small encoder from nothing: its vocabulary, what it has to guess, and that it learns to."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from thresher.scorers.encoders.pretraining import SPECIAL, Architecture, hidden, write_tokenizer
from thresher.scorers.encoders.tokenizing import TextTokenizer
from thresher.scorers.encoders.training import EncoderTrainer

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")

TINY = Architecture(width=16, layers=1, attention_heads=2, vocabulary=90)


def addresses(count: int) -> list[str]:
    draw = random.Random(0)
    hosts = ("shop", "news", "login-bank", "school", "river")
    return [
        f"https://www.{(host := draw.choice(hosts))}.org/{host}/{draw.choice('abcdef')}{number}.html"
        for number in range(count)
    ]


def test_a_vocabulary_is_of_so_many_pieces_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_tokenizer(addresses(200), 90, 64, tmp_path / name)
    made = tmp_path / "one" / "tokenizer.json"
    assert made.read_bytes() == (tmp_path / "two" / "tokenizer.json").read_bytes()
    tokenizer = TextTokenizer(tmp_path / "one", 64)
    assert tokenizer.words == 90
    assert [tokenizer.token(name) for name in SPECIAL] == [0, 1, 2, 3, 4]
    (tokens,) = tokenizer(["HTTPS://www.shop.org/shop/a1.html"]).to_pylist()
    assert (tokens[0], tokens[-1]) == (2, 3)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "one"))
    assert theirs("https://www.shop.org/shop/a1.html")["input_ids"] == tokens
    assert 1 not in tokens


def test_tokens_are_hidden_changed_and_left_in_the_shares_of_bert(tmp_path: Path) -> None:
    write_tokenizer(addresses(200), 90, 64, tmp_path)
    tokenizer = TextTokenizer(tmp_path, 64)
    ids = torch.randint(5, 90, (400, 100), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1] = 2, 0
    given, wanted = hidden(ids, 0.15, tokenizer, torch.Generator().manual_seed(2))
    guessed = wanted != -100
    assert not guessed[:, [0, -1]].any()
    assert torch.equal(wanted[guessed], ids[guessed])
    assert torch.equal(given[~guessed], ids[~guessed])
    count = int(guessed.sum())
    assert 0.14 < count / ids[:, 1:-1].numel() < 0.16
    masked = (given[guessed] == 4).float().mean()
    same = (given[guessed] == ids[guessed]).float().mean()
    assert 0.77 < masked < 0.83
    assert 0.08 < same < 0.13
    assert (given[guessed] >= 4).all()


def test_an_encoder_from_nothing_learns_to_fill_in_and_then_to_tell_addresses_apart(tmp_path: Path) -> None:
    urls, told = addresses(300), []
    labels = pa.RecordBatch.from_pydict({"text": urls, "phishing": ["login" in url for url in urls]})
    trainer = EncoderTrainer(
        architecture=TINY,
        max_tokens=40,
        pretrain_epochs=2,
        epochs=6,
        lr=5e-3,
        batch=16,
        device="cpu",
        threads=1,
    )
    trained = trainer.train(
        [labels], ["phishing"], tmp_path / "made", 0, pretrain_on=urls, report=told.append
    )
    stages = [progress.stage for progress in told]
    assert stages == ["pretraining"] * 2 + ["learning"] * trained.epochs
    assert told[1].checked < told[0].checked
    assert trained.pretraining_loss == min(progress.checked for progress in told[:2])
    assert trained.questions["phishing"].classes == ("false", "true")
    assert trained.figures["phishing"]["F1 of true"] > 0.9
    config = transformers.AutoConfig.from_pretrained(str(tmp_path / "made"))
    assert (config.vocab_size, config.max_position_embeddings) == (90, 40)
    assert "pooler" not in "".join(_names(tmp_path / "made" / "model.safetensors"))


def test_without_labels_only_the_encoder_is_made(tmp_path: Path) -> None:
    trainer = EncoderTrainer(architecture=TINY, max_tokens=40, pretrain_epochs=1, device="cpu", threads=1)
    trained = trainer.train([], [], tmp_path / "made", 0, pretrain_on=addresses(60))
    assert trained.questions == {}
    assert not (tmp_path / "made" / "heads.json").exists()
    frozen = EncoderTrainer(start=str(tmp_path / "made"), frozen=True, device="cpu", threads=1)
    urls = addresses(60)
    batch = pa.RecordBatch.from_pydict({"text": urls, "length": [float(len(url)) for url in urls]})
    assert frozen.train([batch], ["length"], tmp_path / "heads", 0).figures["length"]
    with pytest.raises(ValueError, match="pretraining goes on from nothing only"):
        frozen.train([batch], ["length"], tmp_path / "heads", 0, pretrain_on=urls)
    with pytest.raises(ValueError, match="there is nothing to learn"):
        trainer.train([], [], tmp_path / "none", 0)
    with pytest.raises(ValueError, match="1 different texts to pretrain on"):
        trainer.train([], [], tmp_path / "none", 0, pretrain_on=["a b", "a b"])


def _names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return list(file.keys())


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ({"width": 10, "attention_heads": 4}, "4 attention_heads cannot share"),
        ({"layers": 0}, "layers is 0"),
        ({"vocabulary": 5}, "vocabulary is 5"),
        ({"dropout": 1.0}, "dropout is 1"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(shape: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Architecture(**shape)
