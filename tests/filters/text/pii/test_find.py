"""Spans, counts and edits of PII: what holds for every kind and every text."""

from __future__ import annotations

import time
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from thresher.filters.text.pii.find import PII_KINDS, PII_SIGNALS, PII_SPAN, PiiRefiner, count_pii, find_pii
from thresher.schemas.contracts import EDIT

SAMPLES = {
    "email": "jane.doe@example.com",
    "ip": "93.184.216.34",
    "phone": "+44 20 7946 0958",
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "key": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
}
PIECES = st.sampled_from(
    [
        *SAMPLES.values(),
        *"@.:-+=()/ \n\"'é国я😀0279aAeg",
        "://",
        "0",
        "tel ",
        "eyJ",
        "::",
        "api_key=",
        "xoxb-",
        "00",
        "--",
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=25).map("".join), st.text(max_size=30))


def found_in(text: str, **options: object) -> list[tuple[str, str]]:
    """Kind and text of each span."""
    data = text.encode()
    spans = find_pii(pa.array([text]), **options).to_pylist()  # type: ignore[arg-type]
    return [(span["kind"], data[span["start"] : span["stop"]].decode()) for span in spans]


def replaced(text: str, refiner: PiiRefiner) -> str:
    """Applies the edits from the last to the first, so that no offset moves."""
    data = text.encode()
    (edits,) = refiner.edits(pa.record_batch({"text": pa.array([text])})).to_pylist()
    for edit in reversed(edits):
        data = data[: edit["start"]] + edit["replacement"].encode() + data[edit["stop"] :]
    return data.decode()


@pytest.mark.parametrize("kind", PII_KINDS)
def test_each_kind_is_found_at_its_bytes_and_nothing_else_is(kind: str) -> None:
    assert found_in(f"Zürich: {SAMPLES[kind]}, 国") == [(kind, SAMPLES[kind])]
    others = [name for name in PII_KINDS if name != kind]
    assert found_in(f"Zürich: {SAMPLES[kind]}, 国", kinds=others) == []


@pytest.mark.parametrize("kind", PII_KINDS)
def test_a_span_may_be_the_whole_text(kind: str) -> None:
    text = SAMPLES[kind]
    assert find_pii(pa.array([text])).to_pylist() == [{"row": 0, "start": 0, "stop": len(text), "kind": kind}]


@given(st.lists(st.one_of(st.none(), TEXTS), max_size=4), st.booleans())
@example([SAMPLES["email"], None, "", SAMPLES["ip"] + " " + SAMPLES["iban"]], False)
def test_spans_are_sorted_apart_and_on_character_boundaries(
    texts: list[str | None], private_ips: bool
) -> None:
    batch = find_pii(pa.array(texts, pa.string()), private_ips=private_ips)
    assert batch.schema == PII_SPAN
    before = (-1, 0)
    for span in batch.to_pylist():
        data = (texts[span["row"]] or "").encode()
        assert (span["row"], span["start"]) >= before
        assert 0 <= span["start"] < span["stop"] <= len(data)
        for part in (data[: span["start"]], data[span["start"] : span["stop"]], data[span["stop"] :]):
            part.decode()
        before = (span["row"], span["stop"])


@given(st.lists(st.one_of(st.none(), TEXTS), min_size=2, max_size=5))
def test_a_text_has_the_same_spans_alone_in_a_slice_and_as_large_string(texts: list[str | None]) -> None:
    together = find_pii(pa.array(texts, pa.string())).to_pylist()
    assert find_pii(pa.array(texts, pa.large_string())).to_pylist() == together
    rest = find_pii(pa.array(texts, pa.string()).slice(1)).to_pylist()
    assert rest == [{**span, "row": span["row"] - 1} for span in together if span["row"]]
    for row, text in enumerate(texts):
        alone = find_pii(pa.array([text], pa.string())).to_pylist()
        assert [{**span, "row": row} for span in alone] == [span for span in together if span["row"] == row]


@given(TEXTS, st.sets(st.sampled_from(PII_KINDS), min_size=1))
def test_what_one_kind_alone_finds_is_covered_when_all_are_looked_for(text: str, kinds: set[str]) -> None:
    chosen = [(s["start"], s["stop"]) for s in find_pii(pa.array([text]), kinds).to_pylist()]
    for kind in kinds:
        for span in find_pii(pa.array([text]), [kind]).to_pylist():
            assert any(start < span["stop"] and span["start"] < stop for start, stop in chosen)


def test_where_two_kinds_overlap_the_one_with_priority_stays() -> None:
    text = 'password="Zf3D0LXCM3EIMbgJpUNnkRtOfO~4111111111111111"'
    assert found_in(text, kinds=["key", "card"]) == [("key", text[10:-1])]
    assert found_in("Tel: 4111 1111 1111 1111", kinds=["phone", "card"]) == [("card", SAMPLES["card"])]
    assert found_in("me@93.184.216.34.example.com") == [("email", "me@93.184.216.34.example.com")]


