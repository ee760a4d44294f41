"""Finding scorers by name, building them, and what their fingerprints depend on."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from thresher.scorers import registry
from thresher.scorers.fasttext import FastTextScorer
from thresher.scorers.registry import SCORER, PluginError, build, find, fingerprint, installed

LENGTH = """
import pyarrow as pa
from thresher.scorers import Scorer
{more}
class Length(Scorer):
    version = {version}
    inputs = ("text",)
    outputs = {{"length": pa.int32()}}
    def __init__(self, factor: int = 1) -> None:
        self.factor = factor
    def score(self, batch):
        lengths = [len(text or "") * self.factor for text in batch["text"].to_pylist()]
        return {{"length": pa.array(lengths, pa.int32())}}
"""


def write(folder: Path, name: str = "own_scorer", more: str = "", version: int = 1) -> Path:
    path = folder.joinpath(*name.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(LENGTH.format(more=more, version=version))
    return folder


def lengths(scorer: Any) -> list[int]:
    return list(scorer.score(pa.record_batch({"text": ["abc"]}))["length"].to_pylist())


def test_fasttext_is_built_from_its_arguments() -> None:
    scorer = build(SCORER, "fasttext", {"model": "hq.bin", "label": "hq"})
    assert isinstance(scorer, FastTextScorer)
    assert scorer.assets == ("hq.bin",)


def test_a_scorer_beside_the_job_is_found_only_where_code_is_allowed(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(PluginError, match="--allow-code"):
        find(SCORER, "own_scorer:Length", directory=tmp_path)
    assert "own_scorer" not in sys.modules
    scorer = build(SCORER, "own_scorer:Length", {"factor": 2}, directory=tmp_path, allow_code=True)
    assert lengths(scorer) == [6]


def test_the_folder_of_a_job_does_not_stay_on_the_path(tmp_path: Path) -> None:
    write(tmp_path, more="import beside_it\n")
    (tmp_path / "beside_it.py").write_text("VALUE = 1\n")
    before = list(sys.path)
    find(SCORER, "own_scorer:Length", directory=tmp_path, allow_code=True)
    assert sys.path == before
    write(tmp_path, more="raise ValueError('broken on purpose')\n")
    with pytest.raises(PluginError, match="ValueError: broken on purpose"):
        find(SCORER, "own_scorer:Length", directory=tmp_path, allow_code=True)
    assert sys.path == before


def test_two_jobs_may_have_modules_of_the_same_name_and_a_changed_one_is_read_again(tmp_path: Path) -> None:
    one, two = (write(tmp_path / folder, more="import beside_it\n") for folder in ("one", "two"))
    (one / "beside_it.py").write_text("VALUE = 1\n")
    (two / "beside_it.py").write_text("VALUE = 2\n")
    found = [
        find(SCORER, "own_scorer:Length", directory=folder, allow_code=True) for folder in (one, two, one)
    ]
    values = [sys.modules[cls.__module__] for cls in found]
    assert [cls.__init__.__globals__["beside_it"].VALUE for cls in found] == [1, 2, 1]
    assert values[2].__file__ == str(one / "own_scorer.py")
    write(one, more="import beside_it\n", version=12)
    assert find(SCORER, "own_scorer:Length", directory=one, allow_code=True).version == 12


def test_a_class_in_a_package_and_one_inside_a_class_are_found(tmp_path: Path) -> None:
    write(tmp_path, "my_package.scorers")
    (tmp_path / "my_package" / "__init__.py").touch()
    with (tmp_path / "my_package" / "scorers.py").open("a") as file:
        file.write("class Outer:\n    Inner = Length\n")
    found = find(SCORER, "my_package.scorers:Outer.Inner", directory=tmp_path, allow_code=True)
    assert lengths(found()) == [3]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fastext", r"unknown scorer 'fastext' \(did you mean fasttext\?\); there are .*fasttext"),
        ("own_scorer:Lenght", r"has no class 'Lenght' \(did you mean Length\?\)"),
        ("own_scorer:pa", "is not a scorer: write a class derived from"),
        ("no_such_module:Length", "no module no_such_module in .* or among the installed packages"),
        ("own_scorer:", "write module:Class"),
        ("../own_scorer:Length", "write module:Class"),
        ("own_scorer:Length()", "write module:Class"),
    ],
)
def test_a_scorer_that_cannot_be_found_is_explained(tmp_path: Path, name: str, message: str) -> None:
    write(tmp_path)
    with pytest.raises(PluginError, match=message):
        find(SCORER, name, directory=tmp_path, allow_code=True)


def test_a_module_that_hides_behind_one_that_is_loaded_already_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "json")
    with pytest.raises(PluginError, match="give yours another name"):
        find(SCORER, "json:Length", directory=tmp_path, allow_code=True)


def test_wrong_arguments_are_explained_with_the_nearest_name() -> None:
    with pytest.raises(
        PluginError, match=r"no argument 'modell' \(did you mean model\?\); it takes model, label"
    ):
        build(SCORER, "fasttext", {"modell": "hq.bin", "label": "hq"})
    with pytest.raises(PluginError, match="missing 1 required positional argument: 'label'"):
        build(SCORER, "fasttext", {"model": "hq.bin"})


def offer(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [p for p in points if p.group == group])


def test_installed_packages_offer_scorers_as_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "offered_scorer")
    monkeypatch.syspath_prepend(str(tmp_path))
    offer(
        monkeypatch,
        EntryPoint("length", "offered_scorer:Length", "thresher.scorers"),
        EntryPoint("broken", "no_such_module:Length", "thresher.scorers"),
        EntryPoint("other", "offered_scorer:Length", "somebody.else"),
    )
    assert list(installed(SCORER)) == ["broken", "length"]
    assert lengths(build(SCORER, "length", {"factor": 3})) == [9]
    with pytest.raises(PluginError, match=r"did you mean length\?.*there are broken, .*fasttext, .*length"):
        find(SCORER, "lenght")
    with pytest.raises(PluginError, match="broken of an installed package cannot be imported"):
        find(SCORER, "broken")


def test_the_fingerprint_follows_arguments_models_version_and_source_and_nothing_else(tmp_path: Path) -> None:
    def of(arguments: dict[str, Any], *checksums: str) -> str:
        return fingerprint(
            SCORER, "own_scorer:Length", arguments, checksums=checksums, directory=tmp_path, allow_code=True
        )

    write(tmp_path)
    first = of({"factor": 1}, "aa")
    assert of({"factor": 1}, "aa") == first
    others = [of({"factor": 2}, "aa"), of({"factor": 1}, "ab"), of({"factor": 1})]
    write(tmp_path, version=2)
    others.append(of({"factor": 1}, "aa"))
    write(tmp_path, more="# a comment\n")
    others.append(of({"factor": 1}, "aa"))
    write(tmp_path)
    assert of({"factor": 1}, "aa") == first
    assert len({first, *others}) == 6


def test_the_fingerprint_of_our_own_scorers_needs_no_source() -> None:
    found = fingerprint(SCORER, "fasttext", {"model": "hq.bin", "label": "hq"}, checksums=["00"])
    assert found == fingerprint(SCORER, "fasttext", {"label": "hq", "model": "hq.bin"}, checksums=["00"])
    with pytest.raises(PluginError, match="plain values"):
        fingerprint(SCORER, "fasttext", {"model": Path("hq.bin"), "label": "hq"})
