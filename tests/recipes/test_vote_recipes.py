"""Recipes of weak supervision, of addresses and of token weights, from raw input to what they are for."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import thresher
from thresher.filters.fasttext_model import load
from thresher.jobs.training import train_fasttext
from thresher.jobs.training_label_model import train_label_model


def _words(listed: str) -> list[str]:
    return listed.split()


SPAM = _words("subscribe channel free money check out my page visit click win prize follow")
HAM = _words("song love voice beautiful video memories guitar listening again childhood great chorus")
BOTH = _words("the a this and so of my really you in it is that very")
SMALL = {"dim": 16, "bucket": 1000, "epoch": 10}


def comments(count: int, seed: int) -> list[tuple[str, str]]:
    """Comments with their class, which no job sees."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        label = "spam" if draw.random() < 0.33 else "ham"
        own, other = (SPAM, HAM) if label == "spam" else (HAM, SPAM)
        words = draw.choices(BOTH, k=draw.randint(3, 12)) + draw.choices(own, k=draw.randint(1, 6))
        words += draw.choices(other, k=int(draw.random() < 0.3))
        draw.shuffle(words)
        if draw.random() < (0.5 if label == "spam" else 0.05):
            words.append("https://example.com/x")
        made.append((label, " ".join(words)))
    return made


def written(path: Path, texts: list[str]) -> None:
    lines = [json.dumps({"id": f"{path.stem}-{n}", "text": text}) + "\n" for n, text in enumerate(texts)]
    path.write_text("".join(lines), encoding="utf-8")


def run_job(folder: Path, **job: Any) -> Path:
    (folder / "job.yaml").write_text(
        json.dumps({"name": "job", "run": {"workers": 1, "work": str(folder / "work")}, **job})
    )
    return Path(thresher.run(thresher.load(folder / "job.yaml")).output)


def rows_of(output: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(output.glob("shard-*.parquet")) for row in pq.read_table(path).to_pylist()]


def accuracy(guesses: list[float], truth: list[str]) -> float:
    """With a coin for what is undecided."""
    right = [
        0.5 if guess == 0.5 else float((guess > 0.5) == (label == "spam"))
        for guess, label in zip(guesses, truth, strict=True)
    ]
    return sum(right) / len(right)


