"""What `thresher new scorer` writes: a scorer that works, its test, a job and records to try them on."""

from __future__ import annotations

import importlib.util
import json
import keyword
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

_MODULE: Final = re.compile(r"[a-z][a-z0-9_]{0,59}")

_COLUMNS: Final = '''\
"""The scorer $class_."""

import pyarrow as pa
import pyarrow.compute as pc
from thresher.scorers import Scorer


class $class_(Scorer):
    """How often `mark` is in 100 characters of a text; null where there is no text."""

    version = 1  # count it up whenever the same record would get another score
    inputs = ("text",)  # columns of a record, signals such as word_count, scores of steps before

    def __init__(self, mark: str = "!") -> None:  # plain values: they come from the job file
        self._mark = mark

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {"score": pa.float32()}

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        text = batch.column("text")
        length = pc.utf8_length(text)
        per_hundred = pc.multiply(pc.count_substring(text, self._mark), 100.0)
        share = pc.divide(per_hundred, pc.if_else(pc.equal(length, 0), None, length))
        return {"score": share.cast(pa.float32())}
'''

_COLUMNS_TEST: Final = '''\
"""The scorer $class_ keeps the promises of its contract, and says what it should."""

import functools

import pyarrow as pa
from $name import $class_
from thresher.scorers.testing import check_scorer


def test_it_keeps_the_promises_of_a_scorer():
    check_scorer(functools.partial($class_, mark="?"))


def test_it_counts_marks_per_hundred_characters_and_gives_no_score_without_text():
    batch = pa.record_batch({"text": ["Hi!!", "calm", "", None]})
    found = $class_().score(batch)
    assert found["score"].to_pylist() == [50.0, 0.0, None, None]
'''

_MODEL: Final = '''\
"""The scorer $class_."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from thresher.scorers import AssetError, Assets, Scorer


class $class_(Scorer):
    """Mean weight of the words of a text under a model; null where there is no word.

    `model`: a JSON file of words and their weights. Words that it lacks weigh nothing.
    """

    version = 1  # count it up whenever the same record would get another score
    inputs = ("text",)  # columns of a record, signals such as word_count, scores of steps before
    tolerance = 1e-6  # how much a score may differ with where a batch ends; 0 where not at all
    obtain = "write one as {\\"word\\": weight, ...}"  # told where the model is missing

    def __init__(self, model: str) -> None:  # plain values: they come from the job file
        self.assets = (model,)  # the files that open reads: a change of one is noticed

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        return {"score": pa.float32()}

    def open(self, assets: Assets) -> None:  # once in each worker
        path = assets.locate(self.assets[0])
        try:
            weights = json.loads(path.read_text("utf-8"))
            self._known = pa.array(list(weights), pa.string())
            self._weights = np.array([*weights.values(), 0], np.float64)
        except (AttributeError, TypeError, ValueError) as error:
            raise AssetError(f"{path}: is no JSON object of words and numbers ({error})") from error

    def prepare(self, batch: pa.RecordBatch) -> pa.RecordBatch:  # in a thread, ahead of score
        text = batch.column("text").cast(pa.string())
        words = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(pc.utf8_lower(text)))
        return pa.record_batch({"words": words})

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:  # what prepare returned
        words = batch.column("words")
        row = pc.list_parent_indices(words).to_numpy()
        word = words.flatten()
        place = pc.fill_null(pc.index_in(word, self._known), len(self._known)).to_numpy()
        there = pc.greater(pc.utf8_length(word), 0).to_numpy(zero_copy_only=False)
        count = np.bincount(row[there], minlength=len(batch))
        total = np.bincount(row[there], self._weights[place[there]], len(batch))
        mean = np.divide(total, count, out=np.zeros(len(batch)), where=count > 0)
        return {"score": pa.array(mean, pa.float32(), mask=count == 0)}
'''

_MODEL_TEST: Final = '''\
"""The scorer $class_ keeps the promises of its contract, and says what it should."""

import functools
import json
from pathlib import Path

import pyarrow as pa
import pytest
from $name import $class_
from thresher.scorers import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.testing import check_scorer

HERE = LocalAssets([Path(__file__).parent])


def test_it_keeps_the_promises_of_a_scorer():
    check_scorer(functools.partial($class_, model="$name.json"), assets=HERE)


def test_it_is_the_mean_weight_of_the_words_and_nothing_without_words(tmp_path):
    (tmp_path / "weights.json").write_text(json.dumps({"fine": 1, "dull": -2}))
    scorer = $class_("weights.json")
    scorer.open(LocalAssets([tmp_path]))
    batch = pa.record_batch({"text": ["Fine fine dull pen", "pen", " ", None]})
    assert scorer.score(scorer.prepare(batch))["score"].to_pylist() == [0.0, 0.0, None, None]
    batch = pa.record_batch({"text": ["fine", "dull pen"]})
    assert scorer.score(scorer.prepare(batch))["score"].to_pylist() == [1.0, -1.0]


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "weights.json").write_text("[1, 2]")
    with pytest.raises(AssetError, match="no JSON object"):
        $class_("weights.json").open(LocalAssets([tmp_path]))
'''

