"""Every recipe as it is printed, on a small crawl: what the paper drops goes for the paper's reason."""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from thresher.filters.text.redpajama import REDPAJAMA_V2

GOOD = {f"good-{number:02d}" for number in range(12)}
SHARED = "This very sentence stands at the foot of all the pages of this site."

# What Gopher's rules, the language and near copies cost, whichever recipe has them.
GOPHER = {
    "german": ("language", "other_language"),
    "short": ("filter:gopher_quality", "too_few_words"),
    "hashes": ("filter:gopher_quality", "too_many_hashes"),
    "bullets": ("filter:gopher_quality", "too_many_bullet_lines"),
    "good-01": ("dedup:minhash", "near"),
    "good-05": ("dedup:minhash", "mirror"),
}


def test_massivetext_drops_repetition_and_copies(run: Callable[..., Any]) -> None:
    found = run("massivetext")
    assert found.lost == GOPHER | {
        "repeated": ("filter:gopher_repetition", "duplicate_lines"),
        "good-00": ("dedup:exact", "copy"),
    }
    assert GOOD - set(found.kept) == {"good-00", "good-01", "good-05"}


def test_c4_keeps_lines_of_prose_and_each_of_them_once(run: Callable[..., Any]) -> None:
    found = run("c4")
    assert found.lost == {
        "again": ("dedup:exact", "good-02"),
        "short": ("filter:c4", "too_few_sentences"),
        "lorem": ("filter:c4", "lorem_ipsum"),
        "curly": ("filter:c4", "curly_bracket"),
        "copy": ("dedup:lines", "emptied"),
        "mirror": ("too_few_sentences_left", "too_few_sentences_left"),
        "german": ("language", "other_language"),
    }
    lines = [line for record in found.kept.values() for line in record["text"].splitlines()]
    assert {line for line, times in Counter(lines).items() if times > 1} == set()
    assert all(line[-1] in '.?!"' and len(line.split()) >= 5 for line in lines)
    assert sum(SHARED in record["text"] for record in found.kept.values()) == 1
    assert "uses cookies" not in found.kept["cookies"]["text"]
    assert "likes" not in found.kept["one-share"]["text"]
    assert len(found.kept["menu"]["text"].splitlines()) == 2


def test_refinedweb_cleans_lines_and_drops_what_loses_too_many(run: Callable[..., Any]) -> None:
    found = run("refinedweb")
    assert found.lost == GOPHER | {
        "shouting": ("edit:refinedweb_lines", "too_much_removed"),
        "good-00": ("dedup:minhash", "copy"),
        "again": ("dedup:exact", "good-02"),
    }
    assert "likes" not in found.kept["one-share"]["text"]
    # trafilatura itself leaves repeated paragraphs out, so no repetition is left to drop.
    lines = found.kept["repeated"]["text"].splitlines()
    assert len(lines) == len(set(lines)) == 5


def test_fineweb_drops_what_three_rule_sets_drop_and_hides_addresses(run: Callable[..., Any]) -> None:
    found = run("fineweb")
    assert found.lost == GOPHER | {
        "lorem": ("filter:c4", "lorem_ipsum"),
        "curly": ("filter:c4", "curly_bracket"),
        "menu": ("filter:fineweb", "too_few_terminal_lines"),
        "good-00": ("dedup:minhash", "copy"),
    }
    assert found.kept["address"]["text"].endswith(
        "You may write to email@example.com, whose machine is 22.214.171.124 to others."
    )
    assert "uses cookies" not in found.kept["cookies"]["text"]


def test_dclm_baseline_keeps_the_tenth_that_its_classifier_likes_best(
    run: Callable[..., Any], classifier: Path
) -> None:
    found = run("dclm-baseline", models=[classifier])
    reasons = {name: lost for name, lost in found.lost.items() if lost[0] != "select:quality"}
    assert reasons == GOPHER | {
        "repeated": ("filter:gopher_repetition", "duplicate_lines"),
        "shouting": ("edit:refinedweb_lines", "too_much_removed"),
        "good-00": ("dedup:exact", "copy"),
    }
    reached = len(found.lost) - len(reasons) + len(found.kept)
    assert len(found.kept) == reached // 10 > 0
    least = min(record["quality"] for record in found.kept.values())
    assert max(float(found.values[name]) for name in set(found.lost) - set(reasons)) <= least


def test_ccnet_takes_out_what_two_pages_share_and_cuts_the_rest_by_perplexity(
    run: Callable[..., Any], language_model: list[Path]
) -> None:
    found = run("ccnet", models=language_model)
    assert found.lost["short"] == ("too_short", "too_short")
    assert found.lost["german"] == ("language", "other_language")
    emptied = {name for name, lost in found.lost.items() if lost == ("dedup:lines", "emptied")}
    assert emptied == {"good-00", "copy", "good-05"}
    assert set(found.lost) == {"short", "german"} | emptied
    assert not any(SHARED in record["text"] for record in found.kept.values())
    assert len(found.kept["near"]["text"].splitlines()) == 1
    assert found.kept["mirror"]["text"] == "One sentence of its own is all that this page has."
    assert len(found.kept["repeated"]["text"].splitlines()) == 5

    perplexities = [record["perplexity"] for record in found.kept.values()]
    assert min(perplexities) > 1
    assert len(set(perplexities)) > 5
    # A bucket ends with the smallest value that at least so large a share of all values does not exceed.
    head, middle = np.quantile(perplexities, [0.3, 0.6], method="inverted_cdf")
    for record in found.kept.values():
        value = record["perplexity"]
        assert record["bucket"] == ("head" if value <= head else "middle" if value <= middle else "tail")
    assert {record["bucket"] for record in found.kept.values()} == {"head", "middle", "tail"}


def test_redpajama_v2_drops_nothing_and_writes_every_signal(run: Callable[..., Any]) -> None:
    found = run("redpajama-v2")
    assert found.lost == {}
    assert len(found.kept) == 30
    assert found.kept["german"]["lang"] == "de"
    for record in found.kept.values():
        assert set(REDPAJAMA_V2) <= set(record)
        text = record["text"]
        assert record["ccnet_length"] == len(text)
        assert record["rps_doc_curly_bracket"] == pytest.approx(
            (text.count("{") + text.count("}")) / len(text), rel=1e-6
        )
        words = text.translate(str.maketrans("", "", string.punctuation)).lower().split()
        counts = Counter(words)
        entropy = -sum(n / len(words) * math.log(n / len(words)) for n in counts.values())
        assert record["rps_doc_word_count"] == len(words)
        assert record["rps_doc_frac_unique_words"] == pytest.approx(len(counts) / len(words), rel=1e-5)
        assert record["rps_doc_unigram_entropy"] == pytest.approx(entropy, rel=1e-5)
        assert len(record["rps_lines_num_words"]) == len(text.split("\n"))
        assert sum(record["rps_lines_num_words"]) == len(words)
