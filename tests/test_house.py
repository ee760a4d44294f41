"""The structure of the repository: imports run one way, and heavy packages stay out of the way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room may import itself and the rooms to its left.
ORDER = ["schemas", "filters", "scorers", "pipeline", "jobs"]
MAY_IMPORT = {
    "schemas": {"schemas"},
    "filters": {"schemas", "filters"},
    "scorers": {"schemas", "filters", "scorers"},
    "pipeline": {"schemas", "filters", "scorers", "pipeline"},
    "jobs": {"schemas", "filters", "scorers", "pipeline", "jobs"},
}


def modules() -> list[Path]:
    return [path for room in ORDER for path in sorted((ROOT / room).rglob("*.py"))]


def imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module or ""] if node.module else [alias.name for alias in node.names]
            for name in names:
                whole = (*base, *name.split("."))
                if whole and whole[0] in ORDER:
                    yield node.lineno, whole[0]
        elif isinstance(node, ast.ImportFrom | ast.Import):
            whole_names = [alias.name for alias in node.names]
            for name in [node.module or ""] if isinstance(node, ast.ImportFrom) else whole_names:
                assert not name.startswith("thresher"), (
                    f"{path}:{node.lineno} imports its own product absolutely"
                )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for line, other in imported_rooms(path):
        assert other in MAY_IMPORT[room], f"{path}:{line} imports {other} from {room}"


def test_every_package_is_named_in_setup() -> None:
    named = (ROOT / "setup.py").read_text("utf-8")
    for init in (path for room in ORDER for path in (ROOT / room).rglob("__init__.py")):
        package = ".".join(init.parent.relative_to(ROOT).parts)
        assert f'"{package}"' in named, f"setup.py does not name {package}"
