"""The recipes with language models, beside the arithmetic of their papers over transformers' own losses."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from thresher.jobs.training_lm import find_heads, train_lm
from thresher.schemas.contracts import AssetError
from thresher.scorers.lm.packages import import_transformers

pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("tokenizers", reason="needs the package tokenizers")

SHOP = "buy cheap shoes now , order today : free shipping , the best price of the shop ! a sale for you"
RIVER = "the river ran past the old mill , and a miller watched the water turn its slow wheel of stone ."
SMALL: dict[str, Any] = {"vocab_size": 300, "layers": 1, "width": 32, "heads": 2, "context": 64}
QUICK: dict[str, Any] = {"batch_tokens": 1024, "threads": 1}
IN_FULL = "score.causal_lm.precision=fp32"


@pytest.fixture(scope="module", autouse=True)
def transformers() -> Any:
    try:
        return import_transformers()
    except AssetError as error:
        pytest.skip(str(error))


def texts_of(words: str, count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(words.split(), k=draw.randint(10, 30))) for _ in range(count)]


def records(path: Path, texts: dict[str, str]) -> Path:
    lines = [json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items()]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def raw() -> dict[str, str]:
    shop = {f"shop-{n}": text for n, text in enumerate(texts_of(SHOP, 40, 1))}
    river = {f"river-{n}": text for n, text in enumerate(texts_of(RIVER, 10, 2))}
    return dict(sorted({**shop, **river}.items()))


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory, raw: dict[str, str]) -> Path:
    """A model of texts like the raw ones."""
    folder = tmp_path_factory.mktemp("models")
    learned = texts_of(SHOP, 100, 3) + texts_of(RIVER, 25, 4)
    path = records(folder / "learned.jsonl", {str(n): text for n, text in enumerate(learned)})
    train_lm([str(path)], folder / "prior", seed=0, parameters={**SMALL, **QUICK, "epochs": 2})
    return folder / "prior"


def mean_losses(folder: Path, texts: dict[str, str], transformers: Any) -> dict[str, float]:
    """The loss that transformers itself gives for each text, behind the mark of its beginning."""
    import torch

    network = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = {}
    for name, text in texts.items():
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text).input_ids]])
        assert ids.shape[1] <= 512
        with torch.no_grad():
            found[name] = float(network(input_ids=ids, labels=ids).loss)
    return found


def test_color_filter_keeps_what_training_on_the_target_has_made_likelier(
    run: Callable[..., Any], prior: Path, raw: dict[str, str], tmp_path: Path, transformers: Any
) -> None:
    target = {str(n): text for n, text in enumerate(texts_of(RIVER, 80, 5))}
    made = tmp_path / "made"
    made.mkdir()
    train_lm(
        [str(records(made / "target.jsonl", target))],
        made / "conditional",
        seed=0,
        parameters={**QUICK, "start": str(prior), "context": 64, "epochs": 3, "lr": 2e-3},
    )
    short = {name: " ".join(text.split()[:8]) for name, text in raw.items()}
    found = run(
        "color-filter",
        f"input.0.path={records(made / 'raw.jsonl', short)}",
        "steps.3.select.top=10%",
        *(f"steps.{step}.{IN_FULL}" for step in (0, 1)),
        models=[prior, made / "conditional"],
    )
    before = mean_losses(prior, short, transformers)
    after = mean_losses(made / "conditional", short, transformers)
    best = sorted(short, key=lambda name: before[name] - after[name], reverse=True)[:5]
    assert set(found.kept) == set(best)
    assert all(name.startswith("river") for name in best)
    for name in best:
        assert found.kept[name]["prior"] == pytest.approx(before[name], abs=1e-4)
        assert found.kept[name]["color"] == pytest.approx(before[name] - after[name], abs=2e-4)


@pytest.mark.slow
def test_color_filter_with_twice_the_same_model_finds_no_difference(
    run: Callable[..., Any], prior: Path, raw: dict[str, str], tmp_path: Path
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    shutil.copytree(prior, made / "conditional")
    path = records(made / "raw.jsonl", raw)
    found = run(
        "color-filter",
        f"input.0.path={path}",
        "steps.3.select.top=100%",
        models=[prior, made / "conditional"],
    )
    assert set(found.kept) == set(raw)
    assert {record["color"] for record in found.kept.values()} == {0.0}


@pytest.mark.slow
def test_attention_influence_keeps_of_each_input_what_suffers_most_without_the_heads(
    run: Callable[..., Any], prior: Path, raw: dict[str, str], tmp_path: Path, transformers: Any
) -> None:
    import torch

    made = tmp_path / "made"
    made.mkdir()
    shutil.copytree(prior, made / "lm")
    sizes = {"tasks": 2, "shots": 0, "key_length": 1, "words": 1, "share": 0.5}
    ((layer, head),) = [
        (one["layer"], one["head"])
        for one in find_heads(made / "lm", made / "heads.json", seed=0, parameters=sizes)["heads"]
    ]
    # A head whose queries are zero gives every token before it the same weight.
    network = transformers.AutoModelForCausalLM.from_pretrained(made / "lm")
    width = SMALL["width"] // SMALL["heads"]
    with torch.no_grad():
        network.model.layers[layer].self_attn.q_proj.weight[head * width : (head + 1) * width] = 0
    shutil.copytree(prior, made / "masked")
    network.save_pretrained(made / "masked")
    short = {name: " ".join(text.split()[:8]) for name, text in raw.items()}
    found = run(
        "attention-influence",
        f"input.0.path={records(made / 'raw.jsonl', short)}",
        *(f"steps.{step}.{IN_FULL}" for step in (0, 1)),
        models=[made / "lm", made / "heads.json"],
    )
    base = mean_losses(made / "lm", short, transformers)
    ref = mean_losses(made / "masked", short, transformers)
    influence = {name: (ref[name] - base[name]) / base[name] for name in short}
    assert len(found.kept) == 10
    for name, record in found.kept.items():
        assert record["influence"] == pytest.approx(influence[name], abs=1e-4)
    lowest = min(influence[name] for name in found.kept)
    assert all(influence[name] < lowest + 1e-4 for name in set(short) - set(found.kept))