def test_of_two_overlapping_spans_of_a_kind_the_first_stays() -> None:
    assert found_in("a.b@c.de@f.gh") == [("email", "a.b@c.de")]


@given(st.lists(st.one_of(st.none(), TEXTS), max_size=4), st.lists(st.sampled_from(PII_KINDS), unique=True))
def test_counts_are_those_of_the_spans_and_null_for_null(texts: list[str | None], kinds: list[str]) -> None:
    array = pa.array(texts, pa.string())
    counts = count_pii(array, kinds)
    assert list(counts) == [f"pii_{kind}_count" for kind in kinds]
    spans = find_pii(array, kinds).to_pylist()
    for kind in kinds:
        expected = [
            None if text is None else sum(s["row"] == row and s["kind"] == kind for s in spans)
            for row, text in enumerate(texts)
        ]
        assert counts[f"pii_{kind}_count"].type == pa.int64()
        assert counts[f"pii_{kind}_count"].to_pylist() == expected


def test_there_is_one_described_signal_for_each_kind() -> None:
    assert list(PII_SIGNALS) == list(count_pii(pa.array(["x"])))
    assert all(doc.endswith(".") for doc in PII_SIGNALS.values())


def test_the_refiner_writes_the_kind_in_angle_brackets() -> None:
    text = " · ".join(SAMPLES.values())
    assert replaced(text, PiiRefiner()) == "<EMAIL> · <IP> · <PHONE> · <CARD> · <IBAN> · <KEY>"


def test_replacements_and_kinds_are_arguments() -> None:
    refiner = PiiRefiner(["email", "ip"], {"email": "email@example.com", "ip": ""})
    text = f"é {SAMPLES['email']} and [{SAMPLES['ip']}], {SAMPLES['phone']}"
    assert replaced(text, refiner) == f"é email@example.com and [], {SAMPLES['phone']}"


def test_private_addresses_are_replaced_only_if_asked_for() -> None:
    text = "10.11.12.13 192.168.100.1 fe80::1ff:fe23:4567:890a 93.184.216.34"
    assert replaced(text, PiiRefiner()) == text.replace("93.184.216.34", "<IP>")
    assert replaced(text, PiiRefiner(private_ips=True)) == "<IP> <IP> <IP> <IP>"


def test_edits_are_a_list_of_edits_for_each_row_and_empty_for_null() -> None:
    batch = pa.record_batch({"text": pa.array([None, SAMPLES["ip"], "", "none", SAMPLES["email"]])})
    for rows in (batch, batch.slice(1), batch.slice(0, 0)):
        edits = PiiRefiner().edits(rows)
        assert edits.type == pa.list_(EDIT)
        edits.validate(full=True)
        assert len(edits) == rows.num_rows
    assert [len(row or ()) for row in PiiRefiner().edits(batch).to_pylist()] == [0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    "build",
    [
        lambda: PiiRefiner(["mail"]),
        lambda: PiiRefiner("email"),
        lambda: PiiRefiner(["email"], {"ip": "x"}),
        lambda: find_pii(pa.array(["x"]), ["name"]),
        lambda: count_pii(pa.array(["x"]), ["name"]),
    ],
)
def test_a_kind_that_does_not_exist_is_refused_by_name(build: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"email|name"):
        build()


def test_arrays_that_are_not_text_are_refused() -> None:
    with pytest.raises(TypeError, match="int64"):
        find_pii(pa.array([1, 2]))


# Each is repeated.
HOSTILE = {
    "at signs": "@",
    "addresses run together": "a@b.cd@",
    "domains": "a@b.",
    "digits": "7",
    "pairs": "01 ",
    "dotted numbers": "1.",
    "numbers in parentheses": "(1)",
    "plus signs": "+1",
    "cards": "4111 1111 1111 1111 ",
    "labelled numbers": "tel 1234567 ",
    "countries": "DE89 ",
    "colons": ":",
    "hexadecimal groups": "ab:",
    "token headers": "eyJ",
    "token segments": "eyJaaaaaaaaaa.",
    "beginnings of keys": "-----BEGIN RSA PRIVATE KEY-----\n",
    "hyphens": "-",
    "Slack prefixes": "xoxb-1-",
    "assignments": 'token="a1B2c3D4e5F6g7H8i9"',
    "equals signs": "=a1",
}


def seconds(text: str) -> float:
    array = pa.array([text])
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        find_pii(array)
        best = min(best, time.process_time() - begun)
    return best


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_time_grows_linearly_on_hostile_text(unit: str) -> None:
    small, large = 30_000, 480_000
    find_pii(pa.array([unit]))
    # sixteen times the text would take 256 times as long if the time were quadratic
    assert seconds(unit * (large // len(unit))) < 80 * max(seconds(unit * (small // len(unit))), 1e-3)


def test_a_long_word_before_an_at_sign_and_a_long_domain_after_it_are_no_address() -> None:
    assert found_in("x" * 1_000_000 + "@example.com") == []
    assert found_in("me@" + "a." * 500_000) == []
