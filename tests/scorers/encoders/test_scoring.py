"""Embeddings and heads of encoders, beside transformers itself, one text at a time."""

from __future__ import annotations

import functools
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from thresher.filters.embeddings.matrix import is_embedding, matrix_of
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.encoders.model import bucketed
from thresher.scorers.encoders.scoring import EncoderScorer
from thresher.scorers.testing import check_scorer

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")

CLASSES = {0: "advert", 1: "prose", 2: "3"}


def scored(folder: Path, texts: list[str | None], **arguments: Any) -> dict[str, pa.Array]:
    scorer = EncoderScorer(str(folder), **({"precision": "fp32", "device": "cpu"} | arguments))
    scorer.open(LocalAssets())
    batch = pa.RecordBatch.from_pydict({scorer.inputs[0]: pa.array(texts, pa.string())})
    found = scorer.score(scorer.prepare(batch))
    assert {name: column.type for name, column in found.items()} == scorer.outputs
    return found


def hidden_of(folder: Path, text: str, most: int = 64) -> npt.NDArray[np.float64]:
    """The vectors of a text's tokens as transformers computes them."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    network = transformers.AutoModel.from_pretrained(str(folder)).eval()
    given = tokenizer(text, truncation=True, max_length=most, return_tensors="pt")
    with torch.no_grad():
        return np.asarray(network(**given).last_hidden_state[0].numpy(), np.float64)


def logits_of(folder: Path, text: str) -> npt.NDArray[np.float64]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    network = transformers.AutoModelForSequenceClassification.from_pretrained(str(folder)).eval()
    given = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
    with torch.no_grad():
        return np.asarray(network(**given).logits[0].numpy(), np.float64)


@pytest.mark.parametrize(
    ("pooling", "pooled"),
    [
        ("cls", lambda rows: rows[0]),
        ("mean", lambda rows: rows.mean(axis=0)),
        ("last", lambda rows: rows[-1]),
    ],
)
def test_an_embedding_is_what_transformers_gives_for_the_text_alone(
    bert: Path, texts: list[str], pooling: Any, pooled: Callable[[Any], Any]
) -> None:
    found = scored(bert, [*texts, None], pooling=pooling, normalise=False)["embedding"]
    assert is_embedding(found.type)
    assert found.is_valid().to_pylist() == [True] * len(texts) + [False]
    expected = np.stack([pooled(hidden_of(bert, text)) for text in texts])
    np.testing.assert_allclose(matrix_of(found)[0], expected, atol=3e-3)


def test_embeddings_have_length_one_unless_the_job_says_otherwise(bert: Path, texts: list[str]) -> None:
    raw = np.stack([hidden_of(bert, text).mean(axis=0) for text in texts])
    found, _ = matrix_of(scored(bert, list(texts))["embedding"])
    np.testing.assert_allclose(found, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-3)


def test_a_regression_that_transformers_loads_gives_its_logits(
    write_model: Callable[..., Path], texts: list[str], tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "edu", "BertForSequenceClassification", num_labels=1)
    found = scored(folder, [*texts, None], outputs=["embedding", "score"], pooling="cls", normalise=False)
    expected = [logits_of(folder, text)[0] for text in texts]
    assert found["score"].to_pylist() == [*(pytest.approx(value, abs=1e-5) for value in expected), None]
    vectors = np.stack([hidden_of(folder, text)[0] for text in texts])
    np.testing.assert_allclose(matrix_of(found["embedding"])[0], vectors, atol=3e-3)


def test_a_classification_that_transformers_loads_gives_classes_and_probabilities(
    write_model: Callable[..., Path], texts: list[str], tmp_path: Path
) -> None:
    folder = write_model(
        tmp_path / "model", "BertForSequenceClassification", id2label=CLASSES, num_labels=len(CLASSES)
    )
    outputs = ["score_label", "score_probability", "score_probabilities", "score_advert", "score_3"]
    found = {
        name: column.to_pylist() for name, column in scored(folder, list(texts), outputs=outputs).items()
    }
    for number, text in enumerate(texts):
        powers = np.exp(logits_of(folder, text))
        expected = powers / powers.sum()
        assert found["score_probabilities"][number] == pytest.approx(list(expected), abs=1e-5)
        assert found["score_label"][number] == CLASSES[int(expected.argmax())]
        assert found["score_probability"][number] == pytest.approx(expected.max(), abs=1e-5)
        assert found["score_advert"][number] == pytest.approx(expected[0], abs=1e-5)
        assert found["score_3"][number] == pytest.approx(expected[2], abs=1e-5)
    with pytest.raises(AssetError, match="classes of score are no numbers; write score_label"):
        scored(folder, list(texts), outputs=["score"])
    with pytest.raises(AssetError, match="no output 'score_poem'; there are embedding, score_label"):
        scored(folder, list(texts), outputs=["score_poem"])


def test_classes_that_do_not_exclude_each_other_have_probabilities_of_their_own(
    write_model: Callable[..., Path], texts: list[str], tmp_path: Path
) -> None:
    folder = write_model(
        tmp_path / "model",
        "BertForSequenceClassification",
        id2label=CLASSES,
        num_labels=len(CLASSES),
        problem_type="multi_label_classification",
    )
    found = scored(folder, list(texts), outputs="score_prose")["score_prose"].to_pylist()
    assert found == pytest.approx([1 / (1 + np.exp(-logits_of(folder, text)[1])) for text in texts], abs=1e-5)
    with pytest.raises(AssetError, match="no output 'score_label'"):
        scored(folder, list(texts), outputs=["score_label"])


def celadon_like(folder: Path, write_model: Callable[..., Path]) -> dict[str, npt.NDArray[np.float32]]:
    """A folder whose heads lie among the encoder's weights, as those of Celadon do."""
    from safetensors.numpy import load_file, save_file

    write_model(folder)
    chance = np.random.default_rng(0)
    heads = {}
    for number in range(2):
        heads[f"heads.{number}.weight"] = chance.normal(size=(4, 32)).astype(np.float32)
        heads[f"heads.{number}.bias"] = chance.normal(size=4).astype(np.float32)
    weights = folder / "model.safetensors"
    save_file({**load_file(str(weights)), **heads}, str(weights), metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["MultiHeadBertForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config))
    return heads


def described(names: list[str]) -> str:
    told = [
        {
            "name": name,
            "kind": "classification",
            "classes": ["0", "1", "2", "3"],
            "file": "model.safetensors",
            "layers": [f"heads.{number}"],
        }
        for number, name in enumerate(names)
    ]
    return json.dumps({"pooling": "cls", "normalised": False, "heads": told})


def test_heads_among_the_weights_of_an_encoder_are_read_as_a_file_describes_them(
    write_model: Callable[..., Path], texts: list[str], tmp_path: Path
) -> None:
    heads = celadon_like(tmp_path, write_model)
    with pytest.raises(AssetError, match=r"lack classifier\.bias.*described by a heads\.json"):
        scored(tmp_path, list(texts))
    (tmp_path / "heads.json").write_text(described(["race", "gender"]))

    found = scored(tmp_path, list(texts), outputs=["race", "gender", "gender_2"], pooling="mean")

    for number, text in enumerate(texts):
        first = hidden_of(tmp_path, text)[0]
        race, gender = (heads[f"heads.{n}.weight"] @ first + heads[f"heads.{n}.bias"] for n in (0, 1))
        assert found["race"][number].as_py() == race.argmax()
        assert found["gender"][number].as_py() == gender.argmax()
        assert found["gender_2"][number].as_py() == pytest.approx(
            np.exp(gender[2]) / np.exp(gender).sum(), abs=1e-4
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pooling": "max"}, "pooling is 'max'; write cls, mean, last"),
        ({"heads": [{"name": "x_label", "kind": "regression", "layers": []}]}, "cannot be called 'x_label'"),
        ({"heads": [{"name": "x", "kind": "regression", "layers": ["heads.0"]}]}, "FileNotFoundError"),
        (
            {
                "heads": [
                    {"name": "x", "kind": "regression", "layers": ["heads.0"], "file": "model.safetensors"}
                ]
            },
            "4 outputs",
        ),
        ({"heads": [{"kind": "regression"}]}, "KeyError"),
    ],
)
def test_a_file_that_does_not_describe_heads_is_an_error(
    write_model: Callable[..., Path], tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    celadon_like(tmp_path, write_model)
    (tmp_path / "heads.json").write_text(json.dumps(json.loads(described(["race", "gender"])) | change))
    with pytest.raises(AssetError, match=rf"heads\.json: does not describe heads.*({told})"):
        scored(tmp_path, ["a cat"])


def test_a_folder_of_sentence_transformers_says_how_it_is_read(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(bert, folder)
    types = ["Transformer", "Pooling"]
    modules = [
        {"idx": n, "path": ["", "1_Pooling"][n], "type": f"sentence_transformers.models.{type_}"}
        for n, type_ in enumerate(types)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 5}))
    prompts = {"prompts": {"query": "water: ", "passage": ""}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    text = "the old mill and the new house"

    found, _ = matrix_of(scored(folder, [text])["embedding"])
    np.testing.assert_allclose(found[0], hidden_of(folder, text, 5)[0], atol=3e-3)

    asked, _ = matrix_of(scored(folder, [text], prompt="query", max_tokens=64)["embedding"])
    np.testing.assert_allclose(asked[0], hidden_of(folder, f"water: {text}")[0], atol=3e-3)
    same, _ = matrix_of(scored(folder, [text], prefix="water: ", max_tokens=64)["embedding"])
    np.testing.assert_array_equal(asked, same)
    with pytest.raises(AssetError, match="has no prompt 'title'; there are: passage, query"):
        scored(folder, [text], prompt="title")

    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(AssetError, match="pools by pooling_mode_max_tokens; there are cls, mean, last"):
        scored(folder, [text])
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(AssetError, match="has a module 'Dense'"):
        scored(folder, [text])


def test_a_long_text_gives_the_tokens_of_its_beginning(bert: Path) -> None:
    scorer = EncoderScorer(str(bert), max_tokens=16, precision="fp32")
    scorer.open(LocalAssets())
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(bert))
    for text in (
        "the cat sat on the mill " * 400,
        "  " + "\n" * 5000 + "a cat",
        "x" * 500 + " the cat",
        ("z" * 190 + " ") * 60,  # each an unknown token
        "a" * 191 + " cat sat on the old house" * 9,
    ):
        batch = pa.RecordBatch.from_pydict({"text": [text]})
        (found,) = scorer.prepare(batch).column("tokens").to_pylist()
        assert found == tokenizer(text, truncation=True, max_length=16)["input_ids"]


@pytest.mark.parametrize("budget", [1, 40, 100, 10_000])
def test_texts_of_like_length_go_together_within_the_budget(budget: int) -> None:
    lengths = [5, 60, 7, 3, 3, 41, 20, 19, 64]
    batches = [list(rows) for rows in bucketed(lengths, budget)]
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= budget
    longest = [max(lengths[row] for row in rows) for rows in batches]
    assert longest == sorted(longest)


def test_the_batch_changes_nothing_beyond_rounding_and_half_precision_little(
    bert: Path, texts: list[str]
) -> None:
    whole = matrix_of(scored(bert, list(texts))["embedding"])[0]
    alone = matrix_of(scored(bert, list(texts), batch_tokens=1)["embedding"])[0]
    half = matrix_of(scored(bert, list(texts), precision="bf16")["embedding"])[0]
    assert np.abs(whole - alone).max() <= EncoderScorer("", precision="fp32").tolerance
    assert 0 < np.abs(whole - half).max() <= EncoderScorer("", precision="bf16").tolerance


def test_another_column_is_read_where_the_job_names_it(bert: Path) -> None:
    scorer = EncoderScorer(str(bert), column="url")
    assert scorer.inputs == ("url",)
    found = scored(bert, ["the river", None], column="url")["embedding"]
    assert found.equals(scored(bert, ["the river", None])["embedding"])


def test_weights_that_are_not_there_pickled_or_code_of_the_folder_are_refused(
    bert: Path, tmp_path: Path
) -> None:
    def changed(name: str) -> Path:
        shutil.copytree(bert, tmp_path / name)
        return tmp_path / name

    with pytest.raises(AssetError, match="there is no config"):
        scored(tmp_path, ["a"])
    folder = changed("pickled")
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(AssetError, match="pickle"):
        scored(folder, ["a"])
    folder = changed("without-tokenizer")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(AssetError, match=r"has no tokenizer\.json; transformers writes one"):
        scored(folder, ["a"])

    folder = changed("partial")
    from safetensors.numpy import load_file, save_file

    weights = load_file(str(folder / "model.safetensors"))
    del weights["embeddings.word_embeddings.weight"]
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(AssetError, match=r"its weights lack embeddings\.word_embeddings\.weight"):
        scored(folder, ["a"])

    folder = changed("with-code")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}, "model_type": "own"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(AssetError, match="transformers cannot load it"):
        scored(folder, ["a"])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"outputs": []}, "no output is asked for"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"prefix": "a", "prompt": "b"}, "write one of them"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        EncoderScorer("model", **arguments)


