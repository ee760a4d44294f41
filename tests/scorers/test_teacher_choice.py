"""Which records a teacher's scores make positive and negative examples."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from thresher.scorers.teacher_choice import TeacherChoice

SCORES = pa.array([5, None, 9, 1, 9, 2, 5, 0, 7, 2, 8, 3], pa.float64())
IDS = pa.array(list("abcdefghijkl"))
DRAWS = np.arange(12, dtype=np.uint64)[::-1].copy()


def chosen(choice: TeacherChoice, scores: pa.Array = SCORES, ids: pa.Array = IDS) -> tuple[str, str]:
    good, rest = choice.split(scores, ids, DRAWS[: len(scores)])
    return tuple("".join(ids[int(row)].as_py() for row in rows) for rows in (good, rest))  # type: ignore[return-value]


def test_a_share_is_of_the_records_that_have_a_score_and_never_more_than_it() -> None:
    # Eleven have one, so 20 % are two.
    assert chosen(TeacherChoice(top=0.2)) == ("ce", "adfghijkl")
    assert chosen(TeacherChoice(top=0.1)) == ("c", "adefghijkl")


def test_a_bar_takes_all_that_reach_it() -> None:
    assert chosen(TeacherChoice(least=7.0)) == ("ceik", "adfghjl")


def test_the_lowest_are_as_many_as_the_positives_and_equal_ones_are_taken_by_id() -> None:
    assert chosen(TeacherChoice(least=8.0, others="lowest")) == ("cek", "dfh")


def test_fewer_negatives_than_positives_are_all_taken() -> None:
    assert chosen(TeacherChoice(least=1.0, others="lowest"))[1] == "h"


def test_the_larger_side_is_drawn_down_to_the_smaller_one() -> None:
    # The highest rows have the lowest draws.
    assert chosen(TeacherChoice(least=8.0, others="drawn")) == ("cek", "ijl")
    assert chosen(TeacherChoice(least=1.0, others="drawn")) == ("l", "h")


def test_the_order_of_records_makes_no_difference() -> None:
    order = pa.array(np.random.default_rng(2).permutation(12))
    for choice in (TeacherChoice(top=0.4), TeacherChoice(least=5.0, others="lowest")):
        moved = chosen(choice, SCORES.take(order), IDS.take(order))
        assert [sorted(side) for side in moved] == [sorted(side) for side in chosen(choice)]


@pytest.mark.parametrize(("least", "told"), [(10.0, "no record is good"), (0.0, "all records are good")])
def test_a_side_without_records_is_told(least: float, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        chosen(TeacherChoice(least=least))


@pytest.mark.parametrize("given", [{}, {"top": 0.1, "least": 1.0}, {"top": 1.0}, {"top": 0.0}])
def test_a_choice_has_either_a_share_or_a_bar(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="top"):
        TeacherChoice(**given)
