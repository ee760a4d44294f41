"""The dataset card: what it says is what the run did, and Hugging Face's own tools read it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import thresher
import yaml
from thresher.jobs.card import card
from thresher.jobs.licences import front_matter
from thresher.jobs.loading import load
from thresher.pipeline.ingest import JobRefused
from thresher.schemas.contracts import AssetRef
from thresher.scorers.assets import stated_licence
from thresher.scorers.model_card import Trained, model_card

ENGLISH = "This is a plain sentence about the weather, and the people who have to live with that number {}. "
GERMAN = "Das ist ein schlichter Satz über das Wetter und die Leute, die damit leben müssen, Nummer {}. "


def write(folder: Path, count: int = 40) -> Path:
    """A job beside its input: English and German, some of it too short."""
    folder.mkdir(parents=True)
    texts = [(GERMAN if n % 4 == 0 else ENGLISH).format(n) * 8 for n in range(count)]
    rows = [{"id": f"d{n}", "text": text if n % 10 else "short"} for n, text in enumerate(texts)]
    (folder / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    value = {
        "name": "weather",
        "input": [{"path": "docs.jsonl", "licence": "CC-BY-4.0"}],
        "steps": [{"rule": "word_count > 20", "name": "long_enough"}, {"language": {"keep": ["en", "de"]}}],
        "output": {"path": "out", "shard": "8KB"},
        "run": {"workers": 1},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(value))
    return folder / "job.yaml"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a job."""
    job = write(tmp_path_factory.mktemp("card") / "a")
    thresher.run(load(job))
    return job.parent / "out"


def matter(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((output / "README.md").read_text().split("---\n")[1])
    return found


def test_the_front_matter_says_licence_languages_and_size(finished: Path) -> None:
    assert matter(finished) == {
        "pretty_name": "weather",
        "license": "cc-by-4.0",
        "language": ["de", "en"],
        "size_categories": ["n<1K"],
        "task_categories": ["text-generation"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "shard-*.parquet"}]}
        ],
    }


