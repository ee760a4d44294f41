"""Masked heads against models that attend evenly by their weights, and retrieval against eager attention."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.lm.heads import read_heads
from thresher.scorers.lm.retrieval_heads import RetrievalHeadFinder, top_heads
from thresher.scorers.lm.scoring import CausalLMScorer
from thresher.scorers.lm.tokenizer import Tokenizer

from .conftest import prose

TEXTS = [prose(seed, words) for seed, words in enumerate([3, 9, 20])]


def token_losses(folder: Path, **arguments: Any) -> list[list[float]]:
    scorer = CausalLMScorer(folder.name, outputs=["token_nll"], precision="fp32", window=64, **arguments)
    scorer.open(LocalAssets([folder.parent]))
    batch = pa.record_batch({"text": TEXTS})
    return scorer.score(scorer.prepare(batch))["token_nll"].to_pylist()  # type: ignore[no-any-return]


def heads_file(folder: Path, heads: list[list[int]]) -> str:
    path = folder.parent / f"heads-{random.random()}.json"
    path.write_text(json.dumps({"heads": heads}))
    return path.name


def assert_near(found: list[list[float]], wanted: list[list[float]]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-4)


@pytest.mark.parametrize("heads", [[[0, 1]], [[0, 0], [1, 2], [1, 3]]])
def test_a_masked_head_is_as_one_whose_queries_are_zero(
    make_model: Callable[..., Path], transformers: Any, tmp_path: Path, heads: list[list[int]]
) -> None:
    import torch

    folder = make_model()
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    width = 32 // 4
    with torch.no_grad():
        for layer, head in heads:
            rows = network.model.layers[layer].self_attn.q_proj.weight
            # All products are zero then, so that softmax gives every visible token the same.
            rows[head * width : (head + 1) * width] = 0
    even = tmp_path / "even"
    network.save_pretrained(even)
    (even / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    masked = token_losses(folder, mask_heads=heads_file(folder, heads))
    assert_near(masked, token_losses(even))
    assert abs(masked[2][5] - token_losses(folder)[2][5]) > 1e-3


def test_one_layer_with_all_heads_masked_is_what_a_few_lines_of_numpy_say(
    make_model: Callable[..., Path], transformers: Any
) -> None:
    from safetensors.numpy import load_file

    folder = make_model(num_hidden_layers=1)
    weights = load_file(str(folder / "model.safetensors"))
    layer = {name.removeprefix("model.layers.0."): value for name, value in weights.items()}
    tokenizer = Tokenizer(folder / "tokenizer.json")

    def normed(rows: np.ndarray, gain: np.ndarray) -> np.ndarray:
        return rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-6) * gain  # type: ignore[no-any-return]

    def losses(text: str, uniform: str) -> list[float]:
        ids = [0, *tokenizer.encode([text])[0]]
        read = weights["model.embed_tokens.weight"][ids[:-1]].astype(np.float64)
        values = normed(read, layer["input_layernorm.weight"]) @ layer["self_attn.v_proj.weight"].T
        # Heads 0 and 1 share the first half of the values, 2 and 3 the second.
        each = np.repeat(values.reshape(-1, 2, 8), 2, axis=1).reshape(-1, 32)
        seen = np.arange(1, len(read) + 1)[:, None]
        over = seen if uniform == "visible" else len(read)
        made = read + each.cumsum(axis=0) / over @ layer["self_attn.o_proj.weight"].T
        inner = normed(made, layer["post_attention_layernorm.weight"])
        gate = inner @ layer["mlp.gate_proj.weight"].T
        up = inner @ layer["mlp.up_proj.weight"].T
        made = made + (gate / (1 + np.exp(-gate)) * up) @ layer["mlp.down_proj.weight"].T
        logits = normed(made, weights["model.norm.weight"]) @ weights["lm_head.weight"].T
        chances = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return [-float(chances[place, token]) for place, token in enumerate(ids[1:])]

    everything = heads_file(folder, [[0, head] for head in range(4)])
    for uniform in ("visible", "sequence"):
        found = token_losses(folder, mask_heads=everything, uniform=uniform)
        assert_near(found, [losses(text, uniform) for text in TEXTS])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "is no file of heads"),
        ("no json", "is no file of heads"),
        ('{"heads": []}', "names no head"),
        ('{"heads": [[0, 1.5]]}', "names no head, or one that is not two numbers"),
        ('{"heads": [[0, 1, 2]]}', "is no file of heads"),
    ],
)
def test_a_file_that_names_no_heads_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "heads.json"
    path.write_text(content)
    with pytest.raises(AssetError, match=message):
        read_heads(path)


def test_heads_that_the_model_does_not_have_are_told(make_model: Callable[..., Path]) -> None:
    folder = make_model()
    with pytest.raises(AssetError, match="there is no head 4 in layer 1: the model has 2 layers of 4 heads"):
        token_losses(folder, mask_heads=heads_file(folder, [[1, 4]]))
    with pytest.raises(AssetError, match="there is no head 0 in layer 2"):
        token_losses(folder, mask_heads=heads_file(folder, [[2, 0]]))
    bloom = make_model("bloom")
    with pytest.raises(AssetError, match="heads of a bloom cannot be masked"):
        token_losses(bloom, mask_heads=heads_file(bloom, [[0, 0]]))


def test_a_task_asks_for_texts_of_a_json_object_by_their_keys(
    make_model: Callable[..., Path], transformers: Any
) -> None:
    import tokenizers

    folder = make_model()
    native = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    finder = RetrievalHeadFinder(key_length=6, words=2, shots=3)
    sizes = set()
    for seed in range(8):
        task = finder.task(Tokenizer(folder / "tokenizer.json"), 0, 700, random.Random(seed))
        assert task.tokens[0] == 0
        assert len(task.tokens) <= 700
        prompt = native.decode(task.tokens[1 : task.answer].tolist())
        answer = native.decode(task.tokens[task.answer :].tolist())
        first, *asked = prompt.split("\n")
        texts = json.loads(first)
        shots = list(zip(asked[::2], asked[1::2], strict=True))
        assert len(shots) == 4
        for key, text in shots[:3]:
            assert text == f"Text: {texts[key.removeprefix('Key: ')]}"
        assert shots[3][1] == "Text: "
        assert answer == texts[shots[3][0].removeprefix("Key: ")]
        assert (task.tokens[task.source] == task.tokens[task.answer :]).all()
        assert all(len(key) == 6 for key in texts)
        sizes.add(len(texts))
    assert min(sizes) >= 4
    with pytest.raises(AssetError, match="has no room in 60 tokens"):
        finder.task(Tokenizer(folder / "tokenizer.json"), 0, 60, random.Random(0))


@pytest.mark.parametrize("measure", ["attention", "copy"])
def test_retrieval_scores_are_those_of_the_attention_that_transformers_gives_out(
    make_model: Callable[..., Path], transformers: Any, tmp_path: Path, measure: Any
) -> None:
    import torch

    folder = make_model(max_position_embeddings=256)
    finder = RetrievalHeadFinder(
        tasks=3, key_length=3, words=1, shots=1, share=0.25, measure=measure, precision="fp32"
    )
    heads, scores = finder.find(folder, tmp_path / "heads.json", seed=5)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    weights: list[np.ndarray] = []
    for number in range(3):
        task = finder.task(Tokenizer(folder / "tokenizer.json"), 0, 256, random.Random(f"5/{number}"))
        with torch.no_grad():
            found = network(torch.from_numpy(task.tokens)[None], output_attentions=True).attentions
        for place, source in enumerate(task.source):
            row = np.stack([layer[0, :, task.answer + place - 1].numpy() for layer in found])
            weights.append(row.argmax(-1) == source if measure == "copy" else row[..., source])
    wanted = np.mean(weights, axis=0)
    assert wanted.max() > 0
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-5)
    best = sorted((-wanted[layer, head], layer, head) for layer in range(2) for head in range(4))[:2]
    assert set(heads) == {(layer, head) for _, layer, head in best}
    content = json.loads((tmp_path / "heads.json").read_text())
    assert content["heads"] == [list(head) for head in heads]
    np.testing.assert_allclose(content["scores"], scores, atol=1e-6)
    assert (content["tasks"], content["max_tokens"], content["seed"]) == (3, 256, 5)
    assert read_heads(tmp_path / "heads.json").heads == {
        layer: sorted(head for one, head in heads if one == layer) for layer, _ in sorted(heads)
    }


def test_of_equal_heads_the_first_are_taken_and_never_none() -> None:
    scores = np.array([[0.5, 0.1], [0.5, 0.9]])
    assert top_heads(scores, 0.5) == [(1, 1), (0, 0)]
    assert top_heads(scores, 0.01) == [(1, 1)]
