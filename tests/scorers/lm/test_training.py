"""Language models that are trained on a little text: what they learn, and what they leave."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from thresher.scorers.assets import LocalAssets
from thresher.scorers.lm.scoring import CausalLMScorer
from thresher.scorers.lm.training import LMTrainer, TrainedLM
from thresher.scorers.lm.training_loop import Progress
from thresher.scorers.training import TrainingError

RIVER = ["the", "river", "ran", "past", "an", "old", "mill", "and", "a", "miller", "watched", "water", "turn"]
SHOP = ["buy", "cheap", "shoes", "now", "order", "today", "free", "shipping", "the", "best", "price", "shop"]

SMALL: dict[str, Any] = {"vocab_size": 280, "layers": 1, "width": 32, "heads": 2, "context": 32}
QUICK: dict[str, Any] = {"batch_tokens": 512, "held_out": 0.2, "threads": 1, "device": "cpu"}


def texts(words: Sequence[str], count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=40)) + "\nend" for _ in range(count)]


def batches(documents: Sequence[str | None]) -> Iterable[pa.RecordBatch]:
    return pa.table({"text": pa.array(documents, pa.string())}).to_batches(max_chunksize=16)


def trained(out: Path, documents: Sequence[str | None], seed: int = 0, **arguments: Any) -> TrainedLM:
    return LMTrainer(**{**QUICK, **arguments}).train(batches(documents), out, seed)


def mean_nll(folder: Path, documents: list[str]) -> float:
    scorer = CausalLMScorer(folder.name, precision="fp32")
    scorer.open(LocalAssets([folder.parent]))
    found = scorer.score(scorer.prepare(pa.record_batch({"text": documents})))["nll"].to_pylist()
    return float(sum(found)) / len(found)


@pytest.fixture(scope="module")
def prior(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedLM]:
    """A model of both kinds of text."""
    out = tmp_path_factory.mktemp("trained") / "prior"
    documents = [*texts(RIVER, 40, 1), *texts(SHOP, 40, 2), None, "", "  "]
    return out, trained(out, documents, **SMALL, epochs=6)


def test_a_model_from_scratch_learns_and_is_a_folder_that_hugging_face_reads(
    prior: tuple[Path, TrainedLM], transformers: Any
) -> None:
    out, found = prior
    assert found.loss is not None
    # Of thirty words, and no idea of their order, a token tells little: but far from nothing.
    assert found.loss < 0.75 * math.log(280)
    assert found.trained.documents + found.trained.held_out == 80
    assert 5 <= found.trained.held_out <= 30
    assert found.trained.skipped == 3
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    network = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    text = texts(RIVER, 1, 9)[0][:100]
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == text
    assert tokenizer.bos_token_id == network.config.bos_token_id == 0
    assert network.config.max_position_embeddings == 32
    assert {path.name for path in out.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not [path for path in out.parent.iterdir() if path != out]


def test_the_card_says_how_good_it_is_on_documents_held_out(prior: tuple[Path, TrainedLM]) -> None:
    out, found = prior
    card = (out / "README.md").read_text()
    assert f"| loss, nats per token | {found.loss:.4g} |" in card
    assert f"{found.parameters:,} parameters" in card
    assert f"Trained on {found.trained.documents} documents" in card
    assert "3 records had no text" in card
    assert found.trained.model.sha256 in card


def test_the_same_text_in_another_order_and_the_same_seed_give_the_same_bytes(tmp_path: Path) -> None:
    documents = [*texts(RIVER, 12, 1), *texts(SHOP, 12, 2)]
    weights = []
    for name, order, seed in (("a", documents, 3), ("b", documents[::-1], 3), ("c", documents, 4)):
        trained(tmp_path / name, order, seed, **SMALL, epochs=1)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_training_further_on_a_target_makes_the_target_likelier(
    prior: tuple[Path, TrainedLM], tmp_path: Path
) -> None:
    folder, _ = prior
    out = tmp_path / "conditional"
    found = trained(out, texts(RIVER, 40, 5), start=str(folder), epochs=3, lr=2e-3)
    assert found.loss is not None
    assert found.start_loss is not None
    assert found.loss < found.start_loss
    assert "loss before training" in (out / "README.md").read_text()
    assert (out / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    target, other = texts(RIVER, 10, 6), texts(SHOP, 10, 7)
    gains = [mean_nll(folder, some) - mean_nll(out, some) for some in (target, other)]
    assert gains[0] > max(0.02, gains[1] + 0.05)


def test_training_ends_when_it_gets_no_better_and_the_best_weights_are_kept(
    prior: tuple[Path, TrainedLM], tmp_path: Path
) -> None:
    folder, _ = prior
    steps: list[Progress] = []
    trainer = LMTrainer(**QUICK, start=str(folder), lr=3.0, epochs=50, evaluations=50, patience=2)
    found = trainer.train(batches(texts(RIVER, 30, 8)), tmp_path / "worse", 0, report=steps.append)
    assert (found.ending, found.best_step) == ("no better", 0)
    assert len(steps) == 3
    assert steps[1].held_out is not None
    assert found.loss is not None
    assert steps[1].held_out > found.loss
    held = texts(RIVER, 4, 11)
    assert mean_nll(tmp_path / "worse", held) == pytest.approx(mean_nll(folder, held), abs=1e-5)


def test_ctrl_c_keeps_the_best_model_so_far(prior: tuple[Path, TrainedLM], tmp_path: Path) -> None:
    folder, _ = prior

    def stop(progress: Progress) -> None:
        if progress.step > 2:
            raise KeyboardInterrupt

    trainer = LMTrainer(**QUICK, start=str(folder), epochs=20, evaluations=20)
    found = trainer.train(batches(texts(RIVER, 30, 8)), tmp_path / "stopped", 0, report=stop)
    assert found.ending == "interrupted"
    assert (tmp_path / "stopped" / "model.safetensors").is_file()

    def at_once(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LMTrainer(**QUICK, **SMALL, epochs=1).train(_interrupted(), tmp_path / "never", 0, report=at_once)
    assert not (tmp_path / "never").exists()


def _interrupted() -> Iterable[pa.RecordBatch]:
    yield from batches(texts(RIVER, 2, 8))
    raise KeyboardInterrupt


def test_a_tokenizer_that_is_given_is_the_one_that_is_used(
    prior: tuple[Path, TrainedLM], tmp_path: Path
) -> None:
    given = tmp_path / "tokenizer.json"
    shutil.copyfile(prior[0] / "tokenizer.json", given)
    arguments = {**SMALL, "vocab_size": 5000, "tokenizer": str(given)}
    trained(tmp_path / "lm", texts(SHOP, 12, 3), **arguments, tokens=600)
    assert (tmp_path / "lm" / "tokenizer.json").read_bytes() == given.read_bytes()


def test_tokens_bound_what_is_learned_from(prior: tuple[Path, TrainedLM], tmp_path: Path) -> None:
    found = trained(
        tmp_path / "lm", texts(SHOP, 60, 3), start=str(prior[0]), tokens=1000, batch_tokens=256, context=32
    )
    assert 1000 <= found.tokens < 1000 + 400
    assert found.steps == round(1000 / 256)


def test_too_little_text_and_a_rate_that_diverges_are_told(
    prior: tuple[Path, TrainedLM], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="a row is 512; give it more text, or a smaller context"):
        trained(tmp_path / "lm", ["a little"], vocab_size=280, layers=1, width=32, heads=2, held_out=0.0)
    with pytest.raises(TrainingError, match="try a smaller --lr"):
        trained(tmp_path / "lm", texts(SHOP, 30, 3), start=str(prior[0]), lr=1e30, held_out=0.0, epochs=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 0}, "layers is 0; it is at least 1"),
        ({"width": 30, "heads": 4}, "width is 30; it is an even multiple of heads, 4"),
        ({"epochs": 0.0}, "epochs is 0.0; it is above 0"),
        ({"held_out": 1.0}, "held_out is 1.0"),
        ({"start": "a", "tokenizer": "b"}, "keeps its tokenizer"),
        ({"precision": "fp16"}, "training is done in auto, fp32 or bf16"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LMTrainer(**arguments)


def test_fewer_tokens_than_bytes_are_refused(transformers: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vocab_size is 200; it is above 256"):
        trained(tmp_path / "lm", texts(SHOP, 9, 3), vocab_size=200)