_JOB: Final = """\
# thresher run $name.yaml --allow-code
name: $name
input: $name.jsonl
steps:
  - score: {$name:$class_: {$argument}}
    as: $name
    on_null: keep
output: {path: $name-out/, format: jsonl, compression: none}
"""

_RECORDS: Final = (
    {"id": "calm", "text": "The library opens at nine. Readers may take three books."},
    {"id": "loud", "text": "Buy now! Best price! Only today!"},
    {"id": "empty", "text": ""},
)
_WEIGHTS: Final = {"library": 1.0, "readers": 0.5, "books.": 1.0, "buy": -1.0, "price!": -1.0}


class NameRefused(Exception):
    """A scorer cannot be written under this name; the message says why and what to write instead."""


@dataclass(frozen=True)
class Written:
    """The files of a new scorer, in the order in which one reads them."""

    name: str
    files: tuple[Path, ...]


def write(name: str, kind: str, folder: Path) -> Written:
    """Writes a scorer of a kind, "columns" or "model", into a folder, which is made where it is missing.

    Raises NameRefused where `name` can be no module's or a file of it is there already; then nothing is
    written.
    """
    _check_name(name)
    files = {folder / file: content for file, content in _files(name, kind).items()}
    there = [str(path) for path in files if path.exists()]
    if there:
        raise NameRefused(f"{', '.join(there)} would be overwritten; choose another name, or another --into")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            with path.open("x", encoding="utf-8") as file:
                file.write(content)
    except OSError as error:
        raise NameRefused(
            f"{error.filename or folder}: cannot be written ({error.strerror or error})"
        ) from None
    return Written(name, tuple(files))


def told(written: Written) -> str:
    """What was written and what to do with it."""
    folder = written.files[0].parent
    enter = "" if folder == Path() else f"cd {folder} && "
    *others, last = (path.name for path in written.files)
    return "\n".join(
        (
            f"wrote {', '.join(others)} and {last}",
            f"check it: {enter}pytest test_{written.name}.py",
            f"run it:   {enter}thresher run {written.name}.yaml --allow-code",
        )
    )


def class_name(module: str) -> str:
    """`page_tone` as a class is called: `PageTone`."""
    return "".join(word[:1].upper() + word[1:] for word in module.split("_"))


def _files(name: str, kind: str) -> Mapping[str, str]:
    with_model = kind == "model"
    argument = f"model: {name}.json" if with_model else 'mark: "!"'
    values = {"name": name, "class_": class_name(name), "argument": argument}
    source, test = (_MODEL, _MODEL_TEST) if with_model else (_COLUMNS, _COLUMNS_TEST)
    files = {
        f"{name}.py": Template(source).substitute(values),
        f"test_{name}.py": Template(test).substitute(values),
        f"{name}.yaml": Template(_JOB).substitute(values),
        f"{name}.jsonl": "".join(f"{json.dumps(record)}\n" for record in _RECORDS),
    }
    if with_model:
        files[f"{name}.json"] = f"{json.dumps(_WEIGHTS)}\n"
    return files


def _check_name(name: str) -> None:
    if not _MODULE.fullmatch(name) or keyword.iskeyword(name):
        better = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
        usable = _MODULE.fullmatch(better) and not keyword.iskeyword(better)
        raise NameRefused(
            f"{name!r} cannot be the name of a module: write small letters, digits and _, a letter first"
            + (f", as in {better}" if usable and better != name else "")
        )
    if name in sys.stdlib_module_names or name in sys.modules or _is_installed(name):
        raise NameRefused(
            f"there is a module {name} already, which yours would be hidden by; write another name, such as "
            f"{name}_score"
        )


def _is_installed(name: str) -> bool:
    """Whether Python finds such a module other than in the folder that it was started in."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return spec is not None and not spec.submodule_search_locations
    return Path(spec.origin).resolve().parent != Path.cwd()
