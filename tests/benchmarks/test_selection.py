"""The arithmetic of the benchmark of choosing: intervals, tokens needed, what is kept, what overlaps."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
import thresher

FOLDER = Path(thresher.__file__).parent / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _scripts() -> Iterator[None]:
    """The scripts of benchmarks/ import each other by their names."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def figures_of_seeds(_scripts: None) -> ModuleType:
    import selection_statistics

    return selection_statistics


@pytest.fixture(scope="module")
def methods(_scripts: None) -> ModuleType:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import selection_methods

    return selection_methods


@pytest.fixture(scope="module")
def data(_scripts: None) -> ModuleType:
    import selection_data

    return selection_data


def test_the_quantiles_leave_five_percent_of_students_t_outside(figures_of_seeds: ModuleType) -> None:
    for degrees, quantile in enumerate(figures_of_seeds.T_95, 1):
        # The density over x = tan(angle), which makes the integral a finite one.
        angles = np.linspace(-math.atan(quantile), math.atan(quantile), 200_001)
        scale = math.gamma((degrees + 1) / 2) / (math.sqrt(degrees * math.pi) * math.gamma(degrees / 2))
        density = scale * (1 + np.tan(angles) ** 2 / degrees) ** (-(degrees + 1) / 2) / np.cos(angles) ** 2
        assert np.trapezoid(density, angles) == pytest.approx(0.95, abs=5e-5)


def test_an_interval_of_three_seeds_is_the_textbooks(figures_of_seeds: ModuleType) -> None:
    found = figures_of_seeds.interval([1.0, 2.0, 3.0])
    assert (found.mean, found.half) == (2.0, pytest.approx(4.303 / math.sqrt(3)))


def test_what_all_seeds_share_is_not_in_the_interval_of_a_difference(figures_of_seeds: ModuleType) -> None:
    found = figures_of_seeds.difference([5.0, 6.0, 7.0], [4.5, 5.5, 6.5])
    assert (found.mean, found.half) == (0.5, 0.0)


def test_the_tokens_needed_lie_on_a_line_in_the_logarithm(figures_of_seeds: ModuleType) -> None:
    curve = [(tokens, 10 - math.log2(tokens)) for tokens in (4, 1, 16)]
    assert figures_of_seeds.needed(curve, 9.0).tokens == pytest.approx(2.0)
    assert figures_of_seeds.needed(curve, 6.5).tokens == pytest.approx(2**3.5)
    assert figures_of_seeds.needed(curve, 6.0).times(4) == "4 ×"


def test_outside_the_curve_the_tokens_needed_are_a_bound(figures_of_seeds: ModuleType) -> None:
    curve = [(100, 6.0), (400, 5.0)]
    assert figures_of_seeds.needed(curve, 4.9).times(100) == ">4 ×"
    assert figures_of_seeds.needed(curve, 6.1).times(100) == "<1 ×"


def test_a_share_is_of_tokens_and_what_has_no_score_comes_last(methods: ModuleType) -> None:
    tokens = np.array([10, 50, 10, 20, 10])
    preference = np.array([1.0, np.nan, 3.0, 2.0, 1.0])
    assert methods.kept(preference, tokens, 0.3).tolist() == [2, 3]
    # Of two equal ones the first is taken.
    assert methods.kept(preference, tokens, 0.4).tolist() == [0, 2, 3]
    assert methods.kept(preference, tokens, 1.0).tolist() == [0, 1, 2, 3, 4]


def test_the_middle_is_around_the_median_by_tokens(methods: ModuleType) -> None:
    tokens = np.array([10, 10, 10, 70])
    columns = methods.Columns({"perplexity": np.array([300.0, 100.0, np.nan, 200.0])}, tokens)
    (middle,) = [method for method in methods.METHODS if method.name == "perplexity, middle"]
    found = middle.prefer(columns, np.random.default_rng(0))
    assert int(np.nanargmax(found)) == 3
    assert np.isnan(found[2])


def test_each_seed_draws_another_choice_only_where_a_method_draws(methods: ModuleType) -> None:
    pytest.importorskip("fasttext")
    import selection

    tokens = np.full(200, 5)
    columns = methods.Columns({"fasttext": np.arange(200.0)}, tokens)
    random, fasttext = methods.METHODS[:2]
    chosen = {
        (method.name, seed): selection.chosen_by(method, 0.1, seed, columns).tolist()
        for method in (random, fasttext)
        for seed in (0, 1)
    }
    assert chosen["random", 0] != chosen["random", 1]
    assert chosen["fastText", 0] == chosen["fastText", 1] == list(range(180, 200))


def test_nothing_that_shares_thirteen_words_with_the_test_is_left(data: ModuleType) -> None:
    words = [f"word{number}" for number in range(40)]
    tested = " ".join(words)
    other = [f"other{number}" for number in range(40)]
    shared = " ".join([*other[:9], "Word3,", *words[4:16], *other[9:]])
    nearly = " ".join([*other[:9], *words[4:16], *other[9:]])

    def table(*passages: str) -> pa.Table:
        ids = [str(number) for number in range(len(passages))]
        return pa.table({"id": ids, "text": passages, "source": ["s"] * len(passages)})

    sizes = data.Sizes(characters=1000, pool_bytes=10_000, test_bytes=len(tested))
    found = data.split(table(shared, nearly), table(tested, "and " + tested, " ".join(other)), sizes)
    assert found.test["text"].to_pylist() == [tested]
    assert found.pool["text"].to_pylist() == [nearly]
    assert found.target["text"].to_pylist() == [" ".join(other)]
    assert found.overlapping == 2


def test_passages_of_one_subject_are_near_each_other_in_the_latent_space(methods: ModuleType) -> None:
    import selection_teachers

    draw = np.random.default_rng(0)
    subjects = [
        ["index", "table", "query", "row", "column", "view"],
        ["brush", "layer", "canvas", "colour", "filter", "image"],
    ]
    texts = [" ".join(draw.choice(words[half : half + 4], 12)) for words in subjects for half in (0, 2) * 10]
    found = selection_teachers.latent(texts)
    found = found / np.linalg.norm(found, axis=1, keepdims=True)
    nearness = found @ found.T
    assert nearness[:20, :20].mean() > 0.3
    assert abs(nearness[:20, 20:]).max() < 1e-4


def test_the_test_is_whole_rows_so_that_no_token_counts_twice(methods: ModuleType) -> None:
    import selection
    import selection_training

    passages = [np.arange(start, start + 7, dtype=np.uint32) for start in (0, 7, 14)]
    assert selection._test_rows(passages, 4).ravel().tolist() == list(range(20))
    learned = selection_training.rows_of(passages, 4, 3)
    assert learned.shape == (6, 4)
    assert set(learned.ravel().tolist()) == set(range(21))