def test_more_tokens_than_the_model_has_positions_are_refused(bert: Path) -> None:
    with pytest.raises(AssetError, match="the model reads 64 tokens, and max_tokens is 65"):
        scored(bert, ["a"], max_tokens=65)


@pytest.mark.slow
def test_the_scorer_keeps_its_contract(write_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "edu", "BertForSequenceClassification", num_labels=1)
    check_scorer(
        functools.partial(
            EncoderScorer, model=str(folder), outputs=["embedding", "score"], precision="fp32", device="cpu"
        )
    )


@pytest.mark.parametrize("kind", ["Roberta", "DebertaV2", "DistilBert", "ModernBert"])
def test_encoders_of_other_kinds_read_texts_together_as_alone(
    bert: Path, texts: list[str], tmp_path: Path, kind: str
) -> None:
    """Positions that begin behind the padding's, relative ones, rotary ones, other names of the width."""
    settings = {
        "vocab_size": 90,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 66,
        "pad_token_id": 1,
        "initializer_range": 0.3,
    }
    if kind == "DistilBert":
        settings |= {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64}
    if kind == "DebertaV2":
        settings |= {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**settings)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(str(tmp_path))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(bert / name, tmp_path / name)
    reading = {"pooling": "mean", "normalise": False, "max_tokens": 64}
    found, _ = matrix_of(scored(tmp_path, list(texts), **reading)["embedding"])
    network = transformers.AutoModel.from_pretrained(str(tmp_path)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(bert))
    for row, text in zip(found, texts, strict=True):
        ids = tokenizer(text, truncation=True, max_length=64, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            vectors = network(input_ids=ids).last_hidden_state[0].numpy()
        np.testing.assert_allclose(row, vectors.mean(axis=0), atol=5e-3)


def test_the_tokens_of_real_texts_are_those_of_transformers(bert: Path, shared_data: Path) -> None:
    texts = [
        json.loads(line)["text"]
        for path in sorted((shared_data / "text").glob("*.jsonl.gz"))
        for line in gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
    ]
    scorer = EncoderScorer(str(bert), max_tokens=32, precision="fp32")
    scorer.open(LocalAssets())
    found = scorer.prepare(pa.RecordBatch.from_pydict({"text": texts})).column("tokens").to_pylist()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(bert))
    assert len(texts) > 10
    assert found == tokenizer(texts, truncation=True, max_length=32)["input_ids"]
