"""The recipes that read texts and addresses with an encoder, on models that were trained for the test."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from thresher.jobs import recipe_book
from thresher.jobs.training_encoder import train_encoder
from thresher.scorers.encoders.heads import read_heads

pytest.importorskip("torch")
pytest.importorskip("transformers")

SIZE = {"width": 16, "layers": 1, "attention_heads": 2, "vocabulary": 200, "max_tokens": 40, "device": "cpu"}
SCHOOL = ["lesson", "pupil", "proof", "teacher", "algebra", "cell", "history", "essay"]
SHOP = ["cheap", "order", "shoes", "price", "sale", "buy", "cart", "offer"]
KINDS = ("race", "gender", "religion", "ability", "violence")


def lines(path: Path, records: list[dict[str, Any]]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def pages(count: int, seed: int) -> list[dict[str, Any]]:
    """Texts of shop and school; `score` is how much of school they are, of 5."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        school = draw.random()
        words = [draw.choice(SCHOOL if draw.random() < school else SHOP) for _ in range(15)]
        points = round(5 * sum(word in SCHOOL for word in words) / 15)
        made.append({"id": f"p{number}", "text": " ".join(words), "score": points})
    return made


@pytest.mark.slow
def test_pages_of_educational_value_are_kept_by_their_rounded_score(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    labels = lines(tmp_path / "data" / "labels.jsonl", pages(300, 0))
    model = tmp_path / "made" / "fineweb-edu-classifier"
    answer = train_encoder(
        [labels], ["score"], model, seed=0, parameters={**SIZE, "lr": 1e-2, "epochs": 8, "batch": 32}
    )
    assert answer["heads"]["score"]["figures"]["Spearman"] > 0.9

    source = lines(tmp_path / "data" / "pages.jsonl", pages(60, 1))
    found = run("fineweb-edu", f"input.0.path={source}", models=[model])

    assert 5 < len(found.kept) < 55
    for row in found.kept.values():
        assert row["edu_int_score"] == round(min(max(row["edu_score"], 0), 5)) >= 3
    assert set(found.lost.values()) == {("not_educational", "not_educational")}
    assert all(int(found.values[name]) < 3 for name in found.lost)


@pytest.mark.slow
def test_the_buckets_of_celadon_are_those_of_its_authors(run: Callable[..., Any], tmp_path: Path) -> None:
    draw = random.Random(3)
    labels, levels = [], ("calm", "odd", "rude", "vile")
    for number in range(500):
        grades = {kind: draw.choices(range(4), (6, 2, 2, 2))[0] for kind in KINDS}
        words = [f"{kind}{levels[grade]}" for kind, grade in grades.items()]
        labels.append({"id": f"t{number}", "text": " ".join(words), **grades})
    model = tmp_path / "made" / "celadon-classifier"
    how = {"vocabulary": 400, "lr": 1e-2, "epochs": 12, "batch": 32, "kinds": {"": "classification"}}
    answer = train_encoder(
        [lines(tmp_path / "data" / "labels.jsonl", labels)],
        KINDS,
        model,
        seed=0,
        parameters={**SIZE, **how, "class_weights": "balanced", "sampling": "balanced"},
    )
    assert all(head["classes"] == ["0", "1", "2", "3"] for head in answer["heads"].values())

    source = lines(tmp_path / "data" / "texts.jsonl", labels[:80])
    found = run("celadon", f"input.0.path={source}", models=[model])

    def bucket(grades: list[int]) -> str:
        if sum(grades) >= 7:
            return "toxic"
        if 4 <= sum(grades) <= 6 or (sum(grades) == 3 and max(grades) == 3):
            return "mild"
        return "none"

    for row in found.kept.values():
        assert bucket([int(row[f"celadon_{kind}"]) for kind in KINDS]) == "none" == row["celadon_bucket"]
    assert set(found.lost.values()) == {("toxic", "toxic")}
    assert {found.values[name] for name in found.lost} == {"mild", "toxic"}
    truth = {record["id"]: bucket([record[kind] for kind in KINDS]) for record in labels[:80]}
    said = {**dict.fromkeys(found.kept, "none"), **{name: found.values[name] for name in found.lost}}
    assert sum(truth[name] == said[name] for name in truth) > 60


def test_pages_go_by_what_an_encoder_says_of_their_addresses(run: Callable[..., Any], tmp_path: Path) -> None:
    draw = random.Random(0)
    hosts = {"benign": ("school", "river", "news"), "malicious": ("login-bank", "free-prize")}
    records = []
    for number in range(330):
        kind = draw.choice(list(hosts))
        host = draw.choice(hosts[kind])
        url = f"https://www.{host}.org/{draw.choice('abcdef')}{number}.html"
        records.append({"id": f"u{number}", "url": url, "text": "A page.", "kind": kind})
    model = tmp_path / "made" / "urlbert-classifier"
    answer = train_encoder(
        [lines(tmp_path / "data" / "labels.jsonl", records[:280])],
        ["kind"],
        model,
        seed=0,
        pretrain=[lines(tmp_path / "data" / "addresses.jsonl", records[:200])],
        text="url",
        parameters={**SIZE, "lr": 1e-2, "epochs": 6, "batch": 32, "pretrain_epochs": 2, "pretrain_lr": 1e-2},
    )
    assert answer["pretrained_on"] == 200

    rest = records[280:]
    found = run("urlbert", f"input.0.path={lines(tmp_path / 'data' / 'rest.jsonl', rest)}", models=[model])

    right = [(record["id"] in found.kept) == (record["kind"] == "benign") for record in rest]
    assert sum(right) > 45
    assert all(row["malicious"] < 0.5 for row in found.kept.values())
    assert set(found.lost.values()) == {("malicious_address", "malicious_address")}


def test_the_description_of_celadons_heads_is_one_that_a_model_can_be_read_with(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    page = Path(recipe_book.__file__).parents[1] / "docs" / "recipes" / "celadon.md"
    (described,) = re.findall(
        r'```json title="celadon-classifier/heads.json"\n(.*?)```', page.read_text(), re.DOTALL
    )
    (tmp_path / "heads.json").write_text(described)
    tensors = {f"heads.{n}.weight": np.full((4, 8), n, np.float32) for n in range(5)}
    tensors |= {f"heads.{n}.bias": np.zeros(4, np.float32) for n in range(5)}
    save_file(tensors, str(tmp_path / "model.safetensors"))
    heads = read_heads(tmp_path)
    assert heads is not None
    assert tuple(heads.heads) == KINDS
    assert [head.layers[0][0][0, 0] for head in heads.heads.values()] == [0, 1, 2, 3, 4]
