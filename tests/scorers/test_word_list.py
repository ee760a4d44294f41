"""Scores from word lists, through the contract that every scorer keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from thresher.schemas.contracts import AssetError, Scorer
from thresher.scorers.assets import LocalAssets
from thresher.scorers.word_list import UrlWordsScorer, WordListScorer

TEXTS = ["A bad word, a BAD word and a very bad word.", "Nothing here.", "badly", "", None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bad.txt").write_text("bad\nvery bad\nBAD\n", encoding="utf-8")
    (tmp_path / "url.tsv").write_text("casino\t1\nbet\t0.5\nпорно\t2\n", encoding="utf-8")
    (tmp_path / "twice.tsv").write_text("Bet\t1\nbet\t2\n", encoding="utf-8")
    return tmp_path


def scored(scorer: Scorer, folder: Path, column: str, values: list[str | None]) -> list[Any]:
    scorer.open(LocalAssets([folder]))
    found = scorer.score(pa.record_batch({column: pa.array(values, pa.string())}))
    assert {name: array.type for name, array in found.items()} == scorer.outputs
    return next(iter(found.values())).to_pylist()


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("count", [3, 0, 0, 0, None]),
        ("distinct", [2, 0, 0, 0, None]),
        ("fraction", [pytest.approx(4 / 11), 0.0, 0.0, 0.0, None]),
    ],
)
def test_each_unit_counts_what_it_says(folder: Path, unit: Any, expected: list[Any]) -> None:
    assert scored(WordListScorer("bad.txt", unit=unit), folder, "text", TEXTS) == expected


def test_case_and_word_ends_matter_where_the_job_says_so(folder: Path) -> None:
    assert scored(WordListScorer("bad.txt", lowercase=False), folder, "text", TEXTS) == [3, 0, 0, 0, None]
    assert scored(WordListScorer("bad.txt"), folder, "text", ["Bad"]) == [1]
    assert scored(WordListScorer("bad.txt", lowercase=False), folder, "text", ["Bad"]) == [0]
    assert scored(WordListScorer("bad.txt", whole_words=False), folder, "text", ["badly", "forbade"]) == [
        1,
        1,
    ]


def test_urls_are_read_decoded_and_underscores_part_their_words(folder: Path) -> None:
    urls = [
        "http://a.org/very%20bad",
        "http://a.org/so_bad_",
        "http://abad.org/",
        "http://a.org/%62ad%ff",
        None,
    ]
    scorer = WordListScorer("bad.txt", on="url")
    assert scorer.inputs == ("url",)
    assert WordListScorer("bad.txt").inputs == ("text",)
    assert scored(scorer, folder, "url", urls) == [1, 1, 0, 1, None]


def test_a_url_has_the_sum_of_the_weights_of_its_words(folder: Path) -> None:
    urls = [
        "http://best-casino.com/bet_now?bet=1",
        "http://alphabet.org/",
        "http://a.org/%D0%BF%D0%BE%D1%80%D0%BD%D0%BE",
        "",
        None,
    ]
    assert scored(UrlWordsScorer("url.tsv"), folder, "url", urls) == [2.0, 0.0, 2.0, 0.0, None]
    inside = scored(UrlWordsScorer("url.tsv", whole_words=False), folder, "url", urls)
    assert inside == [2.0, 0.5, 2.0, 0.0, None]


def test_a_column_of_nulls_alone_has_no_scores(folder: Path) -> None:
    for scorer, column in ((WordListScorer("bad.txt"), "text"), (UrlWordsScorer("url.tsv"), "url")):
        scorer.open(LocalAssets([folder]))
        found = scorer.score(pa.record_batch({column: pa.nulls(2)}))
        assert all(array.null_count == 2 for array in found.values())


def test_wrong_arguments_and_wrong_files_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="on: 'meta' is not text or url"):
        WordListScorer("bad.txt", on="meta")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unit: 'share' is not one of count, fraction, distinct"):
        WordListScorer("bad.txt", unit="share")  # type: ignore[arg-type]
    with pytest.raises(AssetError, match=r"no model file 'none\.txt'"):
        WordListScorer("none.txt").open(LocalAssets([folder]))
    with pytest.raises(AssetError, match=r"bad\.txt:1: 'bad'; write a word, a tab and a number"):
        UrlWordsScorer("bad.txt").open(LocalAssets([folder]))
    with pytest.raises(AssetError, match="the same word in upper and lower case"):
        UrlWordsScorer("twice.tsv").open(LocalAssets([folder]))
