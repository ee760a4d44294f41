"""Keys and tokens by example, built here from random characters so that no real one is written down."""

from __future__ import annotations

import random
import string

import pyarrow as pa
import pytest
from thresher.filters.text.pii.find import find_pii

ALPHANUMERIC = string.ascii_letters + string.digits


def some(n: int, alphabet: str = ALPHANUMERIC) -> str:
    """n characters, no two neighbours alike, among them a digit and a letter where the alphabet has them."""
    letters = random.Random(n).sample(alphabet, len(alphabet))
    mixed = "a1B2" if alphabet == ALPHANUMERIC else ""
    return (mixed + "".join(letters) * (n // len(letters) + 1))[:n]


def block(label: str) -> str:
    body = "\n".join(some(64) for _ in range(8))
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----"


def found_in(text: str) -> list[str]:
    data = text.encode()
    spans = find_pii(pa.array([text]), ["key"]).to_pylist()
    return [data[span["start"] : span["stop"]].decode() for span in spans]


TOKENS = [
    "AKIA" + some(16, string.ascii_uppercase + "234567"),
    "ASIA" + some(16, string.ascii_uppercase + "234567"),
    "AIzaSy" + some(33),
    *(f"gh{kind}_{some(36)}" for kind in "pousr"),
    "ghp_" + some(80),
    "github_pat_" + some(22) + "_" + some(59),
    f"xoxb-{some(12, string.digits)}-{some(13, string.digits)}-{some(24)}",
    f"xoxp-{some(11, string.digits)}-{some(10, string.digits)}-{some(11, string.digits)}-{some(32)}",
    f"xoxb-{some(12, string.digits)}-{some(24)}",
    "eyJ" + some(33) + ".eyJ" + some(60) + "." + some(43),
    *map(block, ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"]),
]


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:24].strip())
@pytest.mark.parametrize("around", ["{}", "é {} é", "({})", '"{}"', "x: {},", "国{}。", "?q={}&r"])
def test_a_token_is_found_whole(token: str, around: str) -> None:
    assert found_in(around.format(token)) == [token]


@pytest.mark.parametrize(
    "token", [token for token in TOKENS if token[0] != "-"], ids=lambda token: token[:24].strip()
)
def test_a_token_inside_of_a_word_or_too_short_is_none(token: str) -> None:
    assert found_in("x" + token) == []
    assert found_in(token[: len(token) // 3]) == []


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "AKIAXXXXXXXXXXXXXXXX",
        "akia" + some(16, string.ascii_lowercase),
        "AIza" + "a" * 35,
        "ghp_" + "x" * 36,
        "xoxb-xxxxxxxxxxx-xxxxxxxxxxxxxxxxxxxxxxxx",
        "xoxb-my-bot-token",
        "xoxb-12345-abcd234",
        "eyJhbGciOiJIUzI1NiJ9 without the rest",
        block("PUBLIC KEY"),
        block("CERTIFICATE"),
        block("RSA PRIVATE KEY").rpartition("\n")[0],
        "-----BEGIN RSA PRIVATE KEY-----\n-----BEGIN X-----",
    ],
    ids=lambda text: text[:30].strip(),
)
def test_examples_placeholders_public_and_cut_keys_are_left_alone(text: str) -> None:
    assert found_in(text) == []


SECRET = some(32)


@pytest.mark.parametrize(
    "text",
    [
        'api_key = "{}"',
        "apiKey: '{}'",
        '{{"client_secret": "{}"}}',
        "DB_PASSWORD={}",
        "https://example.com/?access_token={}&page=2",
        "'auth-key' => '{}'",
        'token := "{}"',
        "export AWS_SECRET_ACCESS_KEY=`{}`",
        'private_key="{}=="',
    ],
)
def test_a_random_string_assigned_to_a_secret_s_name_is_a_key(text: str) -> None:
    secret = SECRET + "==" * ("==" in text)
    assert found_in(text.replace("==", "").format(secret)) == [secret]


@pytest.mark.parametrize(
    "text",
    [
        f'digest = "{SECRET}"',
        f'sha256: "{SECRET}"',
        f"token {SECRET}",
        f"api_key: {SECRET}",
        'api_key = "YOUR_API_KEY_HERE_1"',
        'password = "aaaaaaaa11111111"',
        'password = "correct horse battery staple 1"',
        "token = tokenizer2.next_token_of_line",
        'secret = "short1"',
        f'api_key = "{some(300)}"',
        f'api_key = "{SECRET}',
        "access_token=/usr/share/doc/python3.11/copyright",
        'keyboard = "a1b2c3d4e5f6g7h8i9j0"',
    ],
    ids=lambda text: text[:30],
)
def test_other_assignments_are_none(text: str) -> None:
    assert found_in(text) == []


def test_the_name_must_be_near_and_in_the_same_text() -> None:
    assert found_in("api_key" + " " * 10 + f'= "{SECRET}"') == []
    spans = find_pii(pa.array(["api_key", f'= "{SECRET}"']), ["key"])
    assert spans.num_rows == 0
