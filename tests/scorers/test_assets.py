"""Where models are looked for, and which files are refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets, stated_licence


def test_a_relative_name_is_found_beside_the_job_first_and_then_among_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in (("job", "a.bin"), ("models", "a.bin"), ("models", "b.bin"), ("more", "sub/c.bin")):
        (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_bytes(b"model")
    monkeypatch.setenv("THRESHER_MODELS", f"{tmp_path / 'models'}{os.pathsep}{tmp_path / 'more'}")
    assets = pickle.loads(pickle.dumps(LocalAssets([tmp_path / "job"])))
    assert assets.locate("a.bin") == tmp_path / "job" / "a.bin"
    assert assets.locate("b.bin") == tmp_path / "models" / "b.bin"
    assert assets.locate("sub/c.bin") == tmp_path / "more" / "sub" / "c.bin"
    assert LocalAssets().locate(str(tmp_path / "job" / "a.bin")) == tmp_path / "job" / "a.bin"


def test_a_missing_model_is_reported_with_every_place_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THRESHER_MODELS", str(tmp_path / "models"))
    with pytest.raises(AssetError) as caught:
        LocalAssets([tmp_path / "job"]).locate("hq.bin")
    for told in (str(tmp_path / "job" / "hq.bin"), str(tmp_path / "models" / "hq.bin"), "THRESHER_MODELS"):
        assert told in str(caught.value)


@pytest.mark.parametrize("name", ["https://x.org/hq.bin", "s3://bucket/hq.bin", "nul\0name", "a" * 5000])
def test_names_that_cannot_be_files_are_refused_as_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(AssetError):
        LocalAssets([tmp_path]).locate(name)


def test_pickles_are_refused_by_their_name_and_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"anything")
    for protocol in range(2, 6):
        (tmp_path / f"weights{protocol}.bin").write_bytes(pickle.dumps({"a": 1}, protocol))
    with zipfile.ZipFile(tmp_path / "checkpoint.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    refused = sorted(path.name for path in tmp_path.iterdir())
    assert len(refused) == 6
    for name in refused:
        with pytest.raises(AssetError, match="runs the code in it"):
            LocalAssets([tmp_path]).locate(name)


def test_other_files_and_folders_pass(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "words.zip", "w") as archive:
        archive.writestr("words.txt", b"")
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("words.zip", "empty.bin", "folder"):
        assert LocalAssets([tmp_path]).locate(name) == tmp_path / name


def test_the_checksum_is_of_the_content_and_follows_its_changes(tmp_path: Path) -> None:
    (tmp_path / "hq.bin").write_bytes(b"one")
    assets = LocalAssets([tmp_path])
    found = assets.describe("hq.bin", licence="MIT")
    assert (found.sha256, found.licence) == (hashlib.sha256(b"one").hexdigest(), "MIT")
    (tmp_path / "hq.bin").write_bytes(b"second")
    assert assets.describe("hq.bin").sha256 == hashlib.sha256(b"second").hexdigest()


def test_the_checksum_of_a_folder_covers_names_and_contents(tmp_path: Path) -> None:
    digests = set()
    for name, content in (("a", b"1"), ("a", b"2"), ("b", b"2")):
        folder = tmp_path / f"{name}{content.decode()}" / "model"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        digests.add(LocalAssets([folder.parent]).describe("model").sha256)
    assert len(digests) == 3


def test_a_pickle_in_a_folder_of_weights_is_refused_and_the_way_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "hub" / "onnx").mkdir(parents=True)
    (tmp_path / "hub" / "config.json").write_text("{}")
    (tmp_path / "hub" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    # fastText's magic number, and a word that only looks like the start of a pickle's name.
    (tmp_path / "hub" / "onnx" / "words.bin").write_bytes(bytes([0xBA, 0x16, 0x4F, 0x2F]))
    assets = LocalAssets([tmp_path])
    assert assets.locate("hub") == tmp_path / "hub"
    with zipfile.ZipFile(tmp_path / "hub" / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(AssetError, match=r"pytorch_model\.bin: holds a Python pickle.*remove it from the"):
        assets.locate("hub")
    (tmp_path / "hub" / "model.safetensors").unlink()
    with pytest.raises(AssetError, match=r"pytorch_model\.bin: .*convert the weights to safetensors"):
        assets.locate("hub")
    (tmp_path / "hub" / "pytorch_model.bin").unlink()
    (tmp_path / "hub" / "onnx" / "OPTIMIZER.PT").write_bytes(pickle.dumps([1]))
    with pytest.raises(AssetError, match=r"OPTIMIZER\.PT: holds a Python pickle"):
        assets.locate("hub")


def test_a_missing_model_is_reported_with_what_its_scorer_says_of_making_one(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"THRESHER_MODELS; `thresher train fasttext` makes one$"):
        LocalAssets([tmp_path], "`thresher train fasttext` makes one").locate("hq.bin")
    with pytest.raises(AssetError, match="`thresher train --help` lists the models"):
        LocalAssets([tmp_path]).locate("hq.bin")


@pytest.mark.parametrize(
    ("card", "content", "licence"),
    [
        ("hq.bin.md", "# hq.bin\n\nSHA-256: `ab`. Licence: cc-by-sa-3.0. A model can repeat", "cc-by-sa-3.0"),
        ("hq.bin.md", "---\nlicense: mit\n---\n# hq\n", "mit"),
        ("README.md", "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n", "apache-2.0"),
        ("README.md", "---\nlicense: [mit, gpl]\n---\n", "mit, gpl"),
        ("README.md", "---\nlicense: other\nlicense_name: gemma-terms\n---\n", "gemma-terms"),
        ("README.md", "---\nlicense: other\n---\n", "other"),
        ("README.md", "---\nlicense: mit\nsize_categories:\n- n<1K\n---\n# Data\n", "unknown"),
        ("README.md", "# Mine\n\nLicence: MIT. The code's.\n", "unknown"),
        ("README.md", "---\nlicense: [mit\n---\n", "unknown"),
        ("README.md", "---\n- license\n---\n", "unknown"),
        ("other.md", "---\nlicense: mit\n---\n", "unknown"),
    ],
)
def test_the_licence_is_that_of_the_models_card(
    tmp_path: Path, card: str, content: str, licence: str
) -> None:
    (tmp_path / "hq.bin").write_bytes(b"model")
    (tmp_path / card).write_text(content)
    assert LocalAssets([tmp_path]).describe("hq.bin").licence == licence


def test_the_licence_of_a_folder_is_that_of_the_card_in_it_or_beside_it(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "README.md").write_text("---\nlicense: gpl-3.0\n---\n")
    assert stated_licence(tmp_path / "clip") == "unknown"
    (tmp_path / "clip" / "README.md").write_text("---\nlicense: mit\n---\n")
    assert stated_licence(tmp_path / "clip") == "mit"
    (tmp_path / "clip.md").write_text("Licence: cc0-1.0. As its data.\n")
    assert stated_licence(tmp_path / "clip") == "cc0-1.0"
