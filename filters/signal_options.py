"""What the definitions of some signals leave open, and how a column's name says what was chosen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final
from urllib.parse import quote, unquote

BY_LANGUAGE: Final = "by_language"
_MEANING: Final = re.compile(r"[%&=+,@\s]")  # characters that mean something in a variant's name

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "normalize": ("none", "redpajama"),
    "ngrams": ("gopher", "redpajama"),
    "comments": ("guess", "hash", "slashes", "dashes"),
}


@dataclass(frozen=True)
class SignalOptions:
    """What the definitions of some signals leave open; each signal depends on few of these.

    - `words`: a kind of words.py, or `wordpunct`: runs of letters, numbers and underscores, and of other
      characters but white space (NLTK's WordPunctTokenizer).
    - `normalize`: `redpajama` measures the text without ASCII punctuation, in lower case, in NFD.
    - `ngrams`: how repeated n-grams are counted, see ngrams.py.
    - `stop_words`: compared as they are written; or `by_language`: those of the record's `lang`, and
      null where there are none.
    - `bullets`: characters that open an item of a list; Rae et al. name none, datatrove takes "•" and "-",
      Dolma "*" and "-".
    - `short_line`: the most characters of a short line. `few_words`: the most words of a line of few words.
    - `uppercase_line`, `numeric_line`: a line is upper-case or numeric if more than this share of it is.
      RefinedWeb (arXiv:2306.01116, appendix G.2) gives no number; these are ours.
    - `c4_min_line_words`, `c4_max_word_length`: C4 drops lines of fewer words, and those with a longer word;
      5 and 1000 in c4_utils.py, 3 and 1000 in datatrove.
    - `comments`: what opens a comment in source code, see comments.py.

    Raises ValueError for a value that cannot be.
    """

    words: str = "whitespace"
    normalize: str = "none"
    ngrams: str = "gopher"
    stop_words: tuple[str, ...] | str = ("the", "be", "to", "of", "and", "that", "have", "with")
    bullets: str = "•*-"
    short_line: int = 30
    few_words: int = 1
    uppercase_line: float = 0.5
    numeric_line: float = 0.5
    c4_min_line_words: int = 5
    c4_max_word_length: int = 1000
    comments: str = "guess"

    def __post_init__(self) -> None:
        for name, value in _values(self).items():
            if problem := problem_of(name, value):
                raise ValueError(f"{name}: {problem}")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> SignalOptions:
        """The options that a job gives, lists as tuples. Raises ValueError, TypeError for an unknown name."""
        arguments: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        return cls(**arguments)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that these options need beside the signal's own."""
        return ("lang",) if self.stop_words == BY_LANGUAGE else ()

    def canonical(self, name: str) -> Any:
        """The value of an option in a form that two equal choices share."""
        value = getattr(self, name)
        if isinstance(value, tuple):
            return tuple(sorted(set(value)))
        if name == "bullets":
            return "".join(sorted(set(value)))
        return value


def _values(options: SignalOptions) -> dict[str, Any]:
    return {field.name: getattr(options, field.name) for field in fields(options)}


def problem_of(name: str, value: Any) -> str:
    """What is wrong with the value of an option, as a job may give it; "" if nothing is.

    Raises KeyError for an option that does not exist.
    """
    default = _defaults()[name]
    if isinstance(value, type(default)) and value == default:
        return ""
    if choices := choices_of(name):
        return "" if value in choices else f'"{value}" is not one of {", ".join(choices)}'
    if name == "stop_words":
        return _stop_words_problem(value)
    if isinstance(default, str):
        return "" if isinstance(value, str) else f'"{value}" is not text'
    if isinstance(value, bool) or not isinstance(value, int | type(default)):
        return f'"{value}" is not a {"whole number" if isinstance(default, int) else "number"}'
    return "" if 0 <= value < 2**31 else f"{value} is not between 0 and 2147483647"


def choices_of(name: str) -> tuple[str, ...]:
    """The words that an option is one of; () for an option that is something else."""
    if name == "words":
        from .text.words import WORD_KINDS

        return (*WORD_KINDS, "wordpunct")
    return _CHOICES.get(name, ())


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in fields(SignalOptions)}


def _stop_words_problem(value: Any) -> str:
    if value == BY_LANGUAGE:
        return ""
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        return f'"{value}" is neither a list of words nor {BY_LANGUAGE}'
    for word in value:
        if not word or word == BY_LANGUAGE or re.search(r"\s", word):
            return f'"{word}" is no word'
    return ""


OPTIONS: Final = tuple(field.name for field in fields(SignalOptions))
DEFAULTS: Final = SignalOptions()


def write_suffix(options: SignalOptions, names: Iterable[str]) -> str:
    """The options among `names` that differ from the defaults, as the end of a column's name; or ""."""
    changed = [name for name in sorted(names) if options.canonical(name) != DEFAULTS.canonical(name)]
    written = "&".join(f"{name}={_written(options.canonical(name))}" for name in changed)
    return f"@{written}" if written else ""


def read_suffix(suffix: str) -> SignalOptions:
    """The options that `write_suffix` wrote, without the "@". Raises ValueError for anything else."""
    given: dict[str, Any] = {}
    for item in suffix.split("&") if suffix else ():
        name, equals, written = item.partition("=")
        if not equals or name not in OPTIONS or name in given:
            raise ValueError(f'"{suffix}" is not the end of a signal\'s name')
        default = getattr(DEFAULTS, name)
        if isinstance(default, tuple) and written != BY_LANGUAGE:
            given[name] = tuple(unquote(word) for word in written.split(",")) if written else ()
        elif isinstance(default, int | float):
            given[name] = type(default)(written)
        else:
            given[name] = unquote(written)
    return SignalOptions(**given)


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_escaped, value))
    return _escaped(value if isinstance(value, str) else repr(value))


def _escaped(text: str) -> str:
    return _MEANING.sub(lambda found: quote(found[0], safe=""), text)
