"""What is counted in a text, and what edits leave of it: plain Python over strings."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
EMAIL = re.compile(r"[A-Za-z0-9.]+@(?:[A-Za-z0-9]+\.)+[A-Za-z]{2,}")
IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
COUNTER = re.compile(r"\W*\d[\d,.]*[kmb]?\s+(?:likes|shares|comments|views)\W*", re.IGNORECASE)


def words_of(text: str, kind: str = "whitespace") -> list[str]:
    return text.split() if kind == "whitespace" else re.findall(r"[一-鿿]|[a-zA-Z0-9_]+", text)


def signal(name: str, text: str, options: Mapping[str, Any] | None = None) -> float:
    options = options or {}
    words = words_of(text, options.get("words", "whitespace"))
    stop, bullets = options.get("stop_words", STOP_WORDS), options.get("bullets", "•*-")
    lines = [line for line in re.split("\r\n|\r|\n", text) if line.strip()]
    count = max(len(words), 1)
    signals: dict[str, Callable[[], float]] = {
        "byte_count": lambda: len(text.encode()),
        "char_count": lambda: len(text),
        "word_count": lambda: len(words),
        "line_count": lambda: len(lines),
        "max_word_length": lambda: max(map(len, words), default=0),
        "mean_word_length": lambda: sum(map(len, words)) / count,
        "hash_word_ratio": lambda: text.count("#") / count,
        "ellipsis_word_ratio": lambda: (text.count("...") + text.count("…")) / count,
        "bullet_line_fraction": lambda: sum(s.strip()[0] in bullets for s in lines) / max(len(lines), 1),
        "ellipsis_line_fraction": lambda: (
            sum(s.rstrip().endswith(("...", "…")) for s in lines) / max(len(lines), 1)
        ),
        "alphabetic_word_fraction": lambda: sum(any(map(str.isalpha, w)) for w in words) / count,
        "stop_word_count": lambda: len(set(stop) & set(words)),
        "pii_email_count": lambda: len(EMAIL.findall(text)),
    }
    return signals[name]()


def variety(text: str) -> float | None:
    """Different words per word, as MARKS of reference.py has it by other means."""
    if text and text[0].isdigit():
        return float("nan")
    seen, total = set(), 0
    for word in text.split():
        seen.add(word)
        total += 1
    return len(seen) / total if total else None


def c4_lines(text: str, min_words: int = 5, line_ending: bool = True, citations: bool = True) -> str:
    kept = []
    for line in text.split("\n"):
        line = re.sub(r"\[\d*\]|\[edit\]|\[citation needed\]", "", line) if citations else line
        line, low = line.strip(), line.lower()
        ends = line.endswith((".", "!", "?", '"', "。")) and not line.endswith("...")
        if (
            line
            and len(line.split()) >= min_words
            and (ends or not line_ending)
            and "javascript" not in low
            and not any(phrase in low for phrase in POLICY)
        ):
            kept.append(line)
    return "\n".join(kept)


def refinedweb_lines(text: str, max_uppercase: float = 0.5, min_words: int = 2) -> str:
    left = ""
    for line in re.split(r"(?<=\n)", text):
        bare = line.strip()
        if bare:
            body = line.removesuffix("\n")
            if (
                len(body.split()) < min_words
                or sum(map(str.isupper, body)) / len(body) > max_uppercase
                or sum(map(str.isdecimal, body)) / len(body) > 0.999999
                or COUNTER.fullmatch(body)
            ):
                continue
            if len(body.split()) <= 10:
                rest = re.sub(r"(?i)\s?items in cart", "", bare)
                rest = re.sub(r"(?i)\s?read more\.\.\.\Z", "", rest)
                rest = re.sub(r"(?i)\Asign-in\s?", "", rest)
                if rest != bare and not rest.strip():
                    continue
                line = line.replace(bare, rest, 1)
        left += line
    return left if left == text else left.strip()


def without_pii(text: str, kinds: list[str], private_ips: bool = False) -> str:
    def address(match: re.Match[str]) -> str:
        return "<IP>" if private_ips or ipaddress.ip_address(match[0]).is_global else match[0]

    text = EMAIL.sub("<EMAIL>", text) if "email" in kinds else text
    return IPV4.sub(address, text) if "ip" in kinds else text


EDITS: dict[str, Callable[..., str]] = {
    "c4_lines": c4_lines,
    "refinedweb_lines": refinedweb_lines,
    "pii": without_pii,
}