def test_hugging_face_reads_the_card(finished: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    read = hub.DatasetCard.load(finished / "README.md")
    assert (read.data.license, read.data.pretty_name, read.data.language) == (
        "cc-by-4.0",
        "weather",
        ["de", "en"],
    )
    assert "| long_enough | 40 | 36 | 90.0 % |" in read.text


@pytest.mark.parametrize(
    ("format_", "compression"),
    [("parquet", "zstd"), ("jsonl", "zstd"), ("jsonl", "gzip"), ("jsonl", "none"), ("webdataset", "none")],
)
def test_datasets_loads_every_record_of_the_folder_and_nothing_else(
    tmp_path: Path, format_: str, compression: str
) -> None:
    datasets = pytest.importorskip("datasets")
    job = write(tmp_path / "a")
    changes = [f"output.format={format_}", f"output.compression={compression}"]
    result = thresher.run(load(job, changes))
    assert len(result.shards) > 1
    found = datasets.load_dataset(result.output, cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"]
    ids = [(row["json"] if format_ == "webdataset" else row)["id"] for row in found["train"]]
    assert sorted(ids) == sorted(f"d{n}" for n in range(40) if n % 10)


def test_the_recipe_of_the_card_is_the_job(finished: Path) -> None:
    text = (finished / "README.md").read_text()
    recipe = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    recipe["output"]["path"] = str(finished)
    recipe["run"]["directory"] = str(finished.parent)
    again, first = load(recipe), load(finished.parent / "job.yaml")
    assert (again.steps, again.input) == (first.steps, first.input)
    assert again.output == first.output
    assert (again.run.seed, again.run.part) == (first.run.seed, first.run.part)


def test_more_workers_and_other_folders_leave_the_same_card_report_and_manifest(
    finished: Path, tmp_path: Path
) -> None:
    changes = ["run.workers=2", f"run.work={tmp_path / 'work'}", f"output.path={tmp_path / 'other'}"]
    thresher.run(load(finished.parent / "job.yaml", changes))
    for name in ("README.md", "report.md", "manifest.json"):
        assert (tmp_path / "other" / name).read_bytes() == (finished / name).read_bytes()


def test_the_card_does_not_tell_where_the_job_lies(finished: Path) -> None:
    text = (finished / "README.md").read_text()
    assert "| docs.jsonl |" in text
    assert str(finished.parent) not in text


def test_the_languages_are_those_of_the_written_records(finished: Path) -> None:
    totals = json.loads((finished / "manifest.json").read_text())["totals"]
    german = sum(n % 4 == 0 for n in range(40) if n % 10)
    assert totals["languages"] == {"en": totals["written"] - german, "de": german}
    assert f"| de | {german} |" in (finished / "README.md").read_text()


def test_a_readme_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    job = write(tmp_path / "a")
    (tmp_path / "a" / "out").mkdir()
    readme = tmp_path / "a" / "out" / "README.md"
    readme.write_text("# Mine")
    with pytest.raises(JobRefused, match=r"README\.md is in the way"):
        thresher.run(load(job))
    thresher.run(load(job, ["output.card=false"]))
    assert readme.read_text() == "# Mine"
    readme.unlink()
    thresher.run(load(job))
    assert matter(tmp_path / "a" / "out")["pretty_name"] == "weather"
    thresher.run(load(job, ["output.card=false"]))
    assert not readme.exists(), "the card is of an output that is no longer there"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (10**9 - 1, "100M<n<1B"),
        (10**12 - 1, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
)
def test_the_size_class_is_that_of_the_hub(finished: Path, written: int, told: str) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    manifest["totals"]["written"] = written
    text = card(load(finished.parent / "job.yaml"), manifest)
    assert yaml.safe_load(text.split("---\n")[1])["size_categories"] == [told]


def test_a_language_code_that_yaml_takes_for_a_boolean_stays_one(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    manifest["totals"]["languages"] = {"no": 3, "eng_Latn": 2, "eng_Cyrl": 1}
    text = card(load(finished.parent / "job.yaml"), manifest)
    assert yaml.safe_load(text.split("---\n")[1])["language"] == ["eng", "no"]


@pytest.mark.parametrize(
    ("licences", "fields"),
    [
        (["odc-by", "ODC-By"], {"license": "odc-by"}),
        ([None], {"license": "unknown"}),
        (["Apache 2.0", "apache-2.0"], {"license": "apache-2.0"}),
        (["mit", None, "CC0 1.0"], {"license": ["mit", "unknown", "cc0-1.0"]}),
        (["mit", "House Rules (v2)"], {"license": ["mit", "other"], "license_name": "house-rules-v2"}),
    ],
)
def test_licences_are_told_as_the_hub_knows_them(licences: list[str | None], fields: dict[str, Any]) -> None:
    assert front_matter(licences) == fields


def test_a_model_is_listed_with_its_digest_and_the_licence_of_its_own_card(
    finished: Path, tmp_path: Path
) -> None:
    import hashlib

    model = tmp_path / "hq.bin"
    model.write_bytes(b"a model")
    trained = Trained(
        AssetRef(str(model), "0" * 64, "cc-by-sa-3.0"), tmp_path / "hq.bin.md", {}, {}, 0, "", {}
    )
    (tmp_path / "hq.bin.md").write_text(model_card(trained, {}, {}))
    assert stated_licence(model) == "cc-by-sa-3.0"
    assert stated_licence(tmp_path / "other.bin") == "unknown"
    shutil.copy(finished.parent / "docs.jsonl", tmp_path / "docs.jsonl")
    value = yaml.safe_load((finished.parent / "job.yaml").read_text())
    value["steps"].append({"score": {"fasttext": {"model": "hq.bin", "label": "hq"}}, "as": "quality"})
    value["run"]["directory"] = str(tmp_path)
    job = load(value, check=False)
    digest = hashlib.sha256(b"a model").hexdigest()
    told = f"| hq.bin | {job.steps[-1].name} | `{digest}` | cc-by-sa-3.0 |"
    assert told in card(job, json.loads((finished / "manifest.json").read_text())).splitlines()


def test_text_of_a_job_cannot_break_the_card(finished: Path) -> None:
    value = yaml.safe_load((finished.parent / "job.yaml").read_text())
    value["input"][0] |= {"licence": "mine | <b>\n# yours", "path": "a|b.jsonl"}
    value["steps"][0]["rule"] = "word_count > 20 or text == '```\n---\n# heading'"
    text = card(load(value, check=False), json.loads((finished / "manifest.json").read_text()))
    assert "mine \\| &lt;b> # yours |" in text
    recipe = text.partition("````yaml\n")[2].partition("\n````\n")[0]
    assert yaml.safe_load(recipe)["steps"][0]["rule"] == value["steps"][0]["rule"]


def test_tokens_are_counted_by_shard_and_in_all(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    import pyarrow.parquet as pq

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    job = write(tmp_path / "a")
    words.save(str(tmp_path / "a" / "words.json"))
    result = thresher.run(load(job, [f"output.tokenizer={tmp_path / 'a' / 'words.json'}"]))
    output = Path(result.output)
    counts = [
        sum(len(text.split()) for text in pq.read_table(output / shard.path)["text"].to_pylist())
        for shard in result.shards
    ]
    manifest = json.loads((output / "manifest.json").read_text())
    assert [shard["tokens"] for shard in manifest["shards"]] == counts
    assert manifest["totals"]["tokens"] == result.totals["tokens"] == sum(counts) > 1000
    assert manifest["tokenizer"]["name"] == "words.json"
    assert f"{sum(counts):,} tokens of words.json" in (output / "README.md").read_text()
    assert f"{sum(counts):,} tokens written" in (output / "report.md").read_text()
    plain = thresher.run(load(job))
    assert "tokens" not in plain.totals
    assert plain.shards[0].tokens is None


def test_the_tokenizer_of_a_selection_counts_the_output_too(tmp_path: Path) -> None:
    from thresher.pipeline.output_directory import tokenizer_of

    job = write(tmp_path / "a")
    (tmp_path / "a" / "first.json").write_text("{}")
    value = yaml.safe_load(job.read_text())
    value["run"]["directory"] = str(job.parent)
    value["steps"].append({"select": {"budget": 1000, "unit": "tokens", "tokenizer": "first.json"}})
    assert str(tokenizer_of(load(value, check=False))).endswith("first.json")
    value["output"]["tokenizer"] = "second.json"
    assert str(tokenizer_of(load(value, check=False))).endswith("second.json")
    assert tokenizer_of(load(job, check=False)) is None
