"""Scores against transformers' own forward pass, one text at a time."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers import registry
from thresher.scorers.assets import LocalAssets
from thresher.scorers.lm import tokenizer as tokenizer_module
from thresher.scorers.lm.model import PACKED
from thresher.scorers.lm.scoring import OUTPUTS, CausalLMScorer
from thresher.scorers.testing import check_scorer

from .conftest import prose

TEXTS = [prose(seed, words) for seed, words in enumerate([1, 2, 3, 5, 7, 9, 13, 16, 28, 24, 4])]


def opened(folder: Path, **arguments: Any) -> CausalLMScorer:
    scorer = CausalLMScorer(folder.name, **{"precision": "fp32", **arguments})
    scorer.open(LocalAssets([folder.parent]))
    return scorer


def scored(scorer: CausalLMScorer, texts: list[str | None], **columns: list[str | None]) -> dict[str, Any]:
    batch = pa.record_batch({"text": pa.array(texts, pa.string()), **columns})
    found = scorer.score(scorer.prepare(batch))
    assert {name: column.type for name, column in found.items()} == scorer.outputs
    return {name: column.to_pylist() for name, column in found.items()}


class Plain:
    """A model as its authors would use it."""

    def __init__(self, folder: Path, transformers: Any) -> None:
        import tokenizers

        self.network = transformers.AutoModelForCausalLM.from_pretrained(folder).float().eval()
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids  # type: ignore[no-any-return]

    def losses(self, ids: list[int]) -> list[float]:
        """Of every token but the first."""
        import torch

        with torch.no_grad():
            chances = self.network(torch.tensor([ids])).logits[0].log_softmax(-1)
        return [-float(chances[place, token]) for place, token in enumerate(ids[1:])]

    def sliding(self, ids: list[int], window: int, stride: int, first: int = 1) -> list[float]:
        """A forward pass for each token, over the window in which it counts."""
        found: list[float] = []
        for token in range(first, len(ids)):
            begin = 0
            while begin + window <= token:
                begin += stride
            found.append(self.losses(ids[begin : token + 1])[-1])
        return found


def near(found: list[float] | None, wanted: list[float]) -> bool:
    return found is not None and np.allclose(found, wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize("architecture", sorted(PACKED))
def test_packed_models_give_what_transformers_gives_for_one_text_at_a_time(
    make_model: Callable[..., Path], transformers: Any, architecture: str
) -> None:
    folder = make_model(architecture, max_position_embeddings=128, sliding_window=None)
    plain = Plain(folder, transformers)
    scorer = opened(folder, outputs=["token_nll"], batch_tokens=100, max_tokens=100)
    assert scorer._model is not None
    assert scorer._model.packs
    for text, losses in zip(TEXTS, scored(scorer, [*TEXTS])["token_nll"], strict=True):
        assert near(losses, plain.losses([0, *plain.ids(text)[:100]]))


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        # No rotary positions; logits with a cap; logits that are divided; layers that see only near tokens.
        ("bloom", {}),
        ("gemma2", {"head_dim": 8, "sliding_window": 16}),
        ("granite", {"logits_scaling": 3.0}),
        ("mistral", {"sliding_window": 16}),
    ],
)
def test_other_models_are_padded_and_give_the_same(
    make_model: Callable[..., Path], transformers: Any, architecture: str, changes: dict[str, Any]
) -> None:
    folder = make_model(architecture, **changes)
    plain = Plain(folder, transformers)
    scorer = opened(folder, outputs=["token_nll"], batch_tokens=200, max_tokens=63, window=64)
    assert scorer._model is not None
    assert not scorer._model.packs
    for text, losses in zip(TEXTS, scored(scorer, [*TEXTS])["token_nll"], strict=True):
        assert near(losses, plain.losses([0, *plain.ids(text)[:63]]))


@pytest.mark.parametrize(("window", "stride"), [(16, 5), (16, 15), (48, None)])
def test_long_texts_are_read_in_windows_that_count_each_token_once(
    make_model: Callable[..., Path], transformers: Any, window: int, stride: int | None
) -> None:
    folder = make_model()
    plain = Plain(folder, transformers)
    found = scored(opened(folder, outputs=["token_nll"], window=window, stride=stride), [*TEXTS])
    for text, losses in zip(TEXTS[4:9], found["token_nll"][4:9], strict=True):
        assert near(losses, plain.sliding([0, *plain.ids(text)], window, stride or window // 2))


def test_every_output_follows_from_the_losses_of_the_tokens(
    make_model: Callable[..., Path], transformers: Any
) -> None:
    folder = make_model()
    plain = Plain(folder, transformers)
    found = scored(opened(folder, outputs=list(OUTPUTS)), [*TEXTS[:8], "", None])
    for row, text in enumerate(TEXTS[:8]):
        losses = plain.losses([0, *plain.ids(text)])
        mean = sum(losses) / len(losses)
        assert found["tokens"][row] == len(losses) == len(plain.ids(text))
        assert found["sum"][row] == pytest.approx(sum(losses), abs=2e-3)
        assert found["nll"][row] == pytest.approx(mean, abs=1e-4)
        assert found["perplexity"][row] == pytest.approx(math.exp(mean), rel=1e-3)
        in_bytes = len(losses) / len(text.encode()) * mean / math.log(2)
        assert found["bits_per_byte"][row] == pytest.approx(in_bytes, rel=1e-4)
    assert [found[name][8:] for name in OUTPUTS] == [[None, None]] * len(OUTPUTS)


def test_without_a_mark_the_first_token_of_a_text_does_not_count(
    make_model: Callable[..., Path], transformers: Any
) -> None:
    unmarked = make_model(bos_token_id=None)
    plain = Plain(unmarked, transformers)
    for folder, bos in ((unmarked, "auto"), (make_model(), False)):
        found = scored(opened(folder, outputs=["tokens", "token_nll"], bos=bos), [TEXTS[4], "x"])
        assert near(found["token_nll"][0], plain.losses(plain.ids(TEXTS[4])))
        assert found["tokens"] == [len(plain.ids(TEXTS[4])) - 1, None]
    with pytest.raises(AssetError, match="names no token that marks the beginning"):
        opened(unmarked, bos=True)


def test_a_condition_comes_before_the_text_and_does_not_count(
    make_model: Callable[..., Path], transformers: Any
) -> None:
    folder = make_model()
    plain = Plain(folder, transformers)
    scorer = opened(folder, outputs=["token_nll"], condition="question", window=32, stride=8)
    assert scorer.inputs == ("text", "question")
    questions = ["", TEXTS[1], TEXTS[5], TEXTS[8], None]
    texts: list[str | None] = [TEXTS[6], TEXTS[3], TEXTS[0], TEXTS[6], TEXTS[2]]
    found = scored(scorer, texts, question=questions)["token_nll"]
    for losses, question, text in zip(found[:4], questions[:4], texts[:4], strict=True):
        prompt = [0, *plain.ids(question or "")]
        ids = [*prompt, *plain.ids(text or "")]
        assert near(losses, plain.sliding(ids, 32, 8, first=len(prompt)))
    assert found[4] is None


def test_sequences_of_one_length_are_read_each_by_itself(
    make_model: Callable[..., Path], transformers: Any
) -> None:
    folder = make_model()
    plain = Plain(folder, transformers)
    found = scored(opened(folder, outputs=["nll", "tokens"], sequence=20), [TEXTS[9], TEXTS[6], TEXTS[0]])
    for row, text in enumerate([TEXTS[9], TEXTS[6]]):
        ids = plain.ids(text)
        rows = [ids[start : start + 20] for start in range(0, len(ids) - 19, 20)]
        losses = [loss for part in rows for loss in plain.losses(part)]
        assert found["tokens"][row] == 19 * len(rows) == len(losses)
        assert found["nll"][row] == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    assert found["nll"][2] is None


def test_bytes_are_those_of_the_tokens_that_are_read(
    make_model: Callable[..., Path], transformers: Any
) -> None:
    folder = make_model()
    plain = Plain(folder, transformers)
    text = "the river of the garden, the window"
    for most in (1, 3, 5, 1000):
        found = scored(opened(folder, outputs=["sum", "bits_per_byte"], max_tokens=most), [text])
        read = plain.tokenizer.decode(plain.ids(text)[:most])
        assert text.startswith(read)
        assert found["bits_per_byte"][0] * math.log(2) * len(read) == pytest.approx(found["sum"][0], rel=1e-4)


def test_a_long_text_is_cut_into_tokens_in_pieces(
    make_model: Callable[..., Path], transformers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_model()
    plain = Plain(folder, transformers)
    monkeypatch.setattr(tokenizer_module, "PIECE_CHARS", 50)
    pieces = [TEXTS[8][start : start + 50] for start in range(0, len(TEXTS[8]), 50)]
    ids = [token for piece in pieces for token in plain.ids(piece)]
    found = scored(opened(folder, outputs=["token_nll"], window=64, stride=32), [TEXTS[8]])
    assert near(found["token_nll"][0], plain.sliding([0, *ids], 64, 32))
    some = scored(opened(folder, outputs=["sum", "bits_per_byte"], max_tokens=40), [TEXTS[8]])
    covered = plain.tokenizer.decode(ids[:40], skip_special_tokens=False)
    size = some["sum"][0] / some["bits_per_byte"][0] / math.log(2)
    assert size == pytest.approx(len(covered.rstrip("\ufffd").encode()), abs=4)


def test_what_looks_like_a_special_token_is_read_as_text(
    make_model: Callable[..., Path], transformers: Any
) -> None:
    folder = make_model()
    found = scored(opened(folder, outputs=["tokens"]), ["a<|endoftext|>b"])
    assert found["tokens"][0] > 5
    assert len(Plain(folder, transformers).ids("a<|endoftext|>b")) == 3


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_it_keeps_the_promises_of_a_scorer(make_model: Callable[..., Path], precision: str) -> None:
    folder = make_model(initializer_range=0.1)
    build = functools.partial(
        CausalLMScorer,
        model=folder.name,
        outputs=["nll", "tokens", "bits_per_byte"],
        precision=precision,
        window=32,
        max_tokens=50,
        batch_tokens=64,
    )
    check_scorer(build, assets=LocalAssets([folder.parent]))


def test_scores_do_not_depend_on_how_many_tokens_are_read_at_a_time(make_model: Callable[..., Path]) -> None:
    folder = make_model()
    texts: list[str | None] = [prose(seed, 1 + seed % 40) for seed in range(120)]
    whole = scored(opened(folder), texts)["nll"]
    for tokens in (1, 50, 10_000):
        assert near(scored(opened(folder, batch_tokens=tokens), texts)["nll"], whole)


def test_a_sentencepiece_model_beside_the_weights_serves_as_well(
    make_model: Callable[..., Path], transformers: Any, tmp_path: Path
) -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="needs the package sentencepiece")
    folder = tmp_path / "model"
    folder.mkdir()
    for path in make_model().iterdir():
        if path.name != "tokenizer.json":
            (folder / path.name).write_bytes(path.read_bytes())
    with (folder / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS * 3), model_writer=file, vocab_size=40, minloglevel=2
        )
    native = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    network = transformers.AutoModelForCausalLM.from_pretrained(folder).float().eval()
    plain = Plain.__new__(Plain)
    plain.network = network
    # Without ends of lines, which it takes together with the space behind.
    text = TEXTS[6].replace("\n", "")
    ids = native.encode(text)
    found = scored(opened(folder, outputs=["token_nll", "bits_per_byte"], max_tokens=9), [text])
    assert near(found["token_nll"][0], plain.losses([0, *ids[:9]]))
    size = sum(found["token_nll"][0]) / math.log(2) / found["bits_per_byte"][0]
    assert size == pytest.approx(len(native.decode(ids[:9]).encode()), abs=1e-3)


def test_a_job_finds_it_by_name(make_model: Callable[..., Path]) -> None:
    folder = make_model()
    built = registry.build(
        registry.SCORER, "causal_lm", {"model": folder.name, "mask_heads": "heads.json"}, directory=folder
    )
    assert isinstance(built, CausalLMScorer)
    assert built.assets == (folder.name, "heads.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": ["loss"]}, "there is no output 'loss'; outputs are some of nll, "),
        ({"outputs": []}, "no output is asked for"),
        ({"window": 1}, "window is 1; write 2 or more"),
        ({"window": 8, "stride": 8}, "stride is 8; it is below the window, 8"),
        ({"sequence": 8, "condition": "question"}, "sequence and condition exclude each other"),
        ({"sequence": 8, "bos": True}, "sequence and bos exclude each other"),
        ({"bos": "maybe"}, "bos is 'maybe'"),
        ({"uniform": "all"}, "uniform is 'all'; write visible or sequence"),
        ({"precision": "int8"}, "precision is 'int8'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CausalLMScorer("model", **arguments)


def test_folders_that_hold_no_such_model_are_told_what_they_lack(
    make_model: Callable[..., Path], transformers: Any, tmp_path: Path
) -> None:
    def copy(name: str, leave: str = "") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for path in make_model().iterdir():
            if path.name != leave:
                (folder / path.name).write_bytes(path.read_bytes())
        return folder

    with pytest.raises(AssetError, match=r"holds no config\.json; `thresher train lm`"):
        opened(copy("no-config", "config.json"))
    with pytest.raises(AssetError, match=r"holds no tokenizer\.json"):
        opened(copy("no-tokenizer", "tokenizer.json"))
    with pytest.raises(AssetError, match="safetensors"):
        opened(copy("no-weights", "model.safetensors"))
    foreign = copy("foreign")
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(AssetError, match=r"its weights are not those of its .*: missing_keys"):
        opened(foreign)
    (foreign / "config.json").write_text(json.dumps(config | {"model_type": "mystery"}))
    with pytest.raises(AssetError, match="mystery"):
        opened(foreign)
    narrow = copy("narrow")
    small = transformers.AutoConfig.from_pretrained(make_model(), vocab_size=100)
    transformers.AutoModelForCausalLM.from_config(small).save_pretrained(narrow)
    with pytest.raises(AssetError, match=r"has \d+ tokens, and the model beside it 100"):
        opened(narrow)
    with pytest.raises(AssetError, match="window is 65, and this llama reads 64"):
        opened(make_model(), window=65)


def test_weights_in_a_pickle_are_never_loaded(make_model: Callable[..., Path], tmp_path: Path) -> None:
    import torch

    folder = tmp_path / "pickled"
    folder.mkdir()
    for path in make_model().iterdir():
        if path.name != "model.safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    torch.save({"model.embed_tokens.weight": torch.zeros(330, 32)}, folder / "pytorch_model.bin")
    with pytest.raises(AssetError, match="safetensors"):
        opened(folder)