def test_a_classifier_from_raw_text_and_rules_alone_beats_the_majority_of_their_votes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sample, fresh = comments(2500, 1), comments(800, 2)
    written(tmp_path / "sample.jsonl", [text for _, text in sample])
    functions = [
        {"name": "link", "rule": 'contains(text, "http")', "label": "spam"},
        {"name": "asks", "rule": 'matches(text, "subscribe|check|visit|click|follow")', "label": "spam"},
        {"name": "money", "rule": 'matches(text, "free|money|win|prize")', "label": "spam"},
        {"name": "praise", "rule": 'matches(text, "love|beautiful|great|voice")', "label": "ham"},
        {"name": "long", "rule": "word_count > 14", "label": "ham"},
    ]
    classes, names = ["ham", "spam"], [f"vote_{one['name']}" for one in functions]
    output = run_job(
        tmp_path,
        input="sample.jsonl",
        steps=[
            {
                "score": {"votes": {"classes": classes, "functions": functions}},
                "as": "vote",
                "on_null": "keep",
            },
            {
                "score": {"majority_vote": {"votes": names, "classes": classes, "label": "spam"}},
                "as": "majority",
                "on_null": "keep",
            },
        ],
        output={"path": "votes/"},
    )
    voted = {row["id"]: row for row in rows_of(output)}
    assert len(voted) == len(sample)
    for number, (_, text) in enumerate(sample):
        row = voted[f"sample-{number}"]
        assert row["vote_link"] == (1 if "http" in text else None)
        assert row["vote_long"] == (0 if len(text.split()) > 14 else None)

    answer = train_label_model(
        ["votes/shard-*.parquet"],
        names,
        Path("spam.json"),
        labelled=Path("labelled"),
        parameters={"classes": tuple(classes)},
    )
    assert answer["balance"][1] == pytest.approx(0.33, abs=0.06)
    train_fasttext(
        ["labelled/spam.parquet"],
        ["labelled/ham.parquet"],
        Path("spam.bin"),
        label="spam",
        seed=0,
        parameters=SMALL,
    )
    truth = [label for label, _ in sample]
    majority = [voted[f"sample-{number}"]["majority"] for number in range(len(sample))]
    by_votes = accuracy([0.5 if one is None else one for one in majority], truth)
    guesses = load("spam.bin").probability([text for _, text in fresh], "spam").tolist()
    by_student = accuracy(guesses, [label for label, _ in fresh])
    with capsys.disabled():
        print(f"\nmajority of votes {by_votes:.4f}, end classifier on new text {by_student:.4f}")
    assert by_student > by_votes + 0.05

    # The label model as a step gives what was written beside the labels.
    output = run_job(
        tmp_path,
        input="sample.jsonl",
        steps=[
            {
                "score": {"votes": {"classes": classes, "functions": functions}},
                "as": "vote",
                "on_null": "keep",
            },
            {"score": {"label_model": {"model": "spam.json", "votes": names, "label": "spam"}}, "as": "spam"},
        ],
        output={"path": "scored/"},
    )
    beside = pa.concat_tables(pq.read_table(f"labelled/{label}.parquet") for label in classes).to_pylist()
    found = {row["id"]: row["spam"] for row in rows_of(output)}
    assert found == {row["id"]: row["probability_spam"] for row in beside}
    assert set(found) == {name for name, row in voted.items() if any(row[one] is not None for one in names)}


