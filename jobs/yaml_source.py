"""A YAML file as plain values with the line of each, and everything that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from ..schemas.plain_yaml import TAG, PlainLoader
from .problems import Path, Problem

TAGS: Final = {TAG + kind for kind in ("null", "bool", "int", "float", "str", "map", "seq")}
MOST_BYTES: Final = 4 << 20
_MOST_NODES: Final = 100_000  # aliases can make a small file grow without end
_DEEPEST: Final = 50


@dataclass
class Document:
    """Plain values, the line of each path in them, and what could not be read."""

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_yaml(text: str | bytes) -> Document:
    """Reads one YAML document; never raises: what is wrong is in `problems`."""
    document = Document()
    if len(text) > MOST_BYTES:
        document.problems.append(Problem((), f"larger than {MOST_BYTES >> 20} MiB; is it a job file?"))
        return document
    try:
        loader = PlainLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = " ".join(part for part in (error.problem, error.context) if part)
        line = mark.line + 1 if mark else None
        document.problems.append(Problem((), f"not valid YAML: {told}", line=line))
    except yaml.YAMLError as error:
        document.problems.append(Problem((), f"not valid YAML: {' '.join(str(error).split())}"))
    except RecursionError:
        document.problems.append(Problem((), "nested too deeply"))
    except ValueError as error:  # PyYAML lets the errors of chr() and int() out for odd escapes
        document.problems.append(Problem((), f"not valid YAML: {error}"))
    else:
        if node is not None:
            document.value = _Reader(document).read(node, (), ())
    return document


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0
        self._full = False

    def _complain(self, path: Path, node: yaml.Node, message: str) -> None:
        self._document.problems.append(Problem(path, message, line=node.start_mark.line + 1))

    def read(self, node: yaml.Node, path: Path, parents: tuple[int, ...]) -> Any:
        """The plain value of a node; what cannot be read becomes None and a problem."""
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        self._nodes += 1
        if self._full:
            return None
        if self._nodes > _MOST_NODES:
            self._full = True
            self._complain((), node, f"more than {_MOST_NODES} values; do aliases multiply them?")
            return None
        if id(node) in parents or len(parents) > _DEEPEST:
            self._complain(path, node, "nested too deeply, or an alias that contains itself")
            return None
        if node.tag not in {TAG + name for name in ("null", "bool", "int", "float", "str", "map", "seq")}:
            self._complain(path, node, f"the tag {node.tag.replace(TAG, '!!')} is refused: plain values only")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, (*parents, id(node)))
        if isinstance(node, yaml.SequenceNode):
            inner = (*parents, id(node))
            return [self.read(item, (*path, index), inner) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path, parents: tuple[int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._complain(path, key, "a key must be a word, not a list or mapping")
                continue
            name, line = str(key.value), key.start_mark.line + 1
            if name in first:
                self._complain((*path, name), key, f'"{name}" is given twice, first on line {first[name]}')
                continue
            first[name] = line
            self._document.lines[(*path, name)] = line
            found[name] = self.read(value, (*path, name), parents)
        return found

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text, kind = str(node.value), node.tag.removeprefix(TAG)
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind == "int":
                return int(text.replace("_", ""), 0 if text[:2] in ("0x", "0o") else 10)
            if kind == "float":
                number = float(text.replace("_", ""))
                if abs(number) == float("inf") or number != number:
                    raise ValueError(text)
                return number
        except (ValueError, KeyError):
            self._complain(path, node, f"not a usable {kind}")
            return None
        return text
