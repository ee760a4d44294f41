"""Opt-outs by header."""

from __future__ import annotations

import pytest
from thresher.pipeline.download.opt_out import opted_out

ALL = ("noai", "noimageai", "noindex", "noimageindex")


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (["noai"], "X-Robots-Tag: noai"),
        (["NoAI"], "X-Robots-Tag: noai"),
        (["noimageai, nofollow"], "X-Robots-Tag: noimageai"),
        (["nofollow", "all , noindex"], "X-Robots-Tag: noindex"),
        (["none"], "X-Robots-Tag: none"),
        (["thresher: noai"], "X-Robots-Tag: thresher: noai"),
        (["Thresher : nofollow, NoImageIndex"], "X-Robots-Tag: thresher: noimageindex"),
        (["*: noai"], "X-Robots-Tag: *: noai"),
        (["otherbot: nofollow, thresher: noai"], "X-Robots-Tag: thresher: noai"),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], "X-Robots-Tag: noai"),
        (["max-image-preview: large, noindex"], "X-Robots-Tag: noindex"),
        (["otherbot: noai"], None),
        (["otherbot: nofollow, noindex"], None),
        (["thresher2: noai"], None),
        (["all", "index, follow", "noarchive", "", ",,", ":"], None),
        (["noaimage"], None),
        ([], None),
    ],
)
def test_x_robots_tag_in_all_its_forms(tags: list[str], said: str | None) -> None:
    assert opted_out(tags, [], ALL, True, "thresher") == said


def test_only_the_directives_of_the_job_count() -> None:
    assert opted_out(["noindex, none"], [], ("noai",), True, "thresher") is None
    assert opted_out(["noindex, noai"], [], ("noai",), True, "thresher") == "X-Robots-Tag: noai"


@pytest.mark.parametrize(
    ("values", "tdm", "said"),
    [
        (["1"], True, "TDM-Reservation: 1"),
        ([" 1 "], True, "TDM-Reservation: 1"),
        (["0", "1"], True, "TDM-Reservation: 1"),
        (["0"], True, None),
        (["yes"], True, None),
        (["1"], False, None),
    ],
)
def test_a_reservation_of_text_and_data_mining(values: list[str], tdm: bool, said: str | None) -> None:
    assert opted_out([], values, ALL, tdm, "thresher") == said
