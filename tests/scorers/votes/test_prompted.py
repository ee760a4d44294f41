"""Answers of a language model, beside a plain forward pass of transformers for each question."""

from __future__ import annotations

import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers import registry
from thresher.scorers.assets import LocalAssets
from thresher.scorers.lm.packages import import_transformers
from thresher.scorers.testing import check_scorer
from thresher.scorers.votes.prompted import NULL_INPUTS, PromptedScorer

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("transformers", reason="needs transformers")
tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")
transformers = import_transformers()

PROMPTS: list[dict[str, Any]] = [
    {
        "name": "sells",
        "template": "Text: [text]\nDoes it sell something?",
        "answers": {"Yes": "spam", "No": "ham", "maybe never": "abstain"},
    },
    {"name": "link", "template": "[url] and [text]: a link?", "answers": {"No": "abstain", "Yes": "spam"}},
]
CLASSES = ["ham", "spam"]
TEXTS = ["buy cheap shoes now", "the river ran past the mill", "", None, "see the old shop " * 30]
BATCH = pa.record_batch(
    {"text": pa.array(TEXTS), "url": pa.array(["http://a.example", None, "", "x", "http://b.example"])}
)
CONTEXT = 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights, large enough to have opinions."""
    path = tmp_path_factory.mktemp("prompted") / "lm"
    native = tokenizers.Tokenizer(tokenizers.models.BPE())
    native.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    native.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    native.train_from_iterator([*filter(None, TEXTS), " Yes No" * 9, str(PROMPTS)], trainer)
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=None,
        initializer_range=0.4,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    native.save(str(path / "tokenizer.json"))
    return path.parent


def opened(folder: Path, **arguments: Any) -> PromptedScorer:
    given = {"classes": CLASSES, "prompts": PROMPTS, "precision": "fp32", "device": "cpu", **arguments}
    scorer = PromptedScorer("lm", **given)
    scorer.open(LocalAssets([folder]))
    return scorer


@cache
def plain(folder: Path) -> Any:
    """The model as transformers runs it."""
    return transformers.LlamaForCausalLM.from_pretrained(folder / "lm").eval()


def asked(folder: Path, question: str, answers: list[str]) -> list[float]:
    """The probability of each answer behind a question, one token and one sequence at a time."""
    model = plain(folder)
    native = tokenizers.Tokenizer.from_file(str(folder / "lm" / "tokenizer.json"))
    found = []
    for answer in answers:
        before, behind = [0, *native.encode(question).ids], native.encode(f" {answer}").ids
        with torch.inference_mode():
            logs = model(torch.tensor([before + behind])).logits[0].double().log_softmax(-1)
        total = sum(float(logs[len(before) - 1 + at, token]) for at, token in enumerate(behind))
        found.append(math.exp(total))
    return found


def shares(folder: Path, prompt: dict[str, Any], columns: dict[str, str], calibrate: bool) -> list[float]:
    def probabilities(values: dict[str, str]) -> list[float]:
        question = prompt["template"]
        for name, value in values.items():
            question = question.replace(f"[{name}]", value)
        return asked(folder, question, list(prompt["answers"]))

    found = probabilities(columns)
    if calibrate:
        nothing = [probabilities(dict.fromkeys(columns, one)) for one in NULL_INPUTS]
        found = [one / sum(column) for one, column in zip(found, zip(*nothing, strict=True), strict=True)]
    return [one / sum(found) for one in found]


@pytest.mark.parametrize("calibrate", [True, False])
def test_a_vote_is_that_of_the_likeliest_answer_as_transformers_computes_it(
    folder: Path, calibrate: bool
) -> None:
    scorer = opened(folder, calibrate=calibrate, probabilities=True)
    found = scorer.score(scorer.prepare(BATCH))
    assert {name: column.type for name, column in found.items()} == scorer.outputs
    votes = set()
    for row, (text, url) in enumerate(
        zip(BATCH["text"].to_pylist()[:4], BATCH["url"].to_pylist(), strict=False)
    ):
        for prompt in PROMPTS:
            name, values = (
                prompt["name"],
                {"text": text, "url": url} if "url" in prompt["template"] else {"text": text},
            )
            if None in values.values():
                assert found[name][row].as_py() is None
                assert found[f"{name}_probability"][row].as_py() is None
                continue
            expected = shares(folder, prompt, values, calibrate)
            assert found[f"{name}_probability"][row].as_py() == pytest.approx(expected[0], abs=1e-4)
            label = list(prompt["answers"].values())[expected.index(max(expected))]
            assert found[name][row].as_py() == (None if label == "abstain" else CLASSES.index(label))
            votes.add(label)
    assert len(votes) > 1  # so that the comparison has something to tell


def test_a_probability_that_no_answer_reaches_is_no_vote(folder: Path) -> None:
    sure = opened(folder, min_probability=1.0)
    assert all(column.null_count == len(BATCH) for column in sure.score(sure.prepare(BATCH)).values())


def test_a_long_text_is_cut_so_that_the_question_at_its_end_is_read(folder: Path) -> None:
    scorer = opened(folder)
    asks = scorer.prepare(BATCH)["sells"].to_pylist()
    native = tokenizers.Tokenizer.from_file(str(folder / "lm" / "tokenizer.json"))
    longest = max(len(native.encode(f" {answer}").ids) for answer in ("Yes", "No", "maybe never"))
    assert CONTEXT - longest - 10 < len(asks[4]) <= CONTEXT - longest
    read = native.decode(asks[4][1:])
    assert read.startswith("Text: see the old shop see")
    assert read.endswith("\nDoes it sell something?")
    few = opened(folder, max_characters=7).prepare(BATCH)["sells"].to_pylist()
    assert native.decode(few[4][1:]) == "Text: see the\nDoes it sell something?"


def test_a_question_that_is_too_long_by_itself_is_an_error_before_the_first_record(folder: Path) -> None:
    prompt = {**PROMPTS[0], "template": "[text] " + "why does it so? " * 60}
    with pytest.raises(AssetError, match="prompt sells is longer than the model can read"):
        opened(folder, prompts=[prompt])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"template": "no place"}, "names no column"),
        ({"answers": {"Yes": "spam"}}, "two answers or more"),
        ({"answers": {"Yes": "egg", "No": "ham"}}, "'egg' is none of ham, spam, abstain"),
        ({"answers": {"Yes": "abstain", "No": "abstain"}}, "all answers abstain"),
        ({"answers": {True: "spam", False: "ham"}}, "write it in quotes"),
        ({"question": "?"}, "question is not known"),
    ],
)
def test_a_prompt_that_cannot_be_asked_is_told_by_name(change: dict[str, Any], message: str) -> None:
    arguments = {"model": "lm", "classes": CLASSES, "prompts": [{**PROMPTS[0], **change}]}
    with pytest.raises(registry.PluginError, match=f"prompt sells: .*{message}"):
        registry.build(registry.SCORER, "prompted", arguments)


@pytest.mark.slow
def test_the_scorer_keeps_its_contract(folder: Path) -> None:
    scorer = partial(
        PromptedScorer,
        model="lm",
        classes=CLASSES,
        prompts=PROMPTS,
        probabilities=True,
        precision="fp32",
        device="cpu",
    )
    check_scorer(scorer, BATCH, assets=LocalAssets([folder]))