def test_addresses_like_the_wanted_ones_are_kept_by_n_grams_that_no_address_shares_whole(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    draw = random.Random(5)
    topics = _words("river orchard harbour lantern violin meadow castle winter")

    def wanted() -> str:
        host, page = (f"{draw.choice(topics)}{draw.randint(1, 10**5)}" for _ in range(2))
        return f"https://{host}.example/articles/{page}"

    def other() -> str:
        host, item = draw.randint(1, 999), draw.randint(1, 10**6)
        return f"https://shop{host}.example/cart?item={item}&{draw.choice(topics)}=1"

    folder, made = tmp_path / "data", tmp_path / "made"
    for path in (folder, made):
        path.mkdir()
    for name, address in (("wanted", wanted), ("others", other)):
        lines = [json.dumps({"text": "x", "url": address()}) + "\n" for _ in range(150)]
        (made / f"{name}.jsonl").write_text("".join(lines))
    train_fasttext(
        [str(made / "wanted.jsonl")],
        [str(made / "others.jsonl")],
        made / "url.bin",
        label="wanted",
        seed=0,
        text="url",
        parameters={**SMALL, "bucket": 20_000, "minn": 3, "maxn": 6},
    )
    addresses = {f"wanted-{n}": wanted() for n in range(30)} | {f"other-{n}": other() for n in range(30)}
    addresses["long"] = wanted() + "x" * 300
    addresses["session"] = wanted() + "?" + "&".join(f"k{n}=1" for n in range(6))
    lines = [json.dumps({"id": name, "text": "x", "url": url}) + "\n" for name, url in addresses.items()]
    (folder / "pages.jsonl").write_text("".join(lines))

    found = run("url-classification", f"input.0.path={folder / 'pages.jsonl'}", models=[made / "url.bin"])

    assert set(found.kept) == {name for name in addresses if name.startswith("wanted-")}
    assert found.lost["long"] == ("url_too_long", "url_too_long")
    assert found.lost["session"] == ("url_many_parameters", "url_many_parameters")
    model = load(made / "url.bin")
    for name, row in found.kept.items():
        assert row["url_wanted"] == model.probability([addresses[name]], "wanted")[0]


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small causal language model of random weights."""
    torch = pytest.importorskip("torch", reason="needs torch")
    pytest.importorskip("transformers", reason="needs transformers")
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")
    from thresher.scorers.lm.packages import import_transformers

    transformers = import_transformers()
    folder = tmp_path_factory.mktemp("model") / "lm"
    native = tokenizers.Tokenizer(tokenizers.models.BPE())
    native.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    native.train_from_iterator([" ".join(SPAM + HAM + BOTH)] * 5, trainer)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=None,
        initializer_range=0.5,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    native.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.slow
def test_questions_to_a_model_are_votes_beside_those_of_rules(
    run: Callable[..., Any], language_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    sample = comments(40, 3)
    written(tmp_path / "data" / "sample.jsonl", [text for _, text in sample])
    source = f"input.0.path={tmp_path / 'data' / 'sample.jsonl'}"
    found = run("language-models-in-the-loop", source, models=[language_model])
    assert len(found.kept) == len(sample)
    for number, (_, text) in enumerate(sample):
        row = found.kept[f"sample-{number}"]
        assert row["rule_address"] == (1 if "https://" in text else None)
        assert row["rule_subscribe"] == (1 if "subscribe" in text or "check out" in text else None)
        assert row["rule_short"] == (0 if len(text.split()) < 5 else None)
        assert row["model_asks"] in (1, None)
        assert row["model_link"] in (1, None)
        assert row["model_subject"] in (0, 1)
    assert (
        len({(row["model_asks"], row["model_link"], row["model_subject"]) for row in found.kept.values()}) > 1
    )


def weights_of(losses: list[float]) -> list[float]:
    raw = [1 - math.exp(-loss) for loss in losses]
    return [len(raw) * one / sum(raw) for one in raw]


@pytest.mark.slow
def test_captions_go_out_with_a_weight_for_each_token(
    run: Callable[..., Any], language_model: Path, tmp_path: Path
) -> None:
    images = pytest.importorskip("PIL.Image", reason="needs Pillow")
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "captions").symlink_to(language_model)
    captions = ["the beautiful guitar", "a page of the great chorus", ""]
    lines = []
    for number, caption in enumerate(captions):
        made = io.BytesIO()
        images.new("RGB", (8, 8), (number, 0, 0)).save(made, "PNG")
        (folder / f"{number}.png").write_bytes(made.getvalue())
        lines.append(json.dumps({"id": f"p{number}", "file": f"{number}.png", "caption": caption}) + "\n")
    (folder / "pairs.jsonl").write_text("".join(lines))
    found = run(
        "prior",
        f"input.0.path={folder / 'pairs.jsonl'}",
        "input.0.format=image-folder",
        models=[tmp_path / "models" / "captions"],
    )
    assert set(found.kept) == {"p0", "p1"}
    assert found.lost["p2"] == ("score:causal_lm", "null_score")
    for row in found.kept.values():
        assert len(row["token_weights"]) == len(row["caption_nll"]) > 2
        assert row["token_weights"] == pytest.approx(weights_of(row["caption_nll"]), rel=1e-4)
        assert sum(row["token_weights"]) == pytest.approx(len(row["token_weights"]), rel=1e-5)


@pytest.mark.slow
def test_token_weights_go_out_as_lists_in_json_too(
    language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "texts.jsonl", ["the beautiful guitar", "a great voice"])
    output = run_job(
        tmp_path,
        input="texts.jsonl",
        steps=[
            {
                "score": {"causal_lm": {"model": str(language_model), "outputs": ["token_nll"]}},
                "as": "nll",
            },
            {"score": {"token_weights": {"token_nll": "nll"}}, "as": "weights"},
        ],
        output={"path": "out/", "format": "jsonl", "compression": "none"},
    )
    rows = [json.loads(line) for line in (output / "shard-00000.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert row["weights"] == pytest.approx(weights_of(row["nll"]), rel=1e-4)
