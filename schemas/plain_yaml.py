"""Plain values as YAML 1.2: the words that stand for null, booleans and numbers, and nothing else.

Under YAML 1.1, which PyYAML follows, the reserved key `on` and the language code `no` would be booleans
and `5e9` a string.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

TAG: Final = "tag:yaml.org,2002:"
# YAML 1.2.2, section 10.3.2, without .inf and .nan, which no job needs; underscores may group digits.
_RESOLVERS: Final[tuple[tuple[str, str, list[str]], ...]] = (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$",
        list("-+.0123456789"),
    ),
)


class PlainLoader(yaml.SafeLoader):
    """Composes nodes whose tags follow YAML 1.2."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, _pattern, _first in _RESOLVERS:
    for _class in (PlainLoader, _Dumper):
        _class.add_implicit_resolver(TAG + _name, re.compile(_pattern), _first)


def write_yaml(value: Any) -> str:
    """Dicts, lists, strings, finite numbers, booleans and None as YAML that a job file may hold."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    if any(mark in text for mark in "\x85\u2028\u2029\ufeff"):
        # PyYAML writes these breaks and marks as they are, and reads them back as something else.
        text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=100)
    return text
