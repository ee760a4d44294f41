"""Where models are looked for, and which files are refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets


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
