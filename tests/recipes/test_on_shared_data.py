"""Every recipe on files of real crawlers: the accounts add up, and what is kept is what the paper keeps."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
EMAIL = re.compile(r"\b[\w.+-]+@(?!example\.com)[\w-]+(\.[\w-]+)+\b")


@pytest.fixture(scope="session")
def web(shared_data: Path) -> Path:
    """Two files of a crawler, and one capture of Common Crawl as WARC and as WET."""
    return shared_data / "web" / "warc"


def gopher_quality_holds(text: str) -> bool:
    words = text.split()
    return (
        50 <= len(words) <= 100_000
        and 3 <= sum(map(len, words)) / len(words) <= 10
        and len(STOP_WORDS & set(words)) >= 2
        and sum(any(c.isalpha() for c in word) for word in words) >= 0.8 * len(words)
    )


def test_massivetext_keeps_pages_that_hold_gophers_rules(run: Callable[..., Any], web: Path) -> None:
    found = run("massivetext", source=web)
    texts = [record["text"] for record in found.kept.values()]
    assert len(texts) > 20
    assert len({" ".join(text.split()) for text in texts}) == len(texts)
    assert all(gopher_quality_holds(text) for text in texts)


def test_fineweb_keeps_prose_without_addresses(run: Callable[..., Any], web: Path) -> None:
    found = run("fineweb", source=web)
    assert len(found.kept) > 10
    for record in found.kept.values():
        text = record["text"]
        lines = [line for line in text.split("\n") if line.strip()]
        assert all(len(line.split()) >= 3 for line in lines)
        assert sum(len(line) <= 30 for line in lines) < 0.67 * len(lines)
        assert "javascript" not in text.lower()
        assert not EMAIL.search(text)
        assert not {"{", "}"} & set(text)


def test_refinedweb_keeps_no_line_that_it_discards(run: Callable[..., Any], web: Path) -> None:
    found = run("refinedweb", source=web)
    assert len(found.kept) > 10
    for record in found.kept.values():
        lines = [line for line in record["text"].split("\n") if line.strip()]
        assert all(len(line.split()) > 1 for line in lines)
        assert all(sum(c.isupper() for c in line) <= len(line) / 2 for line in lines)
        assert not any(re.fullmatch(r"\W*\d+ (likes|shares|comments|views)\W*", line) for line in lines)
    addresses = [record["url"] for record in found.kept.values()]
    assert len(set(addresses)) == len(addresses)


def test_dclm_baseline_keeps_a_tenth(run: Callable[..., Any], web: Path, classifier: Path) -> None:
    found = run("dclm-baseline", source=web, models=[classifier])
    steps = {step["step"]: step for step in found.totals["steps"]}
    assert steps["select:quality"]["in"] >= 20
    assert steps["select:quality"]["kept"] == steps["select:quality"]["in"] // 10


def test_c4_finds_that_the_page_of_the_tutorial_is_not_english(run: Callable[..., Any], web: Path) -> None:
    found = run("c4", source=web)
    assert found.totals["dropped"]["language"] == {"other_language": 1}


def test_ccnet_and_redpajama_read_the_tutorials_page(
    run: Callable[..., Any], web: Path, language_model: list[Path]
) -> None:
    found = run("ccnet", "steps.2.language.keep=[en, an, es]", source=web, models=language_model)
    (record,) = found.kept.values()
    assert record["perplexity"] > 1
    assert record["bucket"] in ("head", "middle", "tail")


def test_redpajama_writes_signals_of_the_tutorials_page(run: Callable[..., Any], web: Path) -> None:
    found = run("redpajama-v2", source=web)
    (record,) = found.kept.values()
    assert record["ccnet_length"] == len(record["text"]) > 1000
