"""Phone numbers by example; IBANs and card numbers by their registries' examples and by brute force."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thresher.filters.text.pii.find import find_pii


def found_in(text: str, kind: str) -> list[str]:
    data = text.encode()
    spans = find_pii(pa.array([text]), [kind]).to_pylist()
    return [data[span["start"] : span["stop"]].decode() for span in spans]


PHONES = [
    "+1 212-555-0123",
    "+1 (212) 555-0123",
    "+12125550123",
    "1-800-555-0199",
    "1 800 555 0199",
    "(212) 555-0123",
    "(212)555-0123",
    "(212) 5550123",
    "212-555-0123",
    "212.555.0123",
    "212 555-0123",
    "+44 20 7946 0958",
    "+44 (0)20 7946 0958",
    "+44(0)20 7946 0958",
    "(+44) 20 7946 0958",
    "+49-30-901820",
    "+4930901820",
    "+33 1 23 45 67 89",
    "+33.1.23.45.67.89",
    "+39 06 698 82000",
    "+7 (495) 123-45-67",
    "+86 138 0013 8000",
    "+972-3-761-9056",
    "0049 30 901820",
    "01 23 45 67 89",
    "01.23.45.67.89",
    "020 7946 0958",
    "07700 900123",
    "(030) 901820",
    "030/9018200",
    "03-5829-8082",
    "+33\u00a01\u00a023\u00a045\u00a067\u00a089",
]


@pytest.mark.parametrize("phone", PHONES)
@pytest.mark.parametrize("around", ["{}", "Ask {}.", "({})", "nr:{},", "国{}国", "{} x12", "{}\n2024"])
def test_a_phone_number_is_found_whole(phone: str, around: str) -> None:
    if around == "({})" and phone.startswith("(+"):
        return
    assert found_in(around.format(phone), "phone") == [phone]


@pytest.mark.parametrize(
    "text",
    [
        "Tel: 9018200",
        "Tel. 90 18 200",
        "tel 9018200",
        "Telephone: 1-679-1230",
        "Téléphone : 12 34 56 78",
        "fax (23) 4567890",
        "电话：13800138000",
        "联系电话 13800138000",
        "тел.: 8 495 123 45 67",
        "WhatsApp 5512345678",
    ],
)
def test_after_a_word_for_it_any_grouping_is_a_phone_number(text: str) -> None:
    at = next(i for i, c in enumerate(text) if c.isdigit() or c == "(")
    assert found_in(text, "phone") == [text[at:]]
    label = text[:at].strip(" :.：")
    assert found_in(text.replace(label, "Nr"), "phone") == []


@pytest.mark.parametrize(
    "text",
    [
        *("2023-01-15", "15.01.2023", "01/15/2023", "15-01-2023 10:30", "2023/01/15 12:30:45", "1999-2000"),
        *("tel 2023-01-15", "tel 15.01.2023", "01.02.2023 1234"),
        *(
            "$1,234,567.89",
            "€ 12.345.678",
            "1 000 000 000",
            "1.234.567.890",
            "+100 000 000",
            "+1 000 000 0000",
        ),
        *("$212-555-0123", "€212-555-0123", "£212-555-0123"),
        *(
            "1.622 393 6616",
            "0.1234567890",
            "3.14159265358979",
            "+51.1234567 -0.1234567",
            "+52.5200+013.4050/",
        ),
        *("93.184.216.34", "tel 93.184.216.134", "10:20:30:40", "1-2-3-4-5-6-7-8-9-10-11"),
        *("978-0-306-40615-7", "0-306-40615-2", "0306406152", "ISSN 0378-5955", "4111 1111 1111 1111"),
        *("12345678901234567890", "abc212-555-0123", "212-555-0123-4567", "212-555-01234", "AB-212-555-0123"),
        *(
            "http://x.y/212-555-0123",
            "12+4930901820",
            "++4930901820",
            "+999 12345678",
            "+49",
            "+()",
            "(",
            "(0)",
        ),
        *("112-555-0123", "212-155-0123", "01 02 03 04 05 06", "9 01 02 03 04 05", "tel 123456"),
    ],
)
def test_dates_prices_and_other_numbers_are_no_phone_numbers(text: str) -> None:
    assert found_in(text, "phone") == []


@given(st.dates(), st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%Y.%m.%d"]))
def test_no_date_is_a_phone_number(date: object, layout: str) -> None:
    assert found_in(f"On {date:{layout}} at 10.30 or {date:{layout}} 10:30", "phone") == []


@given(st.integers(0, 10**13), st.integers(0, 99), st.sampled_from("$€£¥"))
def test_no_price_is_a_phone_number(whole: int, cents: int, sign: str) -> None:
    for text in (
        f"{whole:,}.{cents:02}",
        f"{whole}.{cents:02}",
        f"{whole:,}".replace(",", ".") + f",{cents:02}",
    ):
        assert found_in(f"{sign}{text}", "phone") == []
        assert found_in(f"costs {text} {sign} now", "phone") == []


# The examples of SWIFT's registry.
REGISTRY = """
AD1200012030200359100100 AE070331234567890123456 AL47212110090000000235698741 AT611904300234573201
AZ21NABZ00000000137010001944 BA391290079401028494 BE68539007547034 BG80BNBG96611020345678
BH67BMAG00001299123456 BI4210000100010000332045181 BR1800360305000010009795493C1
BY13NBRB3600900000002Z00AB00 CH9300762011623852957 CR05015202001026284066 CY17002001280000001200527600
CZ6508000000192000145399 DE89370400440532013000 DJ2110002010010409943020008 DK5000400440116243
DO28BAGR00000001212453611324 EE382200221020145685 EG380019000500000000263180002 ES9121000418450200051332
FI2112345600000785 FK88SC123456789012 FO6264600001631634 FR1420041010050500013M02606 GB29NWBK60161331926819
GE29NB0000000101904917 GI75NWBK000000007099453 GL8964710001000206 GR1601101250000000012300695
GT82TRAJ01020000001210029690 HN88CABF00000000000250005469 HR1210010051863000160 HU42117730161111101800000000
IE29AIBK93115212345678 IL620108000000099999999 IQ98NBIQ850123456789012 IS140159260076545510730339
IT60X0542811101000000123456 JO94CBJO0010000000000131000302 KW81CBKU0000000000001234560101
KZ86125KZT5004100100 LB62099900000001001901229114 LC55HEMM000100010012001200023015 LI21088100002324013AA
LT121000011101001000 LU280019400644750000 LV80BANK0000435195001 LY83002048000020100120361
MC5811222000010123456789030 MD24AG000225100013104168 ME25505000012345678951 MK07250120000058984
MN121234123456789123 MR1300020001010000123456753 MT84MALT011000012345MTLCAST001S
MU17BOMM0101101030300200000MUR NI45BAPR00000013000003558124 NL91ABNA0417164300 NO9386011117947
OM810180000001299123456 PK36SCBL0000001123456702 PL61109010140000071219812874 PS92PALS000000000400123456702
PT50000201231234567890154 QA58DOHB00001234567890ABCDEFG RO49AAAA1B31007593840000 RS35260005601001611379
RU0204452560040702810412345678901 SA0380000000608010167519 SC18SSCB11010000000000001497USD
SD8811123456789012 SE4550000000058398257466 SI56191000000123438 SK3112000000198742637541
SM86U0322509800000000270100 SO211000001001000100141 ST68000100010051845310112 SV62CENR00000000000000700025
TL380080012345678910157 TN5910006035183598478831 TR330006100519786457841326 UA213223130000026007233566001
VA59001123000012345678 VG96VPVG0000012345678901 XK051212012345678906 YE15CBYE0001018861234567891234
"""
IBANS = REGISTRY.split()


def in_fours(iban: str) -> str:
    return " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))


@pytest.mark.parametrize("iban", IBANS, ids=lambda iban: iban[:2])
def test_the_registry_s_example_is_found_in_both_layouts_and_in_no_other_form(iban: str) -> None:
    assert found_in(f"IBAN:{iban}.", "iban") == [iban]
    assert found_in(f"({in_fours(iban)}) 12", "iban") == [in_fours(iban)]
    assert found_in(in_fours(iban) + " 1234 AB", "iban") == [in_fours(iban)]
    for other in (
        iban[:-1],
        iban + "0",
        "X" + iban,
        iban.lower(),
        iban[:5] + " " + iban[5:],
        "XX" + iban[2:],
    ):
        assert found_in(other, "iban") == [], other


@given(st.sampled_from(IBANS), st.data())
def test_an_iban_with_one_wrong_character_is_none(iban: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(2, len(iban) - 1))
    wrong = data.draw(
        st.sampled_from("0123456789" if iban[place].isdigit() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    )
    changed = iban[:place] + wrong + iban[place + 1 :]
    assert found_in(changed, "iban") == ([iban] if wrong == iban[place] else [])


def test_of_all_check_digits_those_with_remainder_one_make_an_iban() -> None:
    for check in range(100):
        iban = f"DE{check:02}370400440532013000"
        number = int("370400440532013000" + "1314" + f"{check:02}")  # D is 13, E is 14
        assert found_in(iban, "iban") == [iban] * (number % 97 == 1)


CARDS = [
    "4111111111111111",
    "4012888888881881",
    "5555555555554444",
    "5105105105105100",
    "2223003122003222",
    "378282246310005",
    "371449635398431",
    "30569309025904",
    "38520000023237",
    "6011111111111117",
    "6011000990139424",
    "3530111333300000",
    "6212345678901232",
]


def layouts(card: str) -> list[str]:
    sizes = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4)}[len(card)]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    parts = [card[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    return [card, " ".join(parts), "-".join(parts)]


@pytest.mark.parametrize("card", CARDS)
def test_the_issuers_test_numbers_are_found_in_every_layout(card: str) -> None:
    for layout in layouts(card):
        assert found_in(f"Card {layout}, 12/25", "card") == [layout]
        assert found_in(f"{layout} 12/25", "card") == [layout]
        assert found_in(f"9{layout}", "card") == []
        assert found_in(f"{layout}0", "card") == []


def luhn(digits: str) -> bool:
    doubled = "0246813579"  # the sum of the digits of twice the digit
    return sum(int(d if i % 2 == 0 else doubled[int(d)]) for i, d in enumerate(reversed(digits))) % 10 == 0


@given(
    st.sampled_from(
        [("4", 16), ("4", 19), ("51", 16), ("2720", 16), ("34", 15), ("305", 14), ("65", 16), ("3589", 16)]
    ),
    st.text("0123456789", min_size=19, max_size=19),
)
def test_of_ten_check_digits_the_one_that_luhn_gives_makes_a_card(issuer: tuple[str, int], body: str) -> None:
    prefix, length = issuer
    head = (prefix + body)[: length - 1]
    for digit in "0123456789":
        assert found_in(head + digit, "card") == [head + digit] * luhn(head + digit)


@given(st.text("0123456789", min_size=12, max_size=21))
def test_numbers_without_an_issuer_s_prefix_or_length_are_no_cards(digits: str) -> None:
    issued = digits[0] in "23456" and len(digits) in range(14, 20)
    assert not found_in(digits, "card") or (issued and luhn(digits))


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 11111111",
        "4111-1111 1111-1111",
        "4111.1111.1111.1111",
        "1.4111111111111111",
        "x4111111111111111",
    ],
)
def test_other_groupings_and_parts_of_other_things_are_no_cards(text: str) -> None:
    assert found_in(text, "card") == []
