"""Keys and tokens: what a candidate that the scan has found must look like.

The shapes are those of gitleaks' rules (gitleaks/gitleaks, cmd/generate/config/rules), with its limits on the
entropy of AWS, Google and generic keys; GitHub's may have up to 255 characters, as GitHub announced. BigCode
uses detect-secrets and a model of gibberish instead.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

_GENERIC_ENTROPY: Final = 3.5  # bits a character, as in gitleaks' generic-api-key
# Bytes; ours: room for a 16,384-bit RSA key in PEM, which has about 12,600.
_MAX_PEM: Final = 16_384

_AWS: Final = re.compile(rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?!\w)")
_GOOGLE: Final = re.compile(rb"AIza[\w-]{35}(?![\w-])")
_GITHUB: Final = re.compile(rb"(?:gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_\w{82})(?!\w)")
_SLACK: Final = re.compile(rb"xox[abeoprs]-[0-9]{1,14}(?:-[A-Za-z0-9]{6,255}){1,4}")
_JWT: Final = re.compile(rb"eyJ[\w-]{10,4096}+\.eyJ[\w-]{7,16384}+\.[\w-]{10,4096}+={0,2}")
_PEM_BEGIN: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END: Final = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
# The name that a generic secret is assigned to, at the end of what precedes the sign.
_SECRET_NAME: Final = re.compile(
    rb"(?i)(?:api[_-]?key|secret|token|passwd|password|access[_-]?key|auth[_-]?key|private[_-]?key)"
    rb"[\w.-]{0,24}[\"'`]?[ \t]{0,3}[:=]?\Z"
)
_NAME_WINDOW: Final = 64

# How the scan says what it has found; the generic one comes with the position of its sign.
AWS, GOOGLE, GITHUB, SLACK, JWT, PEM, GENERIC = range(7)


def entropy(value: bytes) -> float:
    """Bits a character, by the frequencies within the value itself."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _aws(data: memoryview, start: int, stop: int, end: int) -> int:
    found = _AWS.match(data, start, end)
    # AKIAIOSFODNN7EXAMPLE and its like are AWS's documentation
    if found is None or found.group().endswith(b"EXAMPLE") or entropy(found.group()) < 3:
        return 0
    return found.end()


def _google(data: memoryview, start: int, stop: int, end: int) -> int:
    found = _GOOGLE.match(data, start, end)
    return found.end() if found and entropy(found.group()) >= 4 else 0


def _github(data: memoryview, start: int, stop: int, end: int) -> int:
    found = _GITHUB.match(data, start, end)
    return found.end() if found and entropy(found.group()) >= 3 else 0


def _slack(data: memoryview, start: int, stop: int, end: int) -> int:
    found = _SLACK.match(data, start, end)
    if found is None or len(found.group()) < 30 or entropy(found.group()) < 2:
        return 0
    return found.end()


def _jwt(data: memoryview, start: int, stop: int, end: int) -> int:
    found = _JWT.match(data, start, end)
    return found.end() if found else 0


def _pem(data: memoryview, start: int, stop: int, end: int) -> int:
    begin = _PEM_BEGIN.match(data, start, end)
    if begin is None:
        return 0
    body = bytes(data[begin.end() : min(end, begin.end() + _MAX_PEM)])
    # the next five hyphens must be the end, so that a thousand beginnings are not a thousand searches
    close = body.find(b"-----")
    found = _PEM_END.match(body, close) if close >= 0 else None
    return begin.end() + found.end() if found else 0


def _generic(data: memoryview, start: int, stop: int, end: int) -> int:
    return stop if entropy(bytes(data[start:stop])) >= _GENERIC_ENTROPY else 0


CHECKS: Final[Mapping[int, Callable[[memoryview, int, int, int], int]]] = {
    AWS: _aws,
    GOOGLE: _google,
    GITHUB: _github,
    SLACK: _slack,
    JWT: _jwt,
    PEM: _pem,
    GENERIC: _generic,
}


def names_a_secret(data: memoryview, begin: int, at: int) -> bool:
    """Whether what precedes the `=` or `:` at `at` is a name such as `api_key`, `"client_secret"` or
    `DB_PASSWORD`."""
    return _SECRET_NAME.search(bytes(data[max(begin, at - _NAME_WINDOW) : at])) is not None
